//! A mixed fleet, as an account that has been used for months would show it.

use crate::app::App;
use crate::machine::{DAY_MS, Fate, JobRow, Spec, Volume};
use crate::metrics::Load;
use crate::wire::quirk;
use crate::world::{DAWN_MS, World};

/// What is in a fleet, with how many of a hundred.
const MIX: &[(u32, Kind)] = &[
    (40, Kind::Running),
    (10, Kind::Reclaimed),
    (5, Kind::ReclaimedBlank),
    (6, Kind::UserStopped),
    (10, Kind::OnDemand),
    (4, Kind::OnDemandExited),
    (4, Kind::Monthly),
    (3, Kind::Unstated),
    (3, Kind::Migrating),
    (3, Kind::Stuck),
    (2, Kind::Pulling),
    (3, Kind::Notified),
    (2, Kind::Removing),
    (2, Kind::Leftover),
    (2, Kind::OddName),
    (1, Kind::UnknownStatus),
];

#[derive(Clone, Copy)]
enum Kind {
    Running,
    Reclaimed,
    ReclaimedBlank,
    UserStopped,
    OnDemand,
    OnDemandExited,
    Monthly,
    Unstated,
    Migrating,
    Stuck,
    Pulling,
    Notified,
    Removing,
    Leftover,
    OddName,
    UnknownStatus,
}

const NAMES: &[&str] = &["train", "infer", "render", "eval", "sweep", "notebook"];

/// Names that break tables, terminals and logs.
const ODD_NAMES: &[&str] = &[
    "\u{1f680} rocket \u{1f468}\u{200d}\u{1f4bb}",
    "模型-訓練",
    "tab\there and \u{1b}[31mred\u{1b}[0m",
    "quote \" backslash \\ newline \n end",
    "",
    " padded ",
    "--dry-run",
];

/// Products that are sold as spot, and a cluster that has them.
const PLACES: [(&str, &str); 5] = [
    ("4090.16c62g", "us-xx-1"),
    ("4090.16c62g", "eu-xx-2"),
    ("4090.12c50g.v2", "us-xx-1"),
    ("a100.32c120g", "ap-xx-1"),
    ("l40s.16c80g", "eu-xx-2"),
];

impl World {
    /// A fleet of `n` instances: mostly healthy spot instances, some reclaimed, some stopped by their users, other
    /// billing modes, everything in between, odd names and rows that take liberties. From 16 instances on, each kind
    /// occurs. Names are `train-0` and so on, so that a failing test can be read.
    #[must_use]
    pub fn fleet(seed: u64, n: usize) -> Self {
        // The migrations under way were asked for a moment ago, so that listings show their jobs.
        let mut world = Self::new(seed);
        let moment = world.rules().visible_after_ms;
        world = world.starting_at(DAWN_MS - moment);
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xf1ee7);
        for number in 0..n {
            let kind = match MIX.get(number) {
                Some((_, kind)) => *kind,
                None => draw(&mut rng),
            };
            let spec = spec(kind, number, &mut rng);
            let id = world.add(spec);
            if matches!(kind, Kind::Migrating) {
                world.put_into_migration(&id);
            } else if rng.u32(..20) == 0 {
                world.add_old_job(&id, &mut rng);
            }
        }
        world.advance_to(DAWN_MS);
        world
    }

    /// `n` running on-demand instances as somebody has them who wants to move them to spot: `web-0` and so on, each with an
    /// image and an application of its own, of products that are sold as spot where they are. One in ten has a network
    /// volume; most have a steady load.
    #[must_use]
    pub fn on_demand_fleet(seed: u64, n: usize) -> Self {
        let mut world = Self::new(seed);
        world.add_on_demand_fleet(seed, n);
        world
    }

    /// The same, put into a world with others.
    pub fn add_on_demand_fleet(&mut self, seed: u64, n: usize) {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5b07);
        for number in 0..n {
            let (product, cluster) = PLACES[rng.usize(..PLACES.len())];
            let app = App::http(8080).base_us(rng.u64(5..80) * 1_000).jitter_us(500).boot_ms(5_000);
            let steady = Load::Stable(rng.u32(20..90));
            let load = match rng.u32(..6) {
                0 => Load::Variable { low: 10, high: rng.u32(40..90), period_ms: 3_600_000 },
                1 => Load::Burst { idle: 3, peak: rng.u32(60..100), every_ms: 1_800_000, for_ms: 300_000 },
                _ => steady,
            };
            let spec = Spec::running(&format!("web-{number}"))
                .billing("onDemand")
                .image(&format!("registry.example/team/web-{number}:1.0"))
                .product(product, 1 << rng.u32(..3))
                .cluster(cluster)
                .started_ago_ms(rng.i64(DAY_MS..40 * DAY_MS))
                .load(load)
                .app(app);
            let has_volume = number % 10 == 9;
            self.add(if has_volume { spec.network_volume(&format!("web-vol-{number}"), "/network") } else { spec });
        }
    }

    /// A migration that is under way, as if somebody had just asked for it.
    fn put_into_migration(&mut self, id: &str) {
        if let Some(slot) = self.slot(id) {
            self.migrate(slot);
        }
    }

    fn add_old_job(&mut self, id: &str, rng: &mut fastrand::Rng) {
        let created_at = self.now_ms() - rng.i64(DAY_MS / 4..3 * DAY_MS);
        let kinds = ["instanceMigrate", "autoInstanceMigrate", "saveImage", "newKindOfJob"];
        let state = if rng.u32(..10) == 0 { "break" } else { "success" };
        self.add_job(JobRow {
            kind: kinds[rng.usize(..kinds.len())].into(),
            quirks: rng.u32(..) & rng.u32(..) & quirk::ALL,
            ..JobRow::migration(id, state, created_at)
        });
    }
}

fn draw(rng: &mut fastrand::Rng) -> Kind {
    let mut left = rng.u32(..100);
    for (weight, kind) in MIX {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return *kind,
        }
    }
    Kind::Running
}

fn spec(kind: Kind, number: usize, rng: &mut fastrand::Rng) -> Spec {
    let name = format!("{}-{number}", NAMES[rng.usize(..NAMES.len())]);
    let ago = rng.i64(60_000..DAY_MS / 2);
    let spec = match kind {
        Kind::Running => Spec::running(&name),
        Kind::Reclaimed => Spec::reclaimed(&name, ago).with(|machine| machine.node_taken = true),
        Kind::ReclaimedBlank => Spec::exited(&name).stopped_ago_ms(ago),
        Kind::UserStopped => Spec::exited(&name).stopped_ago_ms(rng.i64(60_000..DAY_MS / 2)),
        Kind::OnDemand => Spec::running(&name).billing("onDemand"),
        Kind::OnDemandExited => Spec::exited(&name).billing("onDemand"),
        Kind::Monthly => Spec::running(&name).billing("monthly"),
        Kind::Unstated => Spec::exited(&name).billing(""),
        Kind::Migrating => Spec::exited(&name).fate(Fate::Succeeds),
        Kind::Stuck => Spec::stuck(&name, ago),
        Kind::Pulling => Spec::running(&name).status("pulling"),
        Kind::Notified => Spec::running(&name).notified(rng.i64(60_000..3_600_000)),
        Kind::Removing => Spec::exited(&name).status("removing"),
        Kind::Leftover => Spec::exited(&name).billing("").status("removed").with(|machine| {
            machine.product_name = None;
            machine.product_id.clear();
        }),
        Kind::OddName if rng.u32(..8) == 0 => Spec::exited(&"long-".repeat(51)),
        Kind::OddName => Spec::exited(ODD_NAMES[rng.usize(..ODD_NAMES.len())]),
        Kind::UnknownStatus => Spec::running(&name).status("hibernated"),
    };
    // Most rows are as the sheet prints them, the others take two or three liberties.
    let quirks = rng.u32(..) & rng.u32(..) & quirk::ALL;
    let quirks = match kind {
        Kind::Leftover if rng.bool() => quirk::NULL,
        _ if rng.u32(..3) == 0 => quirks,
        _ => 0,
    };
    let (product, cluster) = PLACES[rng.usize(..PLACES.len())];
    let (gpus, has_volume) = (1 << rng.u32(..4), rng.u32(..5) == 0);
    let spec = if matches!(kind, Kind::Leftover) { spec } else { spec.product(product, gpus).cluster(cluster) };
    let spec = spec.quirks(quirks).env("API_TOKEN", &format!("env-secret-{number}"));
    spec.started_ago_ms(rng.i64(DAY_MS..40 * DAY_MS)).with(|machine| {
        if rng.bool() {
            machine.ports.push((2222, "tcp".into()));
        }
        if has_volume {
            let id = format!("vol-{number}");
            machine.volumes.push(Volume { kind: "network".into(), id, size: 100, mount_path: "/network".into() });
        }
    })
}
