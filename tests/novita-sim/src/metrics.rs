//! What the metrics say (fact sheet, section 2.8), which follows from a machine's load and the time alone.

use serde_json::{Value, json};

use crate::api::{Answer, Call};
use crate::machine::Machine;
use crate::wire::Refusal;
use crate::world::World;

/// What a machine is busy with. Shares are in percent; of the processors each core has a quarter of what the GPUs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The GPUs are always this busy.
    Stable(u32),
    /// They become busier and less busy again, evenly, once in each period.
    Variable {
        /// At the beginning and the end of a period.
        low: u32,
        /// In its middle.
        high: u32,
        /// How long one is.
        period_ms: u32,
    },
    /// They are idle but for a burst at the beginning of each period.
    Burst {
        /// Between bursts.
        idle: u32,
        /// In a burst.
        peak: u32,
        /// From one burst to the next.
        every_ms: u32,
        /// How long a burst is.
        for_ms: u32,
    },
    /// They are as usual, but the memory and the container disk are so full.
    Unhealthy {
        /// Of the memory.
        memory: u32,
        /// Of the container disk.
        disk: u32,
    },
    /// There are no figures: all lists are empty.
    None,
    /// There are no figures: not even lists.
    Missing,
}

impl Default for Load {
    fn default() -> Self {
        Self::Stable(USUAL)
    }
}

/// How busy GPUs are if nothing else is said.
const USUAL: u32 = 40;

/// How late figures are.
const LAG_S: i64 = 60;

/// The shortest interval, in seconds, and the one that is taken if none is asked for.
const INTERVAL_S: i64 = 15;

impl Load {
    /// The GPUs' share at a time.
    fn gpu(self, at_s: i64) -> f64 {
        let into = |period_ms: u32| (1_000 * at_s).rem_euclid(i64::from(period_ms.max(1)));
        match self {
            Self::Stable(share) => f64::from(share),
            Self::Variable { low, high, period_ms } => {
                let place = u32::try_from(into(period_ms)).unwrap_or(0);
                let half = f64::from(period_ms.max(1)) / 2.0;
                let distance = (f64::from(place) - half).abs() / half;
                f64::from(high) - (f64::from(high) - f64::from(low)) * distance
            }
            Self::Burst { idle, peak, every_ms, for_ms } => {
                f64::from(if into(every_ms) < i64::from(for_ms) { peak } else { idle })
            }
            Self::Unhealthy { .. } | Self::None | Self::Missing => f64::from(USUAL),
        }
    }
}

impl World {
    /// The metrics of one machine. What is asked for and makes no sense is replaced by what is usual.
    pub(crate) fn metrics(&self, call: &Call) -> Result<Answer, Refusal> {
        let id = call.query("instanceId").ok_or_else(|| Refusal::invalid("instanceId is required"))?;
        let machine = self.get(id).ok_or_else(Refusal::not_found)?;
        if machine.load == Load::Missing {
            return Ok(Answer::json("{}"));
        }
        let times = self.times(call, machine);
        let series = |value: &dyn Fn(i64) -> f64| -> Vec<Value> {
            times.iter().map(|at| json!({"timestamp": at.to_string(), "value": value(*at)})).collect()
        };
        let (memory, disk) = match machine.load {
            Load::Unhealthy { memory, disk } => (memory, disk),
            _ => (30, 20),
        };
        let gpus = |value: &dyn Fn(i64) -> f64| {
            let number = if times.is_empty() { 0 } else { machine.gpu_num };
            let ids: Vec<_> =
                (0..number).map(|gpu| json!({"gpuId": (3 + gpu).to_string(), "items": series(value)})).collect();
            json!({"avg": series(value), "gpuIds": ids})
        };
        let cores = f64::from(machine.cpu_num);
        let body = json!({
            "cpuUtilization": series(&|at| machine.load.gpu(at) / 4.0 * cores),
            "memUtilization": series(&|_| f64::from(memory)),
            "rootDiskUtilization": series(&|_| f64::from(disk)),
            "gpuUtilization": gpus(&|at| machine.load.gpu(at)),
            "gpuMemUtilization": gpus(&|_| 50.0),
        });
        Ok(Answer::json(body.to_string()))
    }

    /// The times that a call asks for, in Unix seconds, as far as there are figures.
    fn times(&self, call: &Call, machine: &Machine) -> Vec<i64> {
        if machine.status != "running" || machine.load == Load::None {
            return Vec::new();
        }
        let now = self.now.div_euclid(1_000);
        let asked = |name: &str| call.query(name).and_then(|text| text.parse::<i64>().ok());
        let end = asked("endTime").filter(|end| (1..=now).contains(end)).unwrap_or(now);
        let start = asked("startTime").filter(|start| (1..=end - 60).contains(start)).unwrap_or(end - 60);
        let interval = asked("interval").filter(|interval| *interval > INTERVAL_S).unwrap_or(INTERVAL_S);
        // The first multiple at which it ran.
        let ran = machine.first_ran_at.div_euclid(1_000) + i64::from(machine.first_ran_at % 1_000 != 0);
        let skipped = (ran - start).max(0).saturating_add(interval - 1) / interval;
        let last = end.min(now - LAG_S);
        let next = |at: &i64| at.checked_add(interval);
        std::iter::successors(start.checked_add(skipped * interval), next).take_while(|at| *at <= last).collect()
    }
}
