//! What is to be launched, whoever asked for it: a test, a call, or a persistent request.

use std::collections::BTreeMap;

use crate::machine::{Behavior, Facts, Lifecycle, Metadata, Shape};

/// What is to be launched.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: String,
    pub(crate) zone: String,
    pub(crate) subnet: String,
    pub(crate) market: Market,
    pub(crate) facts: Facts,
    pub(crate) user_data: Option<String>,
    pub(crate) client_token: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) volume_tags: BTreeMap<String, String>,
    pub(crate) request_tags: BTreeMap<String, String>,
    pub(crate) disks: Vec<PlannedDisk>,
    pub(crate) interfaces: Vec<PlannedInterface>,
}

/// How it is to be paid for.
#[derive(Clone, Debug)]
pub(crate) enum Market {
    OnDemand,
    Spot { persistent: bool, behavior: Behavior, max_price: Option<String> },
}

impl Market {
    pub(crate) fn lifecycle(&self) -> Lifecycle {
        match self {
            Self::OnDemand => Lifecycle::OnDemand,
            Self::Spot { .. } => Lifecycle::Spot,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PlannedDisk {
    pub(crate) device: String,
    pub(crate) shape: Shape,
    pub(crate) delete_on_termination: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct PlannedInterface {
    pub(crate) index: u32,
    pub(crate) subnet: String,
    pub(crate) groups: Vec<String>,
    pub(crate) public: bool,
    pub(crate) address: Option<String>,
    pub(crate) delete_on_termination: bool,
    pub(crate) description: String,
}

impl Facts {
    /// The facts of a launch that says nothing but the image.
    pub(crate) fn plain(image: String, groups: Vec<String>) -> Self {
        Self {
            image,
            groups,
            key: None,
            profile: None,
            monitoring: false,
            ebs_optimized: false,
            shutdown_behavior: "stop".into(),
            protected: false,
            stop_protected: false,
            cpu: None,
            metadata: Metadata::default(),
            tenancy: "default".into(),
            placement_group: None,
            hibernation: false,
            enclave: false,
            auto_recovery: "default".into(),
            credits: None,
            managed_by: None,
            hidden: false,
            requester: None,
        }
    }
}
