//! What exists: instances, their volumes and interfaces.

use std::collections::BTreeMap;
use std::fmt;

use crate::metrics::History;

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It boots.
    Pending,
    /// It runs.
    Running,
    /// It ends.
    ShuttingDown,
    /// It has ended.
    Terminated,
    /// It is about to be stopped.
    Stopping,
    /// It is stopped, and may be started again.
    Stopped,
}

impl State {
    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// The number of the API.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// Whether there is no way back.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How an instance is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// As spot.
    Spot,
    /// On demand.
    OnDemand,
}

/// Who ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// EC2 took it back.
    Reclaim,
    /// Its user, elsewhere: [`crate::World::user_terminates`].
    User,
    /// A shutdown from inside.
    Inside,
    /// It died at its launch.
    LaunchFailure,
    /// A call of this API.
    Api,
}

/// What EC2 does with the instance of a spot request when it wants it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// It is gone.
    Terminate,
    /// It is stopped, and started again when there is room.
    Stop,
    /// The same with its memory; begins at once.
    Hibernate,
}

impl Behavior {
    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Hibernate => "hibernate",
        }
    }
}

impl From<&str> for Behavior {
    /// Everything but `stop` and `hibernate` terminates.
    fn from(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "hibernate" => Self::Hibernate,
            _ => Self::Terminate,
        }
    }
}

/// An instance: everything that is true about it. What the API still tells is less, see [`crate::World::call`].
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// The region it is in.
    pub region: String,
    /// Its state.
    pub state: State,
    /// Its tags; all of them, even when the API has forgotten them.
    pub tags: BTreeMap<String, String>,
    /// Its type.
    pub kind: String,
    /// Its zone.
    pub zone: String,
    /// Its subnet.
    pub subnet: String,
    /// How it is paid for.
    pub lifecycle: Lifecycle,
    /// The token of the call that launched it.
    pub client_token: Option<String>,
    /// Its user data in base64.
    pub user_data: Option<String>,
    /// The spot request that it belongs to.
    pub request: Option<String>,
    /// When it was launched, in Unix milliseconds.
    pub launched_ms: i64,
    /// When it was last started.
    pub started_ms: i64,
    /// When it began to end.
    pub ended_ms: Option<i64>,
    /// When it was terminated.
    pub terminated_ms: Option<i64>,
    /// Who ended it.
    pub ended_by: Option<EndedBy>,
    /// When the notice of an interruption that is under way came.
    pub noticed_ms: Option<i64>,
    /// The code and the message of its state reason.
    pub state_reason: Option<(String, String)>,
    /// The prose about its last change of state.
    pub transition_reason: String,
    /// Everything else.
    pub facts: Facts,
    /// The reservation it was launched in.
    pub reservation: String,
    /// Its volumes.
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
    /// When its row is gone.
    pub row_gone_ms: Option<i64>,
    pub(crate) visible_ms: i64,
    /// When each tag comes and goes.
    pub(crate) tag_times: BTreeMap<String, (i64, i64)>,
    /// Changes with every command, so that what was planned before it does not happen any more.
    pub(crate) epoch: u32,
    /// The code of the reason with which it dies at its launch.
    pub(crate) dies_with: Option<String>,
    /// Its place in the call that launched it.
    pub(crate) launch_index: usize,
    /// When it ran, and how busy it was.
    pub(crate) history: History,
}

impl Instance {
    /// Its tag `Name`, "" if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.tag("Name").unwrap_or_default()
    }

    /// One of its tags.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }

    /// Whether it is pending or running.
    #[must_use]
    pub fn is_living(&self) -> bool {
        matches!(self.state, State::Pending | State::Running)
    }

    /// Whether the API shows it.
    pub(crate) fn is_shown(&self, now: i64) -> bool {
        now >= self.visible_ms && self.row_gone_ms.is_none_or(|gone| now < gone)
    }

    /// The tags that the API still, or already, tells.
    pub(crate) fn shown_tags(&self, now: i64) -> Vec<(&str, &str)> {
        let is_shown = |key: &String| self.tag_times.get(key).is_none_or(|&(from, to)| (from..to).contains(&now));
        self.tags.iter().filter(|(key, _)| is_shown(key)).map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }
}

/// What an instance is made of, besides the plainest facts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The image.
    pub image: String,
    /// The security groups of the primary interface.
    pub groups: Vec<String>,
    /// The key pair.
    pub key: Option<String>,
    /// The ARN of the instance profile.
    pub profile: Option<String>,
    /// Whether detailed monitoring is on.
    pub monitoring: bool,
    /// Whether it is optimized for EBS.
    pub ebs_optimized: bool,
    /// What a shutdown from inside does: `stop` or `terminate`.
    pub shutdown_behavior: String,
    /// Whether it cannot be terminated by the API.
    pub protected: bool,
    /// Whether it cannot be stopped by the API.
    pub stop_protected: bool,
    /// Cores and threads per core, where they are not those of its type.
    pub cpu: Option<(u32, u32)>,
    /// The metadata options.
    pub metadata: Metadata,
    /// `default`, `dedicated` or `host`.
    pub tenancy: String,
    /// The placement group.
    pub placement_group: Option<String>,
    /// Whether it may hibernate.
    pub hibernation: bool,
    /// Whether enclaves are on.
    pub enclave: bool,
    /// `default` or `disabled`.
    pub auto_recovery: String,
    /// `standard` or `unlimited`, for types with CPU credits.
    pub credits: Option<String>,
    /// The service that manages it.
    pub managed_by: Option<String>,
    /// Whether it is hidden from listings that do not ask for managed ones.
    pub hidden: bool,
    /// The service that launched it.
    pub requester: Option<String>,
}

/// The metadata options of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `required` or `optional`.
    pub tokens: String,
    /// How many hops an answer may go.
    pub hop_limit: u32,
    /// `enabled` or `disabled`.
    pub endpoint: String,
    /// `enabled` or `disabled`.
    pub ipv6: String,
    /// `enabled` or `disabled`.
    pub tags: String,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            tokens: "required".into(),
            hop_limit: 2,
            endpoint: "enabled".into(),
            ipv6: "disabled".into(),
            tags: "disabled".into(),
        }
    }
}

/// A volume as an instance has it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// For example `/dev/xvda`.
    pub device: String,
    /// The volume.
    pub volume: String,
    /// Whether the volume goes with the instance.
    pub delete_on_termination: bool,
    /// When it was attached.
    pub attached_ms: i64,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its id.
    pub id: String,
    /// The region it is in.
    pub region: String,
    /// The zone it is in.
    pub zone: String,
    /// What it is made of.
    pub shape: Shape,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_ms: i64,
    /// The instance it is attached to.
    pub attached_to: Option<String>,
    /// Whether it is gone.
    pub is_deleted: bool,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The size in GiB.
    pub gib: u32,
    /// For example `gp3`.
    pub kind: String,
    /// Operations per second, for types that have them.
    pub iops: Option<u32>,
    /// MiB per second, for `gp3`.
    pub throughput: Option<u32>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key it is encrypted with.
    pub kms_key: Option<String>,
    /// The snapshot it was made from.
    pub snapshot: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its id.
    pub id: String,
    /// The id of its attachment.
    pub attachment: String,
    /// Its place; 0 is the primary one.
    pub index: u32,
    /// Its subnet.
    pub subnet: String,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Its private address.
    pub address: String,
    /// Its public address.
    pub public_address: Option<String>,
    /// Whether it gets a public address at every start.
    pub public_at_start: bool,
    /// Its hardware address.
    pub mac: String,
    /// Whether it goes with the instance.
    pub delete_on_termination: bool,
    /// Whether it drops what is not its own.
    pub source_dest_check: bool,
    /// A text about it.
    pub description: String,
    /// When it was attached.
    pub attached_ms: i64,
}
