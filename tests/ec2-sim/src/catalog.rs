//! What can be rented: the instance types.

/// An instance type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind {
    /// For example `g5.xlarge`.
    pub name: &'static str,
    /// The group of the vCPU quotas it counts in: `G`, `P` or `Standard`.
    pub group: &'static str,
    /// vCPUs.
    pub vcpus: u32,
    /// Threads per core.
    pub threads: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// `x86_64` or `arm64`.
    pub arch: &'static str,
    /// Who made the processor.
    pub maker: &'static str,
    /// The GPU, if there is one.
    pub gpu: Option<Gpu>,
    /// The size of the instance store in GB; 0 if there is none.
    pub store_gb: u32,
    /// The words for the network.
    pub network: &'static str,
    /// Whether it has CPU credits.
    pub burstable: bool,
    /// The letters of the zones where it is sold.
    pub zones: &'static str,
    /// The on-demand price of an hour, in US dollars.
    pub on_demand: &'static str,
    /// A usual spot price of an hour, in US dollars.
    pub spot: f64,
}

/// The GPU of an instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// For example `A10G`.
    pub name: &'static str,
    /// How many.
    pub count: u32,
    /// The memory of each in MiB.
    pub memory_mib: u32,
}

const A10G: Gpu = Gpu { name: "A10G", count: 1, memory_mib: 22_888 };
const L4: Gpu = Gpu { name: "L4", count: 1, memory_mib: 22_888 };

/// Every instance type there is.
pub const KINDS: [Kind; 5] = [
    Kind {
        name: "g5.xlarge",
        group: "G",
        vcpus: 4,
        threads: 2,
        memory_mib: 16_384,
        arch: "x86_64",
        maker: "AMD",
        gpu: Some(A10G),
        store_gb: 250,
        network: "Up to 10 Gigabit",
        burstable: false,
        zones: "abc",
        on_demand: "1.123",
        spot: 0.4512,
    },
    Kind {
        name: "g5.2xlarge",
        group: "G",
        vcpus: 8,
        threads: 2,
        memory_mib: 32_768,
        arch: "x86_64",
        maker: "AMD",
        gpu: Some(A10G),
        store_gb: 450,
        network: "Up to 10 Gigabit",
        burstable: false,
        zones: "abc",
        on_demand: "1.353",
        spot: 0.5874,
    },
    Kind {
        name: "g6.xlarge",
        group: "G",
        vcpus: 4,
        threads: 2,
        memory_mib: 16_384,
        arch: "x86_64",
        maker: "AMD",
        gpu: Some(L4),
        store_gb: 250,
        network: "Up to 10 Gigabit",
        burstable: false,
        zones: "ab",
        on_demand: "0.8993",
        spot: 0.3921,
    },
    Kind {
        name: "t4g.nano",
        group: "Standard",
        vcpus: 2,
        threads: 1,
        memory_mib: 512,
        arch: "arm64",
        maker: "AWS",
        gpu: None,
        store_gb: 0,
        network: "Up to 5 Gigabit",
        burstable: true,
        zones: "abc",
        on_demand: "0.0046",
        spot: 0.0019,
    },
    Kind {
        name: "m5.large",
        group: "Standard",
        vcpus: 2,
        threads: 2,
        memory_mib: 8_192,
        arch: "x86_64",
        maker: "Intel",
        gpu: None,
        store_gb: 0,
        network: "Up to 10 Gigabit",
        burstable: false,
        zones: "abc",
        on_demand: "0.107",
        spot: 0.0423,
    },
];

impl Kind {
    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Whether it is sold in this zone.
    #[must_use]
    pub fn is_sold_in(&self, zone: &str) -> bool {
        zone.chars().last().is_some_and(|letter| self.zones.contains(letter))
    }

    /// Cores.
    #[must_use]
    pub fn cores(&self) -> u32 {
        self.vcpus / self.threads
    }
}
