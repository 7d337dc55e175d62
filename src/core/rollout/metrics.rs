//! The provider's metrics of an instance (`novita-api.md` section 2.8): is it healthy now, and what is its load like?
//!
//! One series of the last days with a point for every 15 minutes answers both, so one call for each instance is enough.

use std::time::Duration;

use serde::Serialize;

use crate::core::world::money::decimal;
use crate::core::world::time::Timestamp;

/// The time that a series covers.
pub const WINDOW: Duration = Duration::from_secs(3 * 24 * 3600);

/// The time between two points.
pub const INTERVAL: Duration = Duration::from_secs(900);

/// The age from which the last point is stale: two intervals, and the minute or so by which the provider lags.
pub(super) const FRESH: Duration = Duration::from_secs(2 * 900 + 120);

/// From this use on, a resource may run out at any moment. In hundredths of a percent, as are all shares below.
const HEALTHY_BELOW: u32 = 95_00;

/// The fewest points that a load is classified by: six hours.
const ENOUGH: usize = 24;

/// A load is stable if its middle four fifths lie within this range.
const STABLE_WITHIN: u32 = 20_00;

/// A load comes in bursts if its median is below the first and its 95th percentile reaches the second.
const IDLE_BELOW: u32 = 20_00;
const BURST_ABOVE: u32 = 50_00;

/// One point of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub at: Timestamp,
    /// In hundredths of a percent; for a CPU, the sum over its cores.
    pub value: u32,
}

/// The series of one instance, each sorted by time. A series that the provider leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub cpu: Vec<Point>,
    pub memory: Vec<Point>,
    pub disk: Vec<Point>,
    pub gpu: Vec<Point>,
    /// What the provider does not report at all, if anything.
    pub unreported: Option<&'static str>,
}

/// Whether an instance is about to run out of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceHealth {
    Healthy {
        /// What is used, in words.
        used: String,
        /// The resources that have no fresh point.
        unmeasured: Vec<&'static str>,
        /// How many points in a row say so, of the resource with the fewest.
        points: u64,
        /// How old the last of these is.
        age: Duration,
    },
    Unhealthy {
        /// What is used, in words.
        used: String,
        /// How many points in a row say so, of the resource with the most.
        points: u64,
        /// How old the last of these is.
        age: Duration,
    },
    Unknown,
}

impl Metrics {
    /// The health of the instance now. The provider sums the load of a CPU over its cores, hence `cpu_num`.
    #[must_use]
    pub fn health(&self, cpu_num: Option<u32>, now: Timestamp) -> ResourceHealth {
        let cpu: Vec<Point> = match cpu_num {
            Some(cpus @ 1..) => self.cpu.iter().map(|it| Point { value: it.value / cpus, ..*it }).collect(),
            Some(0) | None => Vec::new(),
        };
        let all = [("memory", &self.memory), ("disk", &self.disk), ("CPU", &cpu)];
        let is_fresh = |point: &&Point| now.since(point.at) <= FRESH;
        let measured = all.iter().filter_map(|(what, series)| Some((*what, *series, *series.last().filter(is_fresh)?)));
        let measured: Vec<_> = measured.collect();
        let is_full = |point: &Point| point.value >= HEALTHY_BELOW;
        let in_a_row = |series: &[Point], full: bool| series.iter().rev().take_while(|it| is_full(it) == full).count();
        let count = |full: bool| {
            let those = measured.iter().filter(move |(_, _, last)| is_full(last) == full);
            those.map(move |(_, series, _)| u64::try_from(in_a_row(series, full)).unwrap_or(u64::MAX))
        };
        let Some(age) = measured.iter().map(|(_, _, last)| now.since(last.at)).max() else {
            return ResourceHealth::Unknown;
        };
        let used = measured.iter().map(|(what, _, last)| format!("{what} {}", percent(last.value)));
        let used = used.collect::<Vec<_>>().join(", ");
        if let Some(points) = count(true).max() {
            return ResourceHealth::Unhealthy { used, points, age };
        }
        let is_measured = |what: &str| measured.iter().any(|(it, ..)| *it == what);
        let unmeasured = all.iter().map(|(what, _)| *what).filter(|what| !is_measured(what)).collect();
        ResourceHealth::Healthy { used, unmeasured, points: count(false).min().unwrap_or(0), age }
    }

    /// The mean load of its GPUs in hundredths of a percent, if known.
    #[must_use]
    pub fn load(&self) -> Option<u32> {
        let sum: u64 = self.gpu.iter().map(|point| u64::from(point.value)).sum();
        sum.checked_div(u64::try_from(self.gpu.len()).ok()?).and_then(|mean| u32::try_from(mean).ok())
    }

    /// What its load is like, judged by its GPUs, or by its CPU if there are no GPU points.
    #[must_use]
    pub fn workload(&self, cpu_num: Option<u32>) -> Workload {
        let values = |series: &[Point]| series.iter().map(|point| point.value).collect::<Vec<u32>>();
        let mut values = match (self.gpu.is_empty(), cpu_num) {
            (false, _) => values(&self.gpu),
            (true, Some(cpus @ 1..)) => values(&self.cpu).into_iter().map(|value| value / cpus).collect(),
            (true, Some(0) | None) => return Workload::Unknown,
        };
        if values.len() < ENOUGH {
            return Workload::Unknown;
        }
        values.sort_unstable();
        let at = |percent: usize| values[(values.len() - 1) * percent / 100];
        match () {
            // Checked before "stable", since a load that is idle most of the time is even for the rest of it.
            () if at(50) < IDLE_BELOW && at(95) >= BURST_ABOVE => Workload::Burst,
            () if at(90) - at(10) <= STABLE_WITHIN => Workload::Stable,
            () => Workload::Variable,
        }
    }
}

/// Hundredths of a percent, rounded to one decimal.
fn percent(value: u32) -> String {
    format!("{} %", decimal(u64::from(value.saturating_add(5) / 10), 1))
}

/// What the load of an instance is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Workload {
    /// About the same all the time.
    Stable,
    Variable,
    /// Idle most of the time, and busy in between.
    Burst,
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[u32], ago_secs: i64) -> Vec<Point> {
        let points = values.iter().rev().zip(0..);
        let at = |n: i64| Timestamp::from_secs(1_000_000 - ago_secs - 900 * n);
        let mut points: Vec<Point> = points.map(|(value, n)| Point { at: at(n), value: value * 100 }).collect();
        points.reverse();
        points
    }

    #[test]
    fn an_instance_is_well_if_nothing_fresh_is_near_its_end() {
        let now = Timestamp::from_secs(1_000_000);
        let (cpus, none): (Option<u32>, &[&str]) = (Some(4), &[]);
        // CPU, memory, disk; how old; the CPUs.
        type Row<'a> = ([Option<u32>; 3], i64, Option<u32>, Result<Option<&'a [&'a str]>, &'a str>);
        let rows: &[Row<'_>] = &[
            ([Some(200), Some(30), Some(20)], 60, cpus, Ok(Some(none))),
            ([Some(379), Some(94), Some(94)], 60, cpus, Ok(Some(none))),
            ([Some(380), Some(30), Some(20)], 60, cpus, Err("CPU 95.0 %")),
            ([Some(100), Some(95), Some(20)], 60, cpus, Err("memory 95.0 %")),
            ([Some(100), Some(30), Some(100)], 60, cpus, Err("disk 100.0 %")),
            ([Some(100), Some(30), Some(20)], 1920, cpus, Ok(Some(none))),
            ([Some(100), Some(30), Some(20)], 1921, cpus, Ok(None)),
            // A clock that lags behind the provider's.
            ([Some(100), Some(30), Some(20)], -600, cpus, Ok(Some(none))),
            ([None, None, None], 60, cpus, Ok(None)),
            ([None, Some(30), None], 60, cpus, Ok(Some(&["disk", "CPU"]))),
            ([Some(3_000), Some(30), Some(20)], 60, None, Ok(Some(&["CPU"]))),
            ([Some(3_000), None, None], 60, None, Ok(None)),
            ([Some(3_000), Some(30), Some(20)], 60, Some(0), Ok(Some(&["CPU"]))),
        ];
        for row @ ([cpu, memory, disk], ago, cpus, expected) in rows {
            // Only the last point counts.
            let of = |value: &Option<u32>| value.map_or(vec![], |value| series(&[9_999, value], *ago));
            let metrics = Metrics { cpu: of(cpu), memory: of(memory), disk: of(disk), gpu: vec![], unreported: None };
            match (metrics.health(*cpus, now), expected) {
                (ResourceHealth::Healthy { unmeasured, .. }, Ok(Some(expected))) => {
                    assert_eq!(unmeasured, *expected, "{row:?}");
                }
                (ResourceHealth::Unhealthy { used, .. }, Err(expected)) => {
                    assert!(used.contains(expected), "{used}, {row:?}");
                }
                (ResourceHealth::Unknown, Ok(None)) => {}
                (other, _) => panic!("{other:?} of {row:?}"),
            }
        }
    }

    #[test]
    fn the_form_of_a_load_has_a_name() {
        let many = |value: u32, count: usize| vec![value; count];
        let mixed = |parts: &[(u32, usize)]| parts.iter().flat_map(|(value, count)| many(*value, *count)).collect();
        let rows: &[(&str, Vec<u32>, Workload)] = &[
            ("always the same", many(70, 288), Workload::Stable),
            ("always idle", many(0, 288), Workload::Stable),
            ("enough points", many(70, 24), Workload::Stable),
            ("one too few", many(70, 23), Workload::Unknown),
            ("nothing", vec![], Workload::Unknown),
            ("within the spread", mixed(&[(50, 50), (70, 50)]), Workload::Stable),
            ("over the spread", mixed(&[(50, 50), (71, 50)]), Workload::Variable),
            ("idle and busy in turn", mixed(&[(0, 50), (90, 50)]), Workload::Burst),
            ("rarely busy", mixed(&[(2, 93), (90, 7)]), Workload::Burst),
            ("too rarely to tell", mixed(&[(2, 97), (90, 3)]), Workload::Stable),
            ("peaks that are none", mixed(&[(2, 80), (49, 20)]), Workload::Variable),
            ("mostly busy", mixed(&[(20, 60), (100, 40)]), Workload::Variable),
        ];
        for (what, values, expected) in rows {
            let by_gpu = Metrics { gpu: series(values, 60), cpu: series(&[1], 60), ..Metrics::default() };
            assert_eq!(by_gpu.workload(None), *expected, "{what}");
            let sums: Vec<u32> = values.iter().map(|value| value * 8).collect();
            let by_cpu = Metrics { cpu: series(&sums, 60), ..Metrics::default() };
            assert_eq!(by_cpu.workload(Some(8)), *expected, "{what}, by its CPU");
            for cpus in [None, Some(0)] {
                assert_eq!(by_cpu.workload(cpus), Workload::Unknown, "{what}");
            }
        }
    }
}
