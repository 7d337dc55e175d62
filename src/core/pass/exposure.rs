//! How often spot instances are reclaimed: for each product in each cluster, the hours that instances were seen running
//! and the reclaims that were announced meanwhile.
//!
//! Only observed time counts: at most the hour before each pass, since a reclaim is announced an hour ahead, and nothing
//! the first time a place is seen. This misses hours rather than reclaims, so a rate is too high rather than too low.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::world::instance::{Billing, Instance, InstanceId, Place, Status};
use crate::core::world::snapshot::find;
use crate::core::world::time::Timestamp;

/// The most time of one instance that one observation counts.
const LONGEST_SPAN: Duration = Duration::from_secs(3600);

/// The instance-hours from which a rate is known.
pub const ENOUGH_HOURS: u64 = 100;

/// A place where nothing runs is forgotten after this time.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How many places are remembered; those seen last stay.
pub const PLACES_KEPT: usize = 500;

/// What was seen of one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    pub since: Timestamp,
    /// The last observation that saw an instance there.
    pub seen_at: Timestamp,
    /// How long spot instances were seen running, in total, in seconds.
    pub instance_seconds: u64,
    pub reclaims: u64,
}

impl Exposure {
    /// Whole instance-hours.
    #[must_use]
    pub fn hours(&self) -> u64 {
        self.instance_seconds / 3600
    }

    /// Reclaims in a million instance-hours; `None` while too little was seen.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        if self.hours() < ENOUGH_HOURS {
            return None;
        }
        let rate = u128::from(self.reclaims) * 3600 * 1_000_000 / u128::from(self.instance_seconds);
        u64::try_from(rate).ok()
    }
}

/// By place, as they are remembered.
pub type Exposures = HashMap<Place, Exposure>;

/// A reclaim notice that stands.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The instance that is, or was, to be taken.
    pub instance: &'a InstanceId,
    pub reclaim_at: Timestamp,
    /// Whether no earlier pass has seen it.
    pub is_new: bool,
}

/// What this observation changes; `None` is a place to forget. Ordered by place.
#[must_use]
pub fn observe<'a>(
    instances: &[Instance],
    known: &Exposures,
    notices: impl IntoIterator<Item = Notice<'a>>,
    now: Timestamp,
) -> Vec<(Place, Option<Exposure>)> {
    // A place that was not seen for this long starts from zero. So does a damaged record: it was last seen at time zero.
    let alive: Exposures =
        known.iter().filter(|(_, it)| now.since(it.seen_at) <= LIFE).map(|(place, it)| (place.clone(), *it)).collect();
    let mut seen: HashMap<&Place, Exposure> = HashMap::new();
    let running = instances.iter().filter(|it| it.billing == Billing::Spot && it.status == Status::Running);
    for (place, instance) in running.filter_map(|it| Some((it.place.as_deref()?, it))) {
        let exposure = seen.entry(place).or_insert_with(|| begun(&alive, place, now));
        exposure.seen_at = now;
        exposure.instance_seconds += watched(alive.get(place), instance, now).as_secs();
    }
    for Notice { instance, reclaim_at, is_new } in notices {
        let instance = find(instances, instance).filter(|it| it.billing == Billing::Spot);
        let Some(place) = instance.and_then(|it| it.place.as_deref()) else { continue };
        let exposure = seen.entry(place).or_insert_with(|| begun(&alive, place, now));
        // A reclaim from before the first observation belongs to hours that were not counted.
        if is_new && reclaim_at >= exposure.since {
            exposure.reclaims += 1;
        }
    }
    bounded(known, &seen, now)
}

fn begun(known: &Exposures, place: &Place, now: Timestamp) -> Exposure {
    known.get(place).copied().unwrap_or(Exposure { since: now, seen_at: now, ..Exposure::default() })
}

/// How much of an instance's time lies between the last observation and this one.
fn watched(known: Option<&Exposure>, instance: &Instance, now: Timestamp) -> Duration {
    let since_last = known.map_or(Duration::ZERO, |known| now.since(known.seen_at));
    let up = instance.started_at.map_or(Duration::MAX, |at| now.since(at.into()));
    since_last.min(up).min(LONGEST_SPAN)
}

/// Forgets places that were not seen for long, and those beyond [`PLACES_KEPT`].
fn bounded(known: &Exposures, seen: &HashMap<&Place, Exposure>, now: Timestamp) -> Vec<(Place, Option<Exposure>)> {
    let mut kept: Vec<(&Place, Exposure)> = seen.iter().map(|(place, exposure)| (*place, *exposure)).collect();
    kept.extend(known.iter().filter(|(place, _)| !seen.contains_key(place)).map(|(place, it)| (place, *it)));
    kept.sort_by(|a, b| b.1.seen_at.cmp(&a.1.seen_at).then(a.0.cmp(b.0)));
    let mut changes = Vec::new();
    for (at, (place, exposure)) in kept.into_iter().enumerate() {
        if at >= PLACES_KEPT || now.since(exposure.seen_at) > LIFE {
            changes.push((place.clone(), None));
        } else if known.get(place) != Some(&exposure) {
            changes.push((place.clone(), Some(exposure)));
        }
    }
    changes.retain(|(place, exposure)| exposure.is_some() || known.contains_key(place));
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::Places;
    use crate::core::world::time::Seconds;

    const NOW: i64 = 1_768_478_400;
    const HOUR: i64 = 3600;

    fn ago(secs: i64) -> Timestamp {
        Timestamp::from_secs(NOW - secs)
    }

    fn place(product: &str) -> Place {
        Place { product: product.into(), cluster: "c".into() }
    }

    fn running(id: &str, product: &str, started_ago: Option<i64>) -> Instance {
        Instance {
            id: InstanceId::new(id),
            name: id.into(),
            status: Status::Running,
            billing: Billing::Spot,
            reclaim: None,
            marker: None,
            place: Places::default().place(product, "c"),
            created_at: None,
            started_at: started_ago.and_then(|ago| Seconds::new(NOW - ago)),
            stopped_at: None,
        }
    }

    fn look_at(
        known: &[(Place, Exposure)],
        mut instances: Vec<Instance>,
        before: &[(&str, Timestamp)],
        seen: &[(&str, Option<Timestamp>)],
    ) -> Vec<(Place, Option<Exposure>)> {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        let known: Exposures = known.iter().cloned().collect();
        let (before, seen): (Vec<_>, Vec<_>) = (
            before.iter().map(|(id, at)| (InstanceId::new(id), *at)).collect(),
            seen.iter().filter_map(|(id, at)| Some((InstanceId::new(id), (*at)?))).collect(),
        );
        let notices = seen.iter().map(|notice| {
            let (instance, reclaim_at) = notice;
            Notice { instance, reclaim_at: *reclaim_at, is_new: !before.contains(notice) }
        });
        observe(&instances, &known, notices, ago(0))
    }

    fn exposure(since: i64, seen: i64, secs: u64, reclaims: u64) -> Exposure {
        Exposure { since: ago(since), seen_at: ago(seen), instance_seconds: secs, reclaims }
    }

    #[test]
    fn an_observation_counts_the_time_that_was_watched() {
        let known = exposure(10 * HOUR, 900, 5_000, 1);
        type Row<'a> = (&'a str, Option<Exposure>, Vec<Instance>, Option<Exposure>);
        let with = |change: fn(&mut Instance)| {
            let mut instance = running("a", "p", Some(HOUR));
            change(&mut instance);
            vec![instance]
        };
        let rows: Vec<Row<'_>> = vec![
            ("since the last observation", Some(known), with(|_| ()), Some(exposure(10 * HOUR, 0, 5_900, 1))),
            (
                "several at once",
                Some(known),
                vec![running("a", "p", Some(HOUR)), running("b", "p", None), running("d", "p", Some(60))],
                Some(exposure(10 * HOUR, 0, 5_000 + 900 + 900 + 60, 1)),
            ),
            ("the first observation", None, with(|_| ()), Some(exposure(0, 0, 0, 0))),
            (
                "after a long pause",
                Some(exposure(90 * HOUR, 80 * HOUR, 7, 0)),
                vec![running("a", "p", Some(85 * HOUR))],
                Some(exposure(90 * HOUR, 0, 7 + 3600, 0)),
            ),
            ("a clock that went back", Some(exposure(0, -60, 7, 0)), with(|_| ()), Some(exposure(0, 0, 7, 0))),
            ("not running", Some(known), with(|it| it.status = Status::Exited), None),
            ("not spot", Some(known), with(|it| it.billing = Billing::OnDemand), None),
            ("place not known", Some(known), with(|it| it.place = None), None),
            (
                "forgotten",
                Some(exposure(200 * 24 * HOUR, 91 * 24 * HOUR, 7, 0)),
                with(|_| ()),
                Some(exposure(0, 0, 0, 0)),
            ),
            ("damaged", Some(Exposure::default()), with(|_| ()), Some(exposure(0, 0, 0, 0))),
        ];
        for (what, known, instances, expected) in rows {
            let known: Vec<_> = known.map(|it| (place("p"), it)).into_iter().collect();
            let expected: Vec<_> = expected.map(|it| (place("p"), Some(it))).into_iter().collect();
            assert_eq!(look_at(&known, instances, &[], &[]), expected, "{what}");
        }
    }

    #[test]
    fn a_reclaim_counts_once_for_each_notice() {
        let known = [(place("p"), exposure(10 * HOUR, 900, 0, 1))];
        let soon = ago(-HOUR);
        type Row<'a> = (&'a str, &'a [(&'a str, Timestamp)], &'a [(&'a str, Option<Timestamp>)], u64);
        let rows: &[Row<'_>] = &[
            ("none", &[], &[], 1),
            ("a new one", &[], &[("a", Some(soon))], 2),
            ("known", &[("a", soon)], &[("a", Some(soon))], 1),
            ("another time", &[("a", ago(HOUR))], &[("a", Some(soon))], 2),
            ("of another instance", &[("b", soon)], &[("a", Some(soon))], 2),
            ("forgotten", &[("a", soon)], &[("a", None)], 1),
            ("of whom is not listed", &[], &[("z", Some(soon))], 1),
            ("over, and seen late", &[], &[("a", Some(ago(9 * HOUR)))], 2),
            ("from before the first observation", &[], &[("a", Some(ago(11 * HOUR)))], 1),
            ("of one on demand", &[], &[("d", Some(soon))], 1),
        ];
        for (what, before, seen, expected) in rows {
            let mut on_demand = running("d", "p", None);
            on_demand.billing = Billing::OnDemand;
            let changes = look_at(&known, vec![running("a", "p", Some(0)), on_demand], before, seen);
            let [(_, Some(exposure))] = &changes[..] else { panic!("{what}: {changes:?}") };
            assert_eq!(exposure.reclaims, *expected, "{what}");
        }
        // Also when nothing runs there any more, and in a place seen for the first time.
        let mut exited = running("a", "p", None);
        exited.status = Status::Exited;
        let changes = look_at(&known, vec![exited.clone()], &[], &[("a", Some(soon))]);
        assert_eq!(changes, [(place("p"), Some(exposure(10 * HOUR, 900, 0, 2)))]);
        let changes = look_at(&[], vec![exited], &[], &[("a", Some(ago(60)))]);
        assert_eq!(changes, [(place("p"), Some(exposure(0, 0, 0, 0)))]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let old = |n: usize| {
            let ago = i64::try_from(n).expect("few");
            (place(&format!("p{n:03}")), exposure(ago, ago, 1, 0))
        };
        let full: Vec<_> = (1..=PLACES_KEPT).map(old).collect();
        let changes = look_at(&full, vec![running("a", "new", None)], &[], &[]);
        assert_eq!(changes, [(place("new"), Some(exposure(0, 0, 0, 0))), (place("p500"), None)]);
        let stale = [
            (place("old"), exposure(0, 90 * 24 * HOUR + 1, 9, 9)),
            (place("young"), exposure(0, 90 * 24 * HOUR, 9, 9)),
        ];
        assert_eq!(look_at(&stale, vec![], &[], &[]), [(place("old"), None)]);
    }

    #[test]
    fn a_rate_needs_a_hundred_hours() {
        for (secs, reclaims, rate) in [
            (0, 0, None),
            (0, 5, None),
            (100 * 3600 - 1, 5, None),
            (100 * 3600, 0, Some(0)),
            (100 * 3600, 5, Some(50_000)),
            (730 * 3600, 1, Some(1_369)),
            (u64::MAX, u64::MAX, Some(3_600_000_000)),
        ] {
            assert_eq!(exposure(0, 0, secs, reclaims).rate(), rate, "{reclaims} in {secs} s");
        }
    }
}
