//! What is kept of instances while they run, for a provider that forgets what has ended: what they are made of, and that
//! they were reclaimed, until they are replaced.

use std::collections::HashMap;
use std::time::Duration;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::core::recreation::blueprint::Blueprint;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, Place, ReclaimNotice, Status};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::{Seconds, Timestamp, any_time_if_any};

/// How long an instance is kept that is not seen any more.
const KEPT_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often it is stored that an instance was seen.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// An instance as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Changes with what the instance is made of.
    pub mark: String,
    /// When it was last seen running, to the day.
    pub seen_at: Timestamp,
    pub name: CompactString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Box<CompactString>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    pub billing: Billing,
    pub gpus: u16,
    #[serde(default, deserialize_with = "any_time_if_any")]
    pub created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "any_time_if_any")]
    pub started_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "any_time_if_any")]
    pub stopped_at: Option<Timestamp>,
    /// That it was reclaimed, once that is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<ReclaimNotice>,
}

/// What an instance is made of, or why that cannot be launched again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchRecord {
    pub blueprint: Option<Blueprint>,
    pub problem: Option<String>,
}

impl Kept {
    /// An instance that runs, as it is listed.
    #[must_use]
    pub fn of(instance: &Instance, mark: String, seen_at: Timestamp) -> Self {
        let Instance { name, marker, place, billing, gpus, created_at, started_at, .. } = instance;
        Self {
            mark,
            seen_at,
            name: name.clone(),
            marker: marker.clone(),
            place: place.as_deref().cloned(),
            billing: billing.clone(),
            gpus: *gpus,
            created_at: created_at.map(Timestamp::from),
            started_at: started_at.map(Timestamp::from),
            stopped_at: None,
            reclaim: None,
        }
    }

    /// Whether it was seen running within the last day.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.seen_at) <= FRESH
    }

    /// The row that it would have if the provider still listed it, once it was reclaimed.
    fn row(&self, id: &InstanceId) -> Option<Instance> {
        let reclaim = self.reclaim.clone()?;
        let secs = |at: Option<Timestamp>| at.and_then(|at| Seconds::new(at.as_secs()));
        Some(Instance {
            id: id.clone(),
            name: self.name.clone(),
            status: Status::Exited,
            billing: self.billing.clone(),
            stopped_at: secs(self.stopped_at.or(Some(reclaim.reclaim_at))),
            reclaim: Some(Box::new(reclaim)),
            marker: self.marker.clone(),
            aside: None,
            place: self.place.clone().map(Into::into),
            gpus: self.gpus,
            created_at: secs(self.created_at),
            started_at: secs(self.started_at),
        })
    }
}

/// The instance that a replacement is made of, if it is the replacement of one.
#[must_use]
pub fn made_of<'a>(id: &InstanceId, recreations: &'a HashMap<InstanceId, Recreation>) -> Option<&'a InstanceId> {
    let is_it = |recreation: &Recreation| {
        recreation.step.replacement() == Some(id) && !matches!(recreation.step, Step::Abandoned { .. })
    };
    recreations.iter().find(|(_, recreation)| is_it(recreation)).map(|(old, _)| old)
}

/// What is known of replacements that no pass has seen running: they are made of the same as what they replace.
fn heirs(
    known: &HashMap<InstanceId, Kept>,
    recreations: &HashMap<InstanceId, Recreation>,
) -> HashMap<InstanceId, Kept> {
    let heir = |(old, recreation): (&InstanceId, &Recreation)| {
        let new = recreation.step.replacement().filter(|new| !known.contains_key(new))?;
        made_of(new, recreations)?;
        let (marker, since) = (Some(Box::new(recreation.marker.as_str().into())), recreation.since);
        let (created_at, mark) = (Some(recreation.opened_at), String::new());
        let unknown = Kept { started_at: None, stopped_at: None, reclaim: None, ..known.get(old)?.clone() };
        let kept = Kept { mark, seen_at: since, marker, created_at, ..unknown };
        Some((new.clone(), kept))
    };
    recreations.iter().filter_map(heir).collect()
}

/// Completes a listing of a provider that forgets: what was replaced is over, although it is listed for some time; what was
/// reclaimed and is not replaced is down, although it is not listed any more. `ended` says whether an instance that is not
/// listed was reclaimed. Returns what is to be kept of that from now on.
pub fn complete(
    snapshot: &mut Snapshot,
    recorded: &HashMap<InstanceId, Kept>,
    recreations: &HashMap<InstanceId, Recreation>,
    ended: impl Fn(&InstanceId) -> Option<ReclaimNotice>,
) -> Vec<(InstanceId, Option<Kept>)> {
    let now = snapshot.taken_at;
    let mut known = heirs(recorded, recreations);
    known.extend(recorded.iter().map(|(id, kept)| (id.clone(), kept.clone())));
    let replaced_by = |id: &InstanceId| match &recreations.get(id)?.step {
        Step::Closed { replacement } => replacement.as_ref(),
        _ => None,
    };
    let is_replaced = |id: &InstanceId| replaced_by(id).is_some();
    let has_recorded_heir = |id: &InstanceId| replaced_by(id).is_some_and(|new| recorded.contains_key(new));
    // A recreation has given it up, or has another one.
    let is_superseded = |id: &InstanceId, marker: Option<&CompactString>| {
        let has_another = |it: &Recreation| match it.step.replacement() {
            Some(new) => *new != *id || matches!(it.step, Step::Abandoned { .. }),
            None => false,
        };
        marker.is_some_and(|marker| recreations.values().any(|it| *marker == it.marker && has_another(it)))
    };
    let mut changes = Vec::new();
    for instance in &mut snapshot.instances.items {
        if instance.status == Status::Exited && is_replaced(&instance.id) {
            instance.status = Status::Removed;
        }
        // A launch that came to nothing and that no recreation waits for, or one in whose place there is another.
        let never_ran = instance.status == Status::Exited && instance.started_at.is_none();
        let record = recorded.get(&instance.id);
        let marker = record.map_or(&instance.marker, |kept| &kept.marker).as_deref();
        let is_forgotten = marker.is_some() && record.is_none();
        let is_over = is_superseded(&instance.id, marker)
            || (never_ran || is_forgotten) && made_of(&instance.id, recreations).is_none();
        if instance.status == Status::Exited && is_over {
            instance.status = Status::Removed;
            changes.extend(record.is_some().then(|| (instance.id.clone(), None)));
            continue;
        }
        let Some(kept) = known.get(&instance.id) else { continue };
        // The tags of what has ended go one after the other.
        if instance.status != Status::Running {
            instance.name.clone_from(&kept.name);
            instance.marker.clone_from(&kept.marker);
            instance.aside = instance.aside.take().filter(|aside| **aside != Aside::NotOptedIn);
        }
        let kept = match &instance.status {
            Status::Running if instance.aside.as_ref().is_some_and(|aside| aside.is_foreign()) => None,
            Status::Exited if kept.reclaim.is_none() && !never_ran => Some(Kept {
                reclaim: instance.reclaim.as_deref().cloned(),
                stopped_at: instance.stopped_at.map(Timestamp::from),
                ..kept.clone()
            }),
            Status::Running if !kept.is_fresh(now) => Some(Kept { seen_at: now, ..kept.clone() }),
            _ if has_recorded_heir(&instance.id) => None,
            // Why it ends may not be told yet.
            status if status.is_going() && instance.aside.as_deref() == Some(&Aside::TerminatedByUser) => None,
            _ => continue,
        };
        changes.push((instance.id.clone(), kept));
    }
    // What was replaced hands over what is known of it, so that it is never down again.
    for (old, new) in recreations.keys().filter_map(|old| Some((old, replaced_by(old)?))) {
        if !recorded.contains_key(old) || recorded.contains_key(new) {
            continue;
        }
        let row = find(&snapshot.instances.items, new);
        let is_unwanted = row.is_some_and(|it| it.aside.as_deref() == Some(&Aside::TerminatedByUser));
        if !is_unwanted && !changes.iter().any(|(id, _)| id == new) {
            changes.extend(known.get(new).map(|kept| (new.clone(), Some(kept.clone()))));
        }
        changes.push((old.clone(), None));
    }
    if !snapshot.instances.is_complete() {
        return changes;
    }
    for (id, kept) in &known {
        if find(&snapshot.instances.items, id).is_some() {
            continue;
        }
        let reclaim = kept.reclaim.clone().or_else(|| ended(id));
        let last_at = reclaim.as_ref().map_or(kept.seen_at, |notice| notice.reclaim_at);
        let is_over = has_recorded_heir(id) || is_superseded(id, kept.marker.as_deref());
        if is_over || now.since(last_at) > KEPT_LIFE {
            changes.push((id.clone(), None));
            continue;
        }
        if is_replaced(id) {
            continue;
        }
        let now = Kept { reclaim, ..kept.clone() };
        if let Some(row) = now.row(id) {
            let at = snapshot.instances.items.partition_point(|it| it.id < *id);
            snapshot.instances.items.insert(at, row);
        }
        if now.reclaim != kept.reclaim {
            changes.retain(|(changed, _)| changed != id);
            changes.push((id.clone(), Some(now)));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::recreation::journal::Cause;
    use crate::core::world::snapshot::{Abilities, Listing, Shortfall};

    const NOW: i64 = 1_700_000_000;

    fn at(ago: i64) -> Timestamp {
        Timestamp::from_secs(NOW - ago)
    }

    fn notice(ago: i64) -> ReclaimNotice {
        ReclaimNotice { spot_status: "instance-terminated-no-capacity".into(), reclaim_at: at(ago) }
    }

    fn row(status: Status) -> Instance {
        let reclaim = (status == Status::Exited).then(|| Box::new(notice(60)));
        Instance {
            id: InstanceId::new("i-1"),
            name: "w".into(),
            status,
            billing: Billing::Spot,
            reclaim,
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: Seconds::new(NOW - 9000),
            started_at: Seconds::new(NOW - 9000),
            stopped_at: None,
        }
    }

    /// Each row: what is listed of it, how long ago it was last seen running, whether its reclaim is on record, whether the
    /// provider still tells of it, whether it was replaced, whether the listing is complete; the status it has then, and
    /// what becomes of the record.
    #[test]
    fn what_was_reclaimed_stays_until_it_is_replaced() {
        const DAY: i64 = 86_400;
        #[derive(Debug, PartialEq)]
        enum Then {
            Stays,
            Reclaimed,
            Seen,
            Goes,
        }
        use Then::{Goes, Reclaimed, Seen, Stays};
        let rows: &[(&str, Option<Status>, i64, bool, bool, bool, bool, Option<Status>, Then)] = &[
            ("it runs", Some(Status::Running), 0, false, false, false, true, Some(Status::Running), Stays),
            ("seen a day ago", Some(Status::Running), DAY + 1, false, false, false, true, Some(Status::Running), Seen),
            ("reclaimed", Some(Status::Exited), 900, false, false, false, true, Some(Status::Exited), Reclaimed),
            ("on record", Some(Status::Exited), 900, true, false, false, true, Some(Status::Exited), Stays),
            ("replaced", Some(Status::Exited), 900, true, false, true, true, Some(Status::Removed), Goes),
            (
                "ends, and nothing tells why",
                Some(Status::Removed),
                900,
                false,
                false,
                false,
                true,
                Some(Status::Removed),
                Stays,
            ),
            ("reclaimed, its row is gone", None, 900, true, false, false, true, Some(Status::Exited), Stays),
            ("reclaimed between two passes", None, 900, false, true, false, true, Some(Status::Exited), Reclaimed),
            ("gone, and nothing tells why", None, 900, false, false, false, true, None, Stays),
            ("gone for a week", None, 7 * DAY + 1, false, false, false, true, None, Goes),
            ("replaced, its row is gone", None, 900, true, true, true, true, None, Goes),
            ("its region was not read", None, 900, true, true, false, false, None, Stays),
        ];
        for (what, listed, seen, on_record, is_told, replaced, is_whole, status, then) in rows {
            let items: Vec<Instance> = listed.clone().map(row).into_iter().collect();
            let shortfall = (!is_whole).then(|| Shortfall::Nameless { rows: 1 });
            let instances = Listing { items, shortfall };
            let (jobs, abilities) = (Listing::complete(vec![]), Abilities::default());
            let mut snapshot = Snapshot { taken_at: at(0), instances, jobs, abilities };
            let kept = Kept {
                reclaim: on_record.then(|| notice(60)),
                ..Kept::of(&row(Status::Running), "m".into(), at(*seen))
            };
            let id = InstanceId::new("i-1");
            let heir = Kept::of(&row(Status::Running), "m".into(), at(0));
            let known = HashMap::from([(id.clone(), kept), (InstanceId::new("i-2"), heir)]);
            let mut recreations = HashMap::new();
            if *replaced {
                let planned = Recreation::planned("w", Cause::Reclaimed, "marker".into(), at(300));
                let step = Step::Closed { replacement: Some(InstanceId::new("i-2")) };
                recreations.insert(id.clone(), Recreation { step, ..planned });
            }
            let changes =
                complete(&mut snapshot, &known, &recreations, |it| (*it == id && *is_told).then(|| notice(60)));
            let changes: Vec<_> = changes.into_iter().filter(|(changed, _)| *changed == id).collect();
            let found = find(&snapshot.instances.items, &id);
            assert_eq!(found.map(|it| &it.status), status.as_ref(), "{what}");
            assert!(found.is_none_or(|it| it.status != Status::Exited || it.reclaim.is_some()), "{what}");
            let now = match changes.as_slice() {
                [] => Stays,
                [(_, None)] => Goes,
                [(_, Some(kept))] if kept.reclaim.is_some() => Reclaimed,
                [(_, Some(kept))] if kept.seen_at == at(0) => Seen,
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(&now, then, "{what}");
        }
    }

    /// An instance that runs and lacks its tag is not looked after any more; one that has ended loses its tags by itself.
    #[test]
    fn tags_that_go_with_their_instance_are_known_from_before() {
        let id = InstanceId::new("i-1");
        let known = HashMap::from([(id.clone(), Kept::of(&row(Status::Running), "m".into(), at(900)))]);
        let ended = Instance { aside: Some(Box::new(Aside::TerminatedByUser)), ..row(Status::Removed) };
        let (instances, jobs) = (Listing::complete(vec![ended]), Listing::complete(vec![]));
        let mut snapshot = Snapshot { taken_at: at(0), instances, jobs, abilities: Abilities::default() };
        let changes = complete(&mut snapshot, &known, &HashMap::new(), |_| None);
        assert_eq!(changes, [(id.clone(), None)], "what a person ended is forgotten");
        for (status, is_ours) in [(Status::Running, false), (Status::Exited, true)] {
            let bare = Instance { name: "".into(), aside: Some(Box::new(Aside::NotOptedIn)), ..row(status.clone()) };
            let (instances, jobs) = (Listing::complete(vec![bare]), Listing::complete(vec![]));
            let mut snapshot = Snapshot { taken_at: at(0), instances, jobs, abilities: Abilities::default() };
            let changes = complete(&mut snapshot, &known, &HashMap::new(), |_| None);
            let it = &snapshot.instances.items[0];
            assert_eq!((it.aside.is_none(), &*it.name), (is_ours, if is_ours { "w" } else { "" }), "{status}");
            assert_eq!(changes.iter().any(|(_, kept)| kept.is_none()), !is_ours, "{status}");
        }
    }

    /// A replacement that is reclaimed before a pass has seen it running is made of what the old instance was made of.
    #[test]
    fn a_replacement_inherits_what_it_is_made_of() {
        let (old, new) = (InstanceId::new("i-1"), InstanceId::new("i-2"));
        let known = HashMap::from([(
            old.clone(),
            Kept { reclaim: Some(notice(900)), ..Kept::of(&row(Status::Running), "m".into(), at(1800)) },
        )]);
        let planned = Recreation::planned("w", Cause::Reclaimed, "marker".into(), at(300));
        let step = Step::Closed { replacement: Some(new.clone()) };
        let recreations = HashMap::from([(old.clone(), Recreation { step, ..planned })]);
        for listed in [Some(Status::Exited), None] {
            let bare = |status| Instance { id: new.clone(), name: "".into(), ..row(status) };
            let (items, jobs) = (listed.clone().map(bare).into_iter().collect(), Listing::complete(vec![]));
            let instances = Listing::complete(items);
            let mut snapshot = Snapshot { taken_at: at(0), instances, jobs, abilities: Abilities::default() };
            let changes = complete(&mut snapshot, &known, &recreations, |id| (*id == new).then(|| notice(60)));
            let it = find(&snapshot.instances.items, &new).expect("it is down");
            assert_eq!((&it.status, &*it.name, it.reclaim.is_some()), (&Status::Exited, "w", true), "{listed:?}");
            let kept = changes.iter().find_map(|(id, kept)| kept.as_ref().filter(|_| *id == new));
            assert!(kept.is_some_and(|kept| kept.reclaim.is_some()), "{changes:?}");
            assert!(changes.contains(&(old.clone(), None)), "the old one is forgotten: {changes:?}");
            assert!(find(&snapshot.instances.items, &old).is_none(), "the old one is not down again");
        }
        assert_eq!(made_of(&new, &recreations), Some(&old));
    }
}
