//! Whether an exited instance was reclaimed, or may have been stopped by a person.
//!
//! Whatever creates a new instance and deletes the old one needs evidence: a person who stopped an instance may want its
//! disk. A migration does not: it can be stopped again, and its disk is as it was.

use super::ledger::Observation;
use crate::core::world::instance::Instance;
use crate::core::world::time::Timestamp;
use crate::core::world::times::{EVIDENCE_LIFE, LATEST_RECLAIM, RECLAIM_MARGIN};

/// When the instance was reclaimed, if that is proved: its row says so now, or an earlier pass saw it announced. The
/// reclaim must be newer than its last start and than `migrated_at`, its last accepted migration.
#[must_use]
pub fn reclaimed_at(
    instance: &Instance,
    seen: Option<&Observation>,
    migrated_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let seen = seen.filter(|seen| now.since(seen.last_seen_at) <= EVIDENCE_LIFE);
    let told_now = instance.reclaim.as_ref().map(|notice| notice.reclaim_at);
    let started_at = instance.started_at.map(Timestamp::from);
    // A stop from before the last start is not this one.
    let stopped_at = instance.stopped_at.map(Timestamp::from).filter(|at| started_at.is_none_or(|start| *at >= start));
    let down_at = stopped_at.or(seen.and_then(|seen| seen.down_seen_at)).unwrap_or(now);
    let is_newer = |reclaim_at: Timestamp| {
        let than = |at: Option<Timestamp>| at.is_none_or(|at| reclaim_at > at);
        than(started_at) && than(migrated_at)
    };
    // What went on running long after the announced end was not taken then.
    let is_too_late = |reclaim_at: Timestamp| stopped_at.is_some_and(|at| at > reclaim_at + LATEST_RECLAIM);
    let was_by_then = |reclaim_at: Timestamp| down_at + RECLAIM_MARGIN >= reclaim_at && !is_too_late(reclaim_at);
    [told_now, seen.map(|seen| seen.notice.reclaim_at)]
        .into_iter()
        .flatten()
        .find(|at| is_newer(*at) && was_by_then(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::{Billing, InstanceId, ReclaimNotice, Status};
    use crate::core::world::time::Seconds;

    const NOW: i64 = 1_700_000_000;

    fn at(ago: i64) -> Timestamp {
        Timestamp::from_secs(NOW - ago)
    }

    /// Each row: how long ago, in seconds, it started and stopped, was reclaimed by its row and by an earlier pass, was
    /// migrated; and whether it is proved.
    #[test]
    fn a_reclaim_is_proved_by_the_row_or_by_an_earlier_pass() {
        type Ago = Option<i64>;
        let rows: &[(&str, Ago, Ago, Ago, Ago, Ago, bool)] = &[
            ("nothing is said", Some(9000), Some(600), None, None, None, false),
            ("the row says so", Some(9000), Some(600), Some(600), None, None, true),
            ("the row alone, without times", None, None, Some(600), None, None, true),
            ("an earlier pass saw it announced", Some(9000), Some(600), None, Some(600), None, true),
            ("an old reclaim, before its last start", Some(500), Some(400), Some(600), None, None, false),
            ("an old announcement, before its last start", Some(500), Some(400), None, Some(600), None, false),
            ("an old reclaim, before its last migration", Some(9000), Some(600), Some(600), None, Some(300), false),
            ("reclaimed again after a migration", Some(9000), Some(600), Some(600), None, Some(900), true),
            ("stopped in the hour of notice", Some(9000), Some(1800), Some(-600), None, None, false),
            ("stopped in the hour of notice, seen earlier", Some(9000), Some(1800), None, Some(100), None, false),
            ("stopped two minutes before the announced end", Some(9000), Some(720), None, Some(600), None, true),
            ("stopped a second earlier", Some(9000), Some(721), None, Some(600), None, false),
            ("stopped after the announced end", Some(9000), Some(60), Some(600), None, None, true),
            ("stopped a day after the announced end", Some(200_000), Some(600), None, Some(87_000), None, false),
            ("first seen down after the announced end", Some(9000), None, None, Some(600), None, true),
            ("first seen down before the announced end", Some(9000), None, None, Some(-600), None, false),
            ("the stop is from an earlier life", Some(9000), Some(90_000), Some(600), None, None, true),
        ];
        for (what, started, stopped, told, seen, migrated, expected) in rows {
            let secs = |ago: Ago| ago.and_then(|ago| Seconds::new(NOW - ago));
            let notice = |ago: i64| ReclaimNotice { spot_status: "terminated".into(), reclaim_at: at(ago) };
            let instance = Instance {
                id: InstanceId::new("a"),
                name: "a".into(),
                status: Status::Exited,
                billing: Billing::Spot,
                reclaim: told.map(notice).map(Box::new),
                marker: None,
                aside: None,
                place: None,
                gpus: 1,
                created_at: None,
                started_at: secs(*started),
                stopped_at: secs(*stopped),
            };
            let seen = seen.map(|ago| Observation {
                notice: notice(ago),
                first_seen_at: at(ago + 3600),
                last_seen_at: at(ago + 60),
                down_seen_at: None,
            });
            let proved = reclaimed_at(&instance, seen.as_ref(), migrated.map(at), at(0));
            assert_eq!(proved.is_some(), *expected, "{what}: {proved:?}");
        }
    }
}
