//! What the world is made of: instances (here called machines, so that they are not taken for the client's own type),
//! jobs, products and clusters; and [`Spec`], which describes a machine for a test.

use crate::app::{App, AppKind};
use crate::metrics::Load;

/// One instance, with everything the wire says about it. Times are Unix milliseconds, 0 where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its id; given by the world if the spec left it empty.
    pub id: String,
    /// Its name; anything.
    pub name: String,
    /// The provider's word (fact sheet, section 4.1); unknown ones are allowed.
    pub status: String,
    /// `spot`, `onDemand`, `monthly` or "".
    pub billing_mode: String,
    /// `""`, `notified`, `reclaiming`, `terminated`.
    pub spot_status: String,
    /// When it is, or was, to be reclaimed.
    pub spot_reclaim_at: i64,
    /// The cluster it is in.
    pub cluster_id: String,
    /// The cluster's name; filled in by the world if the spec left it empty.
    pub cluster_name: String,
    /// Its product, by id.
    pub product_id: String,
    /// The product's name; leftover rows have none.
    pub product_name: Option<String>,
    /// GPUs.
    pub gpu_num: u32,
    /// CPUs.
    pub cpu_num: u32,
    /// Memory in GB.
    pub memory: u32,
    /// Container disk in GB.
    pub rootfs_size: u32,
    /// Image.
    pub image_url: String,
    /// The id of the registry credentials, or "".
    pub image_auth_id: String,
    /// Command, or "".
    pub command: String,
    /// Entrypoint, or "".
    pub entrypoint: String,
    /// Ports and their type, `http` or `tcp`.
    pub ports: Vec<(u16, String)>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// The private network it is in, or "". GET shows it, listings do not.
    pub network_id: String,
    /// Environment: a client must not log it.
    pub envs: Vec<(String, String)>,
    /// `gpu` or `cpu`.
    pub kind: String,
    /// When it was created.
    pub created_at: i64,
    /// When it first came up. The wire does not show it; a test can tell by it what was ever of use to anybody.
    pub first_ran_at: i64,
    /// When it last started.
    pub last_started_at: i64,
    /// When it last stopped.
    pub last_stopped_at: i64,
    /// What happens when somebody migrates it.
    pub fate: Fate,
    /// Whether its node's GPU was given away while it was stopped: start is refused, migrate is not.
    pub node_taken: bool,
    /// What it costs per GPU and hour in 1/100000 USD, from its creation on; 0 if nobody knows.
    pub price: u32,
    /// What it is busy with.
    pub load: Load,
    /// Which liberties its row takes on the wire; 0 is a row as the sheet prints it. See `wire.rs`.
    pub quirks: u32,
}

impl Machine {
    /// Whether it is there to stay: not going, not gone.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.status.as_str(), "toRemove" | "removing" | "removed")
    }
}

/// A volume of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// `network` or `local`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// In GB.
    pub size: u32,
    /// Where it is mounted.
    pub mount_path: String,
}

/// What happens when somebody migrates a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// As the world's rules have it.
    #[default]
    Seeded,
    /// The job succeeds.
    Succeeds,
    /// The job fails and the machine stays `migrating`.
    FailsStuck,
    /// The job fails and the machine is `exited` again.
    FailsBack,
    /// The job runs for ever.
    NeverEnds,
    /// Refused: no stock.
    NoStock,
}

/// Describes a machine. Begins as a row by the sheet; what is not said is made up by the world from its seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub(crate) machine: Machine,
    pub(crate) started_ago_ms: i64,
    pub(crate) stopped_ago_ms: Option<i64>,
    pub(crate) reclaim_in_ms: Option<i64>,
    pub(crate) failed_migration_ago_ms: Option<i64>,
    pub(crate) apps: Vec<App>,
}

/// One day, how long a made-up machine has been there.
pub(crate) const DAY_MS: i64 = 86_400_000;

impl Spec {
    /// A running spot instance.
    #[must_use]
    pub fn running(name: &str) -> Self {
        Self {
            machine: Machine {
                id: String::new(),
                name: name.to_owned(),
                status: "running".into(),
                billing_mode: "spot".into(),
                spot_status: String::new(),
                spot_reclaim_at: 0,
                cluster_id: "us-xx-1".into(),
                cluster_name: String::new(),
                product_id: "4090.16c62g".into(),
                product_name: Some("RTX 4090 24GB".into()),
                gpu_num: 1,
                cpu_num: 16,
                memory: 62,
                rootfs_size: 60,
                image_url: "registry.example/team/app:1.4".into(),
                image_auth_id: String::new(),
                command: String::new(),
                entrypoint: String::new(),
                ports: vec![(8080, "http".into())],
                volumes: Vec::new(),
                network_id: String::new(),
                envs: vec![("MODE".into(), "batch".into())],
                kind: "gpu".into(),
                created_at: 0,
                first_ran_at: 0,
                last_started_at: 0,
                last_stopped_at: 0,
                fate: Fate::Seeded,
                node_taken: false,
                price: 0,
                load: Load::default(),
                quirks: 0,
            },
            started_ago_ms: DAY_MS,
            stopped_ago_ms: None,
            reclaim_in_ms: None,
            failed_migration_ago_ms: None,
            apps: Vec::new(),
        }
    }

    /// A spot instance that is down, and nothing on the wire says why.
    #[must_use]
    pub fn exited(name: &str) -> Self {
        Self::running(name).status("exited").stopped_ago_ms(600_000)
    }

    /// A spot instance that was reclaimed so long ago and still shows it.
    #[must_use]
    pub fn reclaimed(name: &str, ago_ms: i64) -> Self {
        let mut spec = Self::exited(name).stopped_ago_ms(ago_ms);
        spec.machine.spot_status = "terminated".into();
        spec.reclaim_in_ms = Some(-ago_ms);
        spec
    }

    /// A spot instance whose migration failed so long ago: it is `migrating` for ever, and the job says `fail`.
    #[must_use]
    pub fn stuck(name: &str, failed_ago_ms: i64) -> Self {
        let mut spec = Self::exited(name).status("migrating").stopped_ago_ms(failed_ago_ms + 600_000);
        spec.failed_migration_ago_ms = Some(failed_ago_ms);
        spec
    }

    /// Its id, instead of one from the seed.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.machine.id = id.to_owned();
        self
    }

    /// Its status, whatever it is.
    #[must_use]
    pub fn status(mut self, status: &str) -> Self {
        self.machine.status = status.to_owned();
        self
    }

    /// Its billing mode; "" is a row that does not say.
    #[must_use]
    pub fn billing(mut self, mode: &str) -> Self {
        self.machine.billing_mode = mode.to_owned();
        self
    }

    /// When it started, before the world's now.
    #[must_use]
    pub fn started_ago_ms(mut self, ago: i64) -> Self {
        self.started_ago_ms = ago;
        self
    }

    /// When it stopped, before the world's now.
    #[must_use]
    pub fn stopped_ago_ms(mut self, ago: i64) -> Self {
        self.stopped_ago_ms = Some(ago);
        self
    }

    /// It has been told that it is reclaimed so much later; the world will do it.
    #[must_use]
    pub fn notified(mut self, reclaim_in_ms: i64) -> Self {
        self.machine.spot_status = "notified".into();
        self.reclaim_in_ms = Some(reclaim_in_ms);
        self
    }

    /// What happens when somebody migrates it.
    #[must_use]
    pub fn fate(mut self, fate: Fate) -> Self {
        self.machine.fate = fate;
        self
    }

    /// Its cluster, by id.
    #[must_use]
    pub fn cluster(mut self, id: &str) -> Self {
        self.machine.cluster_id = id.to_owned();
        self
    }

    /// Its product, by id, and how many GPUs of it. The world fills in what follows from that.
    #[must_use]
    pub fn product(mut self, id: &str, gpus: u32) -> Self {
        self.machine.product_id = id.to_owned();
        self.machine.gpu_num = gpus;
        self.machine.product_name = Some(String::new());
        (self.machine.cpu_num, self.machine.memory) = (0, 0);
        self
    }

    /// A network volume, which is then in its cluster.
    #[must_use]
    pub fn network_volume(mut self, id: &str, mount_path: &str) -> Self {
        let volume = Volume { kind: "network".into(), id: id.to_owned(), size: 100, mount_path: mount_path.to_owned() };
        self.machine.volumes.push(volume);
        self
    }

    /// A private network, which is then in its cluster.
    #[must_use]
    pub fn network(mut self, id: &str) -> Self {
        self.machine.network_id = id.to_owned();
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.machine.envs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What it is busy with.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.machine.load = load;
        self
    }

    /// Its image.
    #[must_use]
    pub fn image(mut self, url: &str) -> Self {
        self.machine.image_url = url.to_owned();
        self
    }

    /// An application in its image, on a port that it exposes: every machine of the same image runs it, what is created
    /// later as well. Two applications on one port need two images.
    #[must_use]
    pub fn app(mut self, app: App) -> Self {
        if !self.machine.ports.iter().any(|(port, _)| *port == app.port) {
            let kind = if app.kind == AppKind::Http { "http" } else { "tcp" };
            self.machine.ports.push((app.port, kind.into()));
        }
        self.apps.push(app);
        self
    }

    /// Which liberties its row takes on the wire, a set of bits; 0 for none.
    #[must_use]
    pub fn quirks(mut self, quirks: u32) -> Self {
        self.machine.quirks = quirks;
        self
    }

    /// Anything else.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Machine)) -> Self {
        change(&mut self.machine);
        self
    }
}

/// One of the provider's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub id: String,
    /// `instanceMigrate`, `autoInstanceMigrate`, `saveImage`.
    pub kind: String,
    /// The provider's word; unknown ones are allowed.
    pub state: String,
    /// A machine-readable word for the failure, or "".
    pub error: String,
    /// A text for people about the failure, or "".
    pub error_message: String,
    /// The instance it works on.
    pub instance_id: String,
    /// When it was made, Unix milliseconds.
    pub created_at: i64,
    /// When listings begin to show it.
    pub visible_at: i64,
    /// Which liberties its row takes on the wire; 0 is a row as the sheet prints it.
    pub quirks: u32,
}

impl JobRow {
    /// A migration by the sheet, listed from its beginning on. One that failed says why.
    #[must_use]
    pub fn migration(instance_id: &str, state: &str, created_at: i64) -> Self {
        let mut job = Self {
            id: String::new(),
            kind: "instanceMigrate".into(),
            state: state.to_owned(),
            error: String::new(),
            error_message: String::new(),
            instance_id: instance_id.to_owned(),
            created_at,
            visible_at: created_at,
            quirks: 0,
        };
        if state == "fail" {
            job.fail();
        }
        job
    }

    pub(crate) fn fail(&mut self) {
        self.state = "fail".into();
        self.error = "MIGRATE_FAILED".into();
        self.error_message = "image pull failed on the new node".into();
    }

    /// Whether it may still change something.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !matches!(self.state.as_str(), "success" | "fail" | "break")
    }
}

/// Something that can be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// CPUs per GPU.
    pub cpu_per_gpu: u32,
    /// Memory per GPU in GB.
    pub memory_per_gpu: u32,
    /// The largest container disk in GB.
    pub max_rootfs: u32,
    /// The clusters that have it, by id; empty for all.
    pub clusters: Vec<String>,
    /// Price per GPU-hour in 1/100000 USD.
    pub price: u32,
    /// The same for spot; `None` if it is not sold as spot.
    pub spot_price: Option<u32>,
    /// GPUs left; a create and a migrate take theirs from it. `u32::MAX` never runs out.
    pub stock: u32,
    /// The clusters where nothing is left whatever the stock says, by id.
    pub sold_out_in: Vec<String>,
    /// Whether none is left for spot, while other billing modes may have it.
    pub spot_sold_out: bool,
    /// Whether the product list claims plenty, whatever is left: creates and migrations are refused all the same.
    pub hint_lies: bool,
}

impl Product {
    /// Whether a cluster has it.
    #[must_use]
    pub fn is_in(&self, cluster: &str) -> bool {
        self.clusters.is_empty() || self.clusters.iter().any(|id| id == cluster)
    }

    /// What one GPU costs per hour in a billing mode, in 1/100000 USD.
    #[must_use]
    pub fn price_as(&self, billing_mode: &str) -> u32 {
        if billing_mode == "spot" { self.spot_price.unwrap_or(self.price) } else { self.price }
    }

    /// GPUs left in a cluster for a billing mode.
    #[must_use]
    pub fn left_for(&self, billing_mode: &str, cluster: &str) -> u32 {
        if self.spot_sold_out && billing_mode == "spot" { 0 } else { self.left_in(cluster) }
    }

    /// GPUs left in a cluster.
    #[must_use]
    pub fn left_in(&self, cluster: &str) -> u32 {
        let is_sold_out = self.sold_out_in.iter().any(|id| id == cluster);
        if self.is_in(cluster) && !is_sold_out { self.stock } else { 0 }
    }
}

/// A data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id, for example `us-xx-1`.
    pub id: String,
    /// Its name, for example `US-XX-01`; a product's regions add a place behind it.
    pub name: String,
    /// Whether network volumes exist there.
    pub network_storage: bool,
}

pub(crate) fn default_products() -> Vec<Product> {
    let product = |id: &str, name: &str, cpu, memory, price, spot_price, clusters: &[&str]| Product {
        id: id.into(),
        name: name.into(),
        cpu_per_gpu: cpu,
        memory_per_gpu: memory,
        max_rootfs: 200,
        clusters: clusters.iter().map(|&id| id.to_owned()).collect(),
        price,
        spot_price,
        stock: u32::MAX,
        sold_out_in: Vec::new(),
        spot_sold_out: false,
        hint_lies: false,
    };
    vec![
        product("4090.16c62g", "RTX 4090 24GB", 16, 62, 67_000, Some(33_500), &["us-xx-1", "eu-xx-2"]),
        product("4090.12c50g.v2", "RTX 4090 24GB", 12, 50, 61_000, Some(30_500), &["us-xx-1"]),
        product("a100.32c120g", "A100 80GB", 32, 120, 160_000, Some(80_000), &["us-xx-1", "ap-xx-1"]),
        product("h100.24c200g", "H100 80GB", 24, 200, 250_000, None, &["eu-xx-2"]),
        product("l40s.16c80g", "L40S 48GB", 16, 80, 90_000, Some(45_000), &[]),
    ]
}

pub(crate) fn default_clusters() -> Vec<Cluster> {
    let cluster = |id: &str, name: &str, network_storage| Cluster { id: id.into(), name: name.into(), network_storage };
    vec![
        cluster("us-xx-1", "US-XX-01", true),
        cluster("eu-xx-2", "EU-XX-02", true),
        cluster("ap-xx-1", "AP-XX-01", false),
    ]
}
