//! An instance that exists already when a test begins.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::catalog::Kind;
use crate::machine::{Behavior, Facts, Lifecycle, Shape};
use crate::plan::{Market, Plan, PlannedDisk, PlannedInterface};
use crate::region::{KEY_PAIR, ROOT_DEVICE, Region};

/// An instance that exists already: a `g5.xlarge` in `eu-west-1a`, started an hour ago, with the tags `Name` and
/// `respot` = `managed`, unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) zone: String,
    pub(crate) started_ms_ago: i64,
    pub(crate) is_pending: bool,
    pub(crate) cpu: Option<f64>,
    pub(crate) gpu_load: Option<f64>,
    kind: String,
    lifecycle: Lifecycle,
    persistent: Option<Behavior>,
    max_price: Option<String>,
    tags: BTreeMap<String, String>,
    volumes: Vec<(String, u32, bool)>,
    root_gib: u32,
    public_address: Option<bool>,
    user_data: Option<String>,
    groups: Vec<String>,
    image: Option<String>,
    token: Option<String>,
    facts: Facts,
}

impl Spec {
    fn new(name: &str, lifecycle: Lifecycle) -> Self {
        let tags = [("Name", name), ("respot", "managed")];
        let mut facts = Facts::plain(String::new(), Vec::new());
        facts.key = Some(KEY_PAIR.to_owned());
        if lifecycle == Lifecycle::Spot {
            facts.shutdown_behavior = "terminate".to_owned();
        }
        Self {
            zone: "eu-west-1a".to_owned(),
            started_ms_ago: 3_600_000,
            is_pending: false,
            cpu: None,
            gpu_load: None,
            kind: "g5.xlarge".to_owned(),
            lifecycle,
            persistent: None,
            max_price: None,
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            volumes: Vec::new(),
            root_gib: 100,
            public_address: None,
            user_data: None,
            groups: Vec::new(),
            image: None,
            token: None,
            facts,
        }
    }

    /// A running spot instance with a one-time request.
    #[must_use]
    pub fn spot(name: &str) -> Self {
        Self::new(name, Lifecycle::Spot)
    }

    /// A running on-demand instance.
    #[must_use]
    pub fn on_demand(name: &str) -> Self {
        Self::new(name, Lifecycle::OnDemand)
    }

    /// Its type.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }

    /// Its zone.
    #[must_use]
    pub fn zone(mut self, zone: &str) -> Self {
        zone.clone_into(&mut self.zone);
        self
    }

    /// One more tag.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The token that it was launched with.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Without this tag.
    #[must_use]
    pub fn without_tag(mut self, key: &str) -> Self {
        self.tags.remove(key);
        self
    }

    /// Its user data, as text.
    #[must_use]
    pub fn user_data(mut self, text: &str) -> Self {
        self.user_data = Some(BASE64_STANDARD.encode(text));
        self
    }

    /// Its spot request is persistent, with this behavior at an interruption: `stop`, `hibernate` or `terminate`.
    #[must_use]
    pub fn persistent(mut self, behavior: &str) -> Self {
        self.persistent = Some(behavior.into());
        self
    }

    /// The maximum price of its spot request.
    #[must_use]
    pub fn max_price(mut self, price: &str) -> Self {
        self.max_price = Some(price.to_owned());
        self
    }

    /// One more volume.
    #[must_use]
    pub fn volume(mut self, device: &str, gib: u32, delete_on_termination: bool) -> Self {
        self.volumes.push((device.to_owned(), gib, delete_on_termination));
        self
    }

    /// The size of its root volume.
    #[must_use]
    pub fn root_gib(mut self, gib: u32) -> Self {
        self.root_gib = gib;
        self
    }

    /// It was started so long ago.
    #[must_use]
    pub fn started_ms_ago(mut self, ms: i64) -> Self {
        self.started_ms_ago = ms;
        self
    }

    /// It was launched right now and boots.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.is_pending = true;
        self.started_ms_ago = 0;
        self
    }

    /// A service manages it.
    #[must_use]
    pub fn managed_by(mut self, service: &str) -> Self {
        self.facts.managed_by = Some(format!("{service}.amazonaws.com"));
        self
    }

    /// It is hidden from listings that do not ask for managed instances.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.facts.hidden = true;
        self
    }

    /// A service launched it.
    #[must_use]
    pub fn requester(mut self, id: &str) -> Self {
        self.facts.requester = Some(id.to_owned());
        self
    }

    /// Its key pair.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.facts.key = Some(key.to_owned()).filter(|key| !key.is_empty());
        self
    }

    /// The ARN of its instance profile.
    #[must_use]
    pub fn profile(mut self, arn: &str) -> Self {
        self.facts.profile = Some(arn.to_owned());
        self
    }

    /// Its image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// One more security group, instead of the default one.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.groups.push(group.to_owned());
        self
    }

    /// Whether it has a public address.
    #[must_use]
    pub fn public_address(mut self, has: bool) -> Self {
        self.public_address = Some(has);
        self
    }

    /// It cannot be terminated by the API.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.facts.protected = true;
        self
    }

    /// It cannot be stopped by the API.
    #[must_use]
    pub fn stop_protected(mut self) -> Self {
        self.facts.stop_protected = true;
        self
    }

    /// How busy its CPU is and was, in percent: exactly, where the default is 20 with a little spread.
    #[must_use]
    pub fn cpu(mut self, percent: f64) -> Self {
        self.cpu = Some(percent);
        self
    }

    /// It has the CloudWatch agent, which tells how busy its GPU is, in percent.
    #[must_use]
    pub fn gpu_load(mut self, percent: f64) -> Self {
        self.gpu_load = Some(percent);
        self
    }

    /// Detailed monitoring is on: its CPU is measured each minute instead of every five minutes.
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.facts.monitoring = true;
        self
    }

    /// What a shutdown from inside does: `stop` or `terminate`.
    #[must_use]
    pub fn shutdown_behavior(mut self, behavior: &str) -> Self {
        behavior.clone_into(&mut self.facts.shutdown_behavior);
        self
    }

    /// Changes facts that have no method of their own.
    #[must_use]
    pub fn facts(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.facts);
        self
    }

    /// # Panics
    /// When there is no such type.
    pub(crate) fn plan(self, region: &Region) -> Plan {
        let kind = Kind::named(&self.kind).expect("an instance type of the catalog");
        let subnet = region.subnet(&self.zone);
        let mut facts = self.facts;
        facts.image = self.image.unwrap_or_else(|| region.image_for(kind));
        facts.groups = self.groups;
        if facts.groups.is_empty() {
            facts.groups.extend(region.groups.first().map(|(id, _)| id.clone()));
        }
        if kind.burstable && facts.credits.is_none() {
            facts.credits = Some("unlimited".to_owned());
        }
        let root = PlannedDisk {
            device: ROOT_DEVICE.to_owned(),
            shape: Shape { snapshot: Some(Region::snapshot_of(&facts.image)), ..encrypted(self.root_gib, region) },
            delete_on_termination: true,
        };
        let others = self.volumes.into_iter().map(|(device, gib, delete_on_termination)| PlannedDisk {
            device,
            shape: encrypted(gib, region),
            delete_on_termination,
        });
        let interface = PlannedInterface {
            index: 0,
            subnet: subnet.clone(),
            groups: facts.groups.clone(),
            public: self.public_address.unwrap_or_default(),
            address: None,
            delete_on_termination: true,
            description: String::new(),
        };
        let market = match self.lifecycle {
            Lifecycle::OnDemand => Market::OnDemand,
            Lifecycle::Spot => Market::Spot {
                persistent: self.persistent.is_some(),
                behavior: self.persistent.unwrap_or(Behavior::Terminate),
                max_price: self.max_price,
            },
        };
        Plan {
            kind: self.kind,
            zone: self.zone,
            subnet,
            market,
            facts,
            user_data: self.user_data,
            client_token: self.token,
            tags: self.tags,
            volume_tags: BTreeMap::new(),
            request_tags: BTreeMap::new(),
            disks: std::iter::once(root).chain(others).collect(),
            interfaces: vec![interface],
        }
    }
}

fn encrypted(gib: u32, region: &Region) -> Shape {
    Shape {
        gib,
        kind: "gp3".to_owned(),
        iops: Some(3_000),
        throughput: Some(125),
        encrypted: true,
        kms_key: Some(region.kms_key.clone()),
        snapshot: None,
    }
}
