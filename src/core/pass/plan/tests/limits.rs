//! Limits: how many recreations a pass may begin, and how many at once are taken for a mistake.

use super::recreations::{ago, created, failed, id, kept, open, replacement, stuck};
use super::*;
use crate::core::pass::safety::{BlastRadius, check};
use crate::core::pass::spell::Spell;
use crate::core::world::time::Seconds;

#[test]
fn over_the_limit_what_was_begun_comes_first_and_then_the_oldest() {
    let stopped =
        |text: &str, minutes: i64| Instance { stopped_at: Seconds::new(ago(minutes).as_secs()), ..stuck(text) };
    // "e" was begun by an earlier pass, "g" is gone with its specification kept; "d" says nothing of when it stopped.
    let instances = vec![stopped("a", 10), stopped("b", 30), stopped("c", 20), stuck("d"), stopped("e", 5)];
    let jobs = ["a", "b", "c", "d", "e"].map(failed).to_vec();
    let begun = |step| Recreation { failures: 1, ..open(step, 9) };
    let ledger = Ledger {
        recreations: [
            (id("e"), begun(Step::Pending { kept: None })),
            (id("g"), begun(Step::Pending { kept: Some(kept()) })),
        ]
        .into(),
        ..Ledger::default()
    };
    let snapshot = world(instances, jobs);
    for (limit, expected) in [
        (Some(0), ""),
        (Some(1), "g"),
        (Some(2), "e g"),
        (Some(3), "b e g"),
        (Some(4), "b c e g"),
        (Some(5), "a b c e g"),
        (Some(6), "a b c d e g"),
        (None, "a b c d e g"),
    ] {
        let policy = Policy { max_recreations: limit, ..Policy::default() };
        let plan = plan(&snapshot, &ledger, &policy, now());
        let work = plan.work(&snapshot.instances.items);
        let mut creating: Vec<_> = work.recreations.iter().map(|work| work.instance.to_string()).collect();
        creating.sort();
        assert_eq!(creating.join(" "), expected, "{limit:?}");
        // What is gone already counts for the limit, not for the blast radius.
        assert_eq!(plan.creations(), creating.iter().filter(|id| *id != "g").count());
        let over = plan.decisions.iter().filter(|it| it.reason() == "over_limit").count();
        assert_eq!(over, 6 - creating.len(), "{limit:?}: the rest is told");
    }
}

/// What was refused goes behind what was not tried, or was refused less often: under a limit it would starve the others.
#[test]
fn what_was_refused_comes_last() {
    let stopped = |text: &str, minutes: i64| Instance {
        stopped_at: Seconds::new(ago(minutes).as_secs()),
        ..Instance { status: Status::Exited, ..stuck(text) }
    };
    let snapshot = world(vec![stopped("a", 30), stopped("b", 20), stopped("c", 10)], Vec::new());
    let to_create = world(["a", "b", "c"].map(stuck).to_vec(), ["a", "b", "c"].map(failed).to_vec());
    let policy = Policy { max_migrations: Some(1), max_recreations: Some(1), ..Policy::default() };
    for (rejected, first) in [([0, 0, 0], "a"), ([1, 0, 0], "b"), ([1, 1, 0], "c"), ([1, 1, 1], "a"), ([2, 1, 1], "b")]
    {
        let spells = ["a", "b", "c"].into_iter().zip(rejected);
        let spells = spells.map(|(name, rejected_calls)| (id(name), Spell { rejected_calls, ..Spell::default() }));
        let ledger = Ledger { spells: spells.collect(), ..Ledger::default() };
        let work = plan(&snapshot, &ledger, &policy, now());
        let work = work.work(&snapshot.instances.items);
        let migrated: Vec<_> = work.migrations.iter().map(|it| it.instance.id.as_str()).collect();
        assert_eq!(migrated, [first], "{rejected:?}");
        let work = plan(&to_create, &ledger, &policy, now());
        let work = work.work(&to_create.instances.items);
        let created: Vec<_> = work.recreations.iter().map(|it| it.instance.as_str()).collect();
        assert_eq!(created, [first], "{rejected:?}");
    }
}

/// A limit on creations holds back nothing else of a recreation.
#[test]
fn deletions_of_what_is_replaced_are_not_limited() {
    let snapshot = world(vec![stuck("a"), replacement("r", "running")], vec![failed("a")]);
    let ledger = Ledger { recreations: [(id("a"), open(created(), 9))].into(), ..Ledger::default() };
    let policy = Policy { max_recreations: Some(0), ..Policy::default() };
    assert_eq!(plan(&snapshot, &ledger, &policy, now()).decisions[0].reason(), "replacement_running");
}

/// Boundaries of the blast radius: managed instances, of which so many failed, the share, force; what is refused.
#[test]
fn suspiciously_many_recreations_are_refused_with_the_numbers() {
    let rows: &[(usize, usize, u64, bool, Option<usize>)] = &[
        (1, 1, 30, false, None),
        (3, 3, 30, false, None),
        (4, 4, 30, false, Some(3)),
        (4, 3, 1, false, None),
        (13, 4, 30, false, Some(3)),
        (14, 4, 30, false, None),
        (19, 6, 30, false, Some(5)),
        (20, 6, 30, false, None),
        (20, 7, 30, false, Some(6)),
        (20, 7, 30, true, None),
        (100, 30, 30, false, None),
        (100, 31, 30, false, Some(30)),
        (100, 31, 31, false, None),
        (100, 100, 100, false, None),
        (100, 4, 1, false, Some(3)),
        (100, 100, 30, true, None),
    ];
    for (managed, count, percent, force, allowed) in rows {
        let text = |n: usize| format!("i{n:03}");
        let instances = (0..*managed).map(|n| if n < *count { stuck(&text(n)) } else { exited(&text(n)) });
        // Those that are not managed count for nothing.
        let others = (0..100).map(|n| Instance { billing: Billing::Monthly, ..stuck(&format!("other-{n}")) });
        let jobs = (0..*count).map(|n| failed(&text(n))).collect();
        let snapshot = world(instances.chain(others).collect(), jobs);
        let plan = plan(&snapshot, &Ledger::default(), &Policy::default(), now());
        assert_eq!((plan.managed, plan.creations()), (*managed, *count));
        let refused = check(&snapshot, &plan, BlastRadius { percent: *percent, force: *force });
        let expected = allowed.map(|allowed| {
            format!(
                "this pass would recreate {count} of {managed} managed instances, allowed are {allowed} \
                 (the larger of 3 and {percent} %)"
            )
        });
        assert_eq!(refused.err().map(|refused| refused.to_string()), expected);
    }
}
