//! A region: its zones and network, its prices, its room and its quotas.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{KINDS, Kind};
use crate::machine::Lifecycle;

/// The account that everything belongs to.
pub const ACCOUNT: &str = "111122223333";

/// The key pair that every region has.
pub const KEY_PAIR: &str = "ops";

/// The instance profile that the account has; [`crate::Spec::profile`] adds others.
pub const PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/gpu-worker";

/// What the root device of the images is called, and how many GiB it has at least.
pub const ROOT_DEVICE: &str = "/dev/xvda";
/// The size of the root snapshot of the images, in GiB.
pub const ROOT_GIB: u32 = 8;

/// A region.
#[derive(Clone, Debug)]
pub struct Region {
    /// For example `eu-west-1`.
    pub name: String,
    /// Its zones, each with one subnet.
    pub zones: Vec<Zone>,
    /// Its only VPC.
    pub vpc: String,
    /// The security groups: id and name. The first one is the default.
    pub groups: Vec<(String, String)>,
    /// The image for `x86_64`.
    pub image: String,
    /// The image for `arm64`.
    pub image_arm: String,
    /// The key that encrypts volumes when no other is named.
    pub kms_key: String,
    /// Places left, by market, type and zone; what is not in it has no limit.
    pub(crate) room: BTreeMap<(Lifecycle, String, String), u32>,
    /// vCPUs, by market and group.
    pub(crate) quotas: BTreeMap<(Lifecycle, String), u32>,
    /// The changes of the spot price, by type and zone, oldest first.
    pub(crate) prices: BTreeMap<(String, String), Vec<(i64, String)>>,
    pub(crate) on_demand: BTreeMap<(String, String), String>,
    pub(crate) disrupted: BTreeSet<String>,
}

/// A zone with its subnet.
#[derive(Clone, Debug)]
pub struct Zone {
    /// For example `eu-west-1a`.
    pub name: String,
    /// For example `euw1-az2`.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its addresses.
    pub cidr: String,
    /// Addresses left in the subnet.
    pub free_addresses: u32,
    /// Whether instances in the subnet get a public address unless they say otherwise.
    pub public_by_default: bool,
    /// The second and the third number of its first address.
    octets: (usize, usize),
    given: usize,
}

impl Zone {
    /// An address that nobody ever had.
    pub(crate) fn next_address(&mut self) -> String {
        let (second, third) = self.octets;
        let place = self.given;
        self.given += 1;
        format!("10.{second}.{}.{}", third + place / 240 % 16, 10 + place % 240)
    }
}

impl Region {
    /// The `number`th region of a world. Its ids carry the number as a letter, so that one can read them.
    pub(crate) fn new(name: &str, number: usize, now: i64) -> Self {
        let letter = ["a", "b", "c", "d", "e", "f"].get(number).copied().unwrap_or("9");
        let id = |prefix: &str, last: &str| format!("{prefix}-0{}00000000000{last}", letter.repeat(4));
        let zones =
            ["a", "b", "c"].into_iter().zip([2, 3, 1]).enumerate().map(|(place, (zone, number_of_zone))| Zone {
                name: format!("{name}{zone}"),
                id: format!("{}-az{number_of_zone}", short_name(name)),
                subnet: id("subnet", zone),
                cidr: format!("10.{number}.{}.0/20", place * 16),
                octets: (number, place * 16),
                given: 0,
                free_addresses: 4_091,
                public_by_default: false,
            });
        let mut region = Self {
            name: name.to_owned(),
            zones: zones.collect(),
            vpc: id("vpc", "1"),
            groups: vec![(id("sg", "1"), "default".to_owned()), (id("sg", "2"), "gpu".to_owned())],
            image: id("ami", "1"),
            image_arm: id("ami", "2"),
            kms_key: format!("arn:aws:kms:{name}:{ACCOUNT}:key/11112222-3333-4444-5555-{}", letter.repeat(12)),
            room: BTreeMap::new(),
            quotas: BTreeMap::new(),
            prices: BTreeMap::new(),
            on_demand: BTreeMap::new(),
            disrupted: BTreeSet::new(),
        };
        region.fill_market(now);
        region
    }

    fn fill_market(&mut self, now: i64) {
        for (place, zone) in self.zones.iter().enumerate() {
            for kind in KINDS.iter().filter(|kind| kind.is_sold_in(&zone.name)) {
                let pool = (kind.name.to_owned(), zone.name.clone());
                let dearer = [1.0, 1.043, 0.981].get(place).copied().unwrap_or(1.0);
                let days = |days: i64| now - days * 86_400_000;
                let price = |factor: f64| format!("{:.6}", kind.spot * dearer * factor);
                self.prices.insert(pool.clone(), vec![(days(40), price(0.93)), (days(3), price(1.0))]);
                self.on_demand.insert(pool, kind.on_demand.to_owned());
            }
        }
    }

    /// The zone of this name.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    /// The zone of this subnet.
    #[must_use]
    pub fn zone_of(&self, subnet: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.subnet == subnet)
    }

    /// The subnet of this zone, "" if there is no such zone.
    #[must_use]
    pub fn subnet(&self, zone: &str) -> String {
        self.zone(zone).map(|zone| zone.subnet.clone()).unwrap_or_default()
    }

    /// The image that this type can run.
    #[must_use]
    pub fn image_for(&self, kind: &Kind) -> String {
        if kind.arch == "arm64" { self.image_arm.clone() } else { self.image.clone() }
    }

    /// The architecture of an image, `None` if there is no such image.
    pub(crate) fn arch_of(&self, image: &str) -> Option<&'static str> {
        if image == self.image {
            Some("x86_64")
        } else if image == self.image_arm {
            Some("arm64")
        } else {
            None
        }
    }

    /// The snapshot that an image makes its root device from.
    pub(crate) fn snapshot_of(image: &str) -> String {
        image.replacen("ami-", "snap-", 1)
    }

    /// The price of an hour as spot right now, in US dollars.
    #[must_use]
    pub fn spot_price(&self, kind: &str, zone: &str) -> Option<&str> {
        let changes = self.prices.get(&(kind.to_owned(), zone.to_owned()))?;
        changes.last().map(|(_, price)| price.as_str())
    }

    /// The price of an hour on demand, in US dollars.
    #[must_use]
    pub fn on_demand_price(&self, kind: &str, zone: &str) -> Option<&str> {
        self.on_demand.get(&(kind.to_owned(), zone.to_owned())).map(String::as_str)
    }

    /// Places left; `None` has no limit.
    #[must_use]
    pub fn room(&self, market: Lifecycle, kind: &str, zone: &str) -> Option<u32> {
        self.room.get(&(market, kind.to_owned(), zone.to_owned())).copied()
    }

    /// Takes a place in a pool; whether there was one.
    pub(crate) fn take_room(&mut self, market: Lifecycle, kind: &str, zone: &str) -> bool {
        match self.room.get_mut(&(market, kind.to_owned(), zone.to_owned())) {
            Some(0) => false,
            Some(places) => {
                *places -= 1;
                true
            }
            None => true,
        }
    }

    /// The vCPUs of a quota. The default is more than a test needs.
    pub(crate) fn quota(&self, market: Lifecycle, group: &str) -> u32 {
        self.quotas.get(&(market, group.to_owned())).copied().unwrap_or(1_000_000)
    }

    pub(crate) fn shift(&mut self, by: i64) {
        for (at, _) in self.prices.values_mut().flatten() {
            *at += by;
        }
    }
}

/// `euw1` for `eu-west-1`.
fn short_name(region: &str) -> String {
    let mut parts = region.split('-');
    let area = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    let short = rest.iter().map(|part| match *part {
        "north" => "n",
        "south" => "s",
        "east" => "e",
        "west" => "w",
        "central" => "c",
        "northeast" => "ne",
        "southeast" => "se",
        other => other,
    });
    format!("{area}{}", short.collect::<String>())
}
