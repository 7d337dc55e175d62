//! An explanation and the plan never disagree: whatever rule decides there is the one whose reason the plan gives.

use std::collections::BTreeMap;

use super::properties::{SEEDS, drawn, policy};
use super::recreations::{ago, id};
use super::*;
use crate::core::pass::explain::{Checked, RuleOutcome, explain};
use crate::core::pass::market::Market;

/// The rule that each reason of the plan comes from; written down here once more, by hand.
const RULE_OF_REASON: &[(&str, &[&str])] = &[
    ("not_selected", &["selected"]),
    ("excluded", &["not_excluded"]),
    ("out_of_scope", &["in_scope"]),
    ("extra_replacement", &["one_of_its_marker"]),
    ("recreation_open", &["no_recreation"]),
    ("recreation_unsettled", &["no_recreation"]),
    ("recreation_waits", &["no_recreation", "migration_not_failed", "room_at_home", "cooled_down"]),
    ("recreation_closed", &["no_recreation"]),
    ("recreation_ended", &["no_recreation"]),
    ("replacement_coming_up", &["no_recreation"]),
    ("replacement_running", &["no_recreation"]),
    ("replacement_abandoned", &["no_recreation"]),
    ("replacement_down", &["no_recreation"]),
    ("replaced", &["no_recreation"]),
    ("quarantined", &["no_recreation"]),
    ("migration_failed", &["no_recreation", "migration_not_failed", "not_migrating", "stopped"]),
    ("migration_stuck", &["no_recreation", "migration_not_failed"]),
    ("replacement_failed", &["migration_not_failed", "not_given_up"]),
    ("not_exited", &["stopped", "no_unfinished_job", "not_migrating"]),
    ("migration_stalled", &["not_migrating"]),
    ("job_unfinished", &["no_unfinished_job"]),
    ("call_unsettled", &["call_settled"]),
    ("no_reclaim_evidence", &["reclaim_evidence"]),
    ("not_failed", &["pass_migrates", "no_recreation"]),
    ("no_room", &["room_at_home"]),
    ("reclaimed", &["room_at_home", "cooled_down"]),
    ("unreadable_record", &["cooled_down"]),
    ("cooling_down", &["cooled_down"]),
    ("over_limit", &["within_limits"]),
];

/// What must be true of every explanation.
fn agrees(checked: &[Checked], decision: &Decision, story: &str) {
    let deciding: Vec<&Checked> = checked.iter().filter(|it| it.outcome.decides()).collect();
    match deciding[..] {
        [] => assert_eq!(decision.verdict(), Verdict::Migrate, "{story}: nothing decides"),
        [rule] => {
            let is_skip = decision.verdict() == Verdict::Skip;
            assert_eq!(rule.outcome, if is_skip { RuleOutcome::Stops } else { RuleOutcome::Acts }, "{story}: {rule:?}");
            let reason = decision.reason();
            let rules = RULE_OF_REASON.iter().find(|(known, _)| *known == reason).map(|(_, rules)| *rules);
            assert!(rules.is_some_and(|rules| rules.contains(&rule.rule)), "{story}: {reason} by {rule:?}");
        }
        _ => panic!("{story}: {deciding:?} all decide"),
    }
    // What is not reached comes after what decides, or after what a limit holds back.
    let mut before = checked.iter().take_while(|it| !it.outcome.decides());
    let is_open = |it: &Checked| matches!(it.outcome, RuleOutcome::Passes | RuleOutcome::DoesNotApply);
    assert!(before.all(is_open) || decision.reason() == "over_limit", "{story}: {checked:?}");
    assert!(checked.iter().all(|it| !it.detail.is_empty()), "{story}: every rule gives its facts");
}

#[test]
fn an_explanation_agrees_with_the_plan() {
    let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (instances, jobs, recreations, ledger) = drawn(&mut rng);
        let mut ledger = Ledger { recreations: recreations.into_iter().collect(), ..ledger };
        let mut policy = policy(&mut rng);
        for instance in &instances {
            match rng.u8(..6) {
                0..3 => drop(ledger.last_attempt.insert(instance.id.clone(), Stamp::At(ago(rng.i64(0..480))))),
                3 => drop(ledger.last_attempt.insert(instance.id.clone(), Stamp::Unreadable("soon".into()))),
                _ => {}
            }
            if rng.u8(..3) == 0 {
                let last_seen_at = ago(rng.i64(0..20_000));
                let seen = Observation { notice: notice(), first_seen_at: ago(90), last_seen_at, down_seen_at: None };
                ledger.observations.insert(instance.id.clone(), seen);
            }
        }
        if rng.u8(..3) == 0 {
            let mut market = Market::unseen(ago(5));
            market.refuse(1, ago(0));
            ledger.markets.insert(place(), market);
        }
        if rng.u8(..3) == 0 {
            policy.eligibility = Eligibility::Reclaimed;
        }
        if rng.u8(..8) == 0 {
            policy.only.push(Selector::parse("[a-f]").unwrap());
        }
        let mut snapshot = world(instances, jobs);
        if rng.u8(..10) == 0 {
            snapshot.instances.shortfall = Some(Shortfall::Rows { announced: 11, received: 10 });
        }
        let plan = plan(&snapshot, &ledger, &policy, now());
        for (instance, decision) in plan.rows(&snapshot.instances.items) {
            let checked = explain(&snapshot, &ledger, &policy, &plan, (instance, decision), now());
            agrees(&checked, decision, &format!("seed {seed}, {}", instance.id));
            for it in &checked {
                *seen.entry((it.rule, it.outcome.into_str())).or_default() += 1;
            }
            *reasons.entry(decision.reason()).or_default() += 1;
        }
    }
    let rules =
        ["selected", "not_excluded", "in_scope", "no_recreation", "stopped", "no_unfinished_job", "call_settled"];
    let more = [
        "reclaim_evidence",
        "migration_not_failed",
        "not_migrating",
        "pass_migrates",
        "room_at_home",
        "cooled_down",
        "within_limits",
    ];
    for rule in rules.into_iter().chain(more) {
        let stopped = seen.get(&(rule, "stops")).copied().unwrap_or(0);
        assert!(stopped > 20, "{rule} decides {stopped} times of {seen:?}");
    }
    for (reason, _) in RULE_OF_REASON {
        // Only a store that is full of lies has these; the tables of their own reach them.
        if !matches!(*reason, "recreation_ended" | "recreation_closed") {
            assert!(reasons.contains_key(reason), "{reason} never occurs: {reasons:?}");
        }
    }
}

/// The order is part of the contract: whoever reads an explanation reads it from the top.
#[test]
fn the_rules_have_their_order() {
    let snapshot = world(vec![exited("a")], vec![]);
    let (ledger, policy) = (Ledger::default(), Policy::default());
    let plan = plan(&snapshot, &ledger, &policy, now());
    let row = (&snapshot.instances.items[0], &plan.decisions[0]);
    let order: Vec<&str> =
        explain(&snapshot, &ledger, &policy, &plan, row, now()).into_iter().map(|it| it.rule).collect();
    assert_eq!(
        order.join(" "),
        "selected not_excluded ours in_scope one_of_its_marker not_in_rollout no_recreation not_announced \
         not_bridge stopped no_unfinished_job \
         call_settled reclaim_evidence migration_not_failed not_migrating not_given_up pass_migrates \
         configured room_at_home cooled_down within_limits"
    );
}

/// The facts of each rule, on one instance "a" that is changed a little in each row: the rule, its answer, and a part of
/// its sentence.
#[test]
fn every_rule_tells_its_facts() {
    type Row = (&'static str, fn(&mut Instance, &mut Vec<Job>, &mut Ledger, &mut Policy), &'static str, &'static str);
    fn seen(ledger: &mut Ledger) {
        let seen =
            Observation { notice: notice(), first_seen_at: hours(3), last_seen_at: hours(2), down_seen_at: None };
        ledger.observations.insert(id("a"), seen);
    }
    let rows: &[Row] = &[
        ("selected", |_, _, _, _| (), "does_not_apply", "no --only"),
        ("selected", |_, _, _, p| p.only.push(Selector::parse("name-*").unwrap()), "passes", "--only name-*"),
        ("not_excluded", |_, _, _, p| p.exclude.push(Selector::parse("z").unwrap()), "passes", "no --exclude names it"),
        ("in_scope", |i, _, _, _| i.billing = Billing::Unstated, "passes", "not stated, scope is spot"),
        ("in_scope", |i, _, _, _| i.billing = Billing::Monthly, "stops", "billing is monthly, scope is spot"),
        ("stopped", |_, _, _, _| (), "passes", "status is exited"),
        (
            "no_unfinished_job",
            |_, j, _, _| j.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Success, 9)),
            "passes",
            "newest migration is job j1 (success, of 2023-11-14T13:13:20.000Z)",
        ),
        (
            "no_unfinished_job",
            |i, j, _, _| {
                i.billing = Billing::Monthly;
                j.push(job("a", "j1", JobKind::SaveImage, JobState::Running, 1));
            },
            "would_stop",
            "job j1 (saveImage) is unfinished on it",
        ),
        ("reclaim_evidence", |_, _, l, _| seen(l), "does_not_apply", "eligibility is time; notified, reclaim at"),
        (
            "reclaim_evidence",
            |_, _, l, p| {
                seen(l);
                p.eligibility = Eligibility::Reclaimed;
            },
            "passes",
            "last seen at 2023-11-14T20:13:20.000Z",
        ),
        (
            "migration_not_failed",
            |_, _, _, p| p.halves = Halves::MigrateOnly,
            "does_not_apply",
            "RETRY_FAILED is false",
        ),
        (
            "migration_not_failed",
            |_, j, _, _| j.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 1)),
            "acts",
            "no node (job j1)",
        ),
        (
            "migration_not_failed",
            |_, j, _, p| {
                p.max_recreations = Some(0);
                j.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 1));
            },
            "passes",
            "no node (job j1)",
        ),
        ("cooled_down", |_, _, _, _| (), "passes", "no previous migration"),
        (
            "cooled_down",
            |_, _, l, _| drop(l.last_attempt.insert(id("a"), Stamp::At(hours(5)))),
            "passes",
            "2023-11-14T17:13:20.000Z, 5 h ago; the cooldown is 4 h",
        ),
        (
            "cooled_down",
            |i, _, l, _| {
                i.status = Status::Running;
                l.last_attempt.insert(id("a"), Stamp::At(hours(1)));
            },
            "would_stop",
            "cooling down until 2023-11-15T01:13:20.000Z",
        ),
        (
            "not_migrating",
            |i, j, _, p| {
                i.status = Status::Migrating;
                p.max_recreations = Some(0);
                j.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 1));
            },
            "would_stop",
            "its migration failed",
        ),
        (
            "no_unfinished_job",
            |i, j, _, _| {
                i.status = Status::Migrating;
                j.push(job("a", "j1", JobKind::AutoInstanceMigrate, JobState::Running, 1));
            },
            "stops",
            "status is migrating; job j1 (autoInstanceMigrate) is running",
        ),
        ("within_limits", |_, _, _, p| p.max_migrations = Some(2), "passes", "limit of 2"),
        ("within_limits", |_, _, _, p| p.max_migrations = Some(0), "stops", "over the limit of 0"),
    ];
    for (rule, change, answer, part) in rows {
        let (mut instance, mut jobs, mut ledger, mut policy) =
            (exited("a"), Vec::new(), Ledger::default(), Policy::default());
        change(&mut instance, &mut jobs, &mut ledger, &mut policy);
        let snapshot = world(vec![instance], jobs);
        let plan = plan(&snapshot, &ledger, &policy, now());
        let row = (&snapshot.instances.items[0], &plan.decisions[0]);
        let checked = explain(&snapshot, &ledger, &policy, &plan, row, now());
        agrees(&checked, row.1, rule);
        let found = checked.iter().find(|it| it.rule == *rule).expect("every rule is there");
        assert_eq!(found.outcome.into_str(), *answer, "{found:?}");
        assert!(found.detail.contains(part), "{found:?} lacks {part:?}");
    }
}
