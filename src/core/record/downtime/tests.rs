//! Stories of one instance, told look by look with the plan's own decisions.

mod figures;

use super::*;
use crate::core::pass::ledger::{Call, InFlight, Observation, Stamp};
use crate::core::pass::plan;
use crate::core::pass::spell::Part::{ComingUp, Failed, HeldBack, NoRoom, Noticing};
use crate::core::recreation::journal::Cause;
use crate::core::world::instance::{Billing, Job, JobId, JobKind, JobState, ReclaimNotice};
use crate::core::world::policy::{Eligibility, Policy, Selector};
use crate::core::world::snapshot::{Listing, Shortfall};
use crate::core::world::time::Seconds;

/// 2026-01-15T12:00:00Z.
const NOON: i64 = 1_768_478_400;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_secs(NOON + 60 * minutes)
}

fn secs(minutes: i64) -> Option<Seconds> {
    Seconds::new(NOON + 60 * minutes)
}

/// A row that was started ten hours ago.
fn row(id: &str, status: Status) -> Instance {
    Instance {
        id: InstanceId::new(id),
        name: id.into(),
        status,
        billing: Billing::Spot,
        reclaim: None,
        marker: None,
        aside: None,
        place: None,
        gpus: 1,
        created_at: None,
        started_at: secs(-600),
        stopped_at: None,
    }
}

fn stopped(id: &str, minute: i64) -> Instance {
    Instance { stopped_at: secs(minute), ..row(id, Status::Exited) }
}

fn started(id: &str, minute: i64) -> Instance {
    Instance { started_at: secs(minute), ..row(id, Status::Running) }
}

fn announced(instance: Instance, minute: i64) -> Instance {
    let notice = ReclaimNotice { spot_status: "notified".into(), reclaim_at: at(minute) };
    Instance { reclaim: Some(Box::new(notice)), ..instance }
}

fn job(id: &str, state: JobState, minute: i64) -> Job {
    Job {
        id: JobId::new("j"),
        instance: InstanceId::new(id),
        kind: JobKind::InstanceMigrate,
        state,
        created_at: Some(at(minute)),
        error: None,
    }
}

fn call(minute: i64) -> InFlight {
    InFlight {
        instance_name: "a".into(),
        called_at: at(minute),
        pass: "p".into(),
        job_before: None,
        previous_attempt: None,
        call: Call::Accepted,
    }
}

fn attempt(id: &str, action: Action, outcome: Outcome, minute: i64) -> Attempt {
    Attempt { outcome, ..Attempt::new(&InstanceId::new(id), id, action, at(minute)) }
}

fn refused(id: &str, minute: i64) -> Attempt {
    attempt(id, Action::Migrate, Outcome::NoRoom, minute)
}

/// A provider, a store and a policy, and the downtime ledger between passes.
struct Story {
    ledger: Ledger,
    policy: Policy,
    ended: Vec<Spell>,
}

impl Story {
    fn new() -> Self {
        Self { ledger: Ledger::default(), policy: Policy::default(), ended: Vec::new() }
    }

    /// A story whose first look, a quarter before noon, saw everything running.
    fn of(ids: &[&str]) -> Self {
        let mut story = Self::new();
        let rows = ids.iter().map(|id| row(id, Status::Running)).collect();
        story.pass(-15, rows, vec![], &[]);
        story
    }

    fn look(&mut self, minute: i64, instances: Listing<Instance>, jobs: Vec<Job>) -> Downtime {
        let jobs = Listing::complete(jobs);
        let snapshot = Snapshot { taken_at: at(minute), instances, jobs, abilities: Default::default() };
        let plan = plan::plan(&snapshot, &self.ledger, &self.policy, at(minute));
        let mut downtime = Downtime::of(&self.ledger);
        downtime.look((&snapshot, &self.ledger), &plan);
        for (id, seen) in plan.observations {
            self.ledger.observations.remove(&id);
            self.ledger.observations.extend(seen.map(|seen| (id, seen)));
        }
        for (id, recreation) in plan.journal {
            self.ledger.recreations.remove(&id);
            self.ledger.recreations.extend(recreation.map(|it| (id, it)));
        }
        downtime
    }

    /// One pass: a look, and what it tried.
    fn pass(&mut self, minute: i64, mut rows: Vec<Instance>, jobs: Vec<Job>, attempts: &[Attempt]) {
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        let mut downtime = self.look(minute, Listing::complete(rows), jobs);
        downtime.close(attempts, &[], (&Bridges::new(), &Markets::new()), at(minute));
        self.store(downtime);
    }

    /// As the store does.
    fn store(&mut self, mut downtime: Downtime) {
        for change in downtime.changes() {
            match change {
                DowntimeChange::Open(id, None) => drop(self.ledger.spells.remove(&id)),
                DowntimeChange::Open(id, Some(spell)) => drop(self.ledger.spells.insert(id, spell)),
                DowntimeChange::Ended(spell) => self.ended.push(spell),
                DowntimeChange::Day(day, sums) => drop(self.ledger.days.insert(day, sums)),
                DowntimeChange::Instances(day, ran) => drop(self.ledger.instance_days.insert(day, ran)),
            }
        }
        assert_eq!(downtime.changes(), [], "each once");
    }

    fn open(&self, id: &str) -> &Spell {
        self.ledger.spells.get(&InstanceId::new(id)).unwrap_or_else(|| panic!("{id} has no spell"))
    }

    /// The only ended spell, in minutes by part.
    fn told(&self) -> (Option<SpellEnd>, Vec<(Part, i64)>) {
        let [spell] = &self.ended[..] else { panic!("{:?}", self.ended) };
        let length: i64 = spell.parts.iter().map(|(_, length)| length).sum();
        assert_eq!(spell.ended_at.map(Timestamp::as_millis), Some(spell.down_at.as_millis() + length));
        (spell.end, minutes(spell))
    }
}

fn minutes(spell: &Spell) -> Vec<(Part, i64)> {
    spell.parts.iter().map(|(part, length)| (*part, length / 60_000)).collect()
}

#[test]
fn a_spell_starts_only_for_what_is_to_run() {
    use Eligibility::{Reclaimed, Time};
    type Change = fn(&mut Story);
    let nothing: Change = |_| {};
    let seen: Change = |story| {
        let notice = ReclaimNotice { spot_status: "notified".into(), reclaim_at: at(-10) };
        let seen = Observation { notice, first_seen_at: at(-60), last_seen_at: at(-15), down_seen_at: None };
        story.ledger.observations.insert(InstanceId::new("a"), seen);
    };
    let cooling: Change = |story| {
        story.ledger.last_attempt.insert(InstanceId::new("a"), Stamp::At(at(-60)));
    };
    let excluded: Change = |story| story.policy.exclude = vec![Selector::parse("a").expect("a pattern")];
    let only_failed: Change = |story| story.policy.halves = crate::core::world::policy::Halves::RecreateOnly;
    let on_demand = Instance { billing: Billing::OnDemand, ..stopped("a", -5) };
    let rows: [(&str, Eligibility, Instance, Change, bool); 14] = [
        ("exited", Time, stopped("a", -5), nothing, true),
        ("stopped by a person", Reclaimed, stopped("a", -5), nothing, false),
        ("reclaimed", Reclaimed, announced(stopped("a", -5), -5), nothing, true),
        ("announced earlier", Reclaimed, stopped("a", -5), seen, true),
        ("cooling down", Time, stopped("a", -5), cooling, true),
        ("migrating", Reclaimed, row("a", Status::Migrating), nothing, true),
        ("running", Time, row("a", Status::Running), nothing, false),
        ("announced and running", Time, announced(row("a", Status::Running), 30), nothing, false),
        ("stopping", Time, row("a", Status::Stopping), nothing, false),
        ("removed", Time, row("a", Status::Removing), nothing, false),
        ("not spot", Time, on_demand, nothing, false),
        ("excluded", Time, announced(stopped("a", -5), -5), excluded, false),
        ("check-failed", Time, stopped("a", -5), only_failed, false),
        ("check-failed, reclaimed", Time, announced(stopped("a", -5), -5), only_failed, true),
    ];
    for (what, eligibility, instance, change, expected) in rows {
        let mut story = Story::of(&["a"]);
        story.policy.eligibility = eligibility;
        change(&mut story);
        story.pass(0, vec![instance], vec![], &[]);
        assert_eq!(story.ledger.spells.len(), usize::from(expected), "{what}");
    }
}

#[test]
fn a_spell_starts_when_the_provider_says() {
    use DownFrom::{FirstLook, Reclaim, Stop};
    let unstopped = |instance: Instance| Instance { stopped_at: None, ..instance };
    let rows = [
        ("stop time", stopped("a", -5), -5, Stop),
        ("before the last look, which saw it running", stopped("a", -40), -15, FirstLook),
        ("before it was started", stopped("a", -700), 0, FirstLook),
        ("ahead of the clock", stopped("a", 5), 0, FirstLook),
        ("reclaim time", announced(unstopped(stopped("a", 0)), -7), -7, Reclaim),
        ("reclaim time ahead", announced(unstopped(stopped("a", 0)), 7), 0, FirstLook),
        ("no time", unstopped(stopped("a", 0)), 0, FirstLook),
    ];
    for (what, instance, minute, from) in rows {
        let mut story = Story::of(&["a"]);
        story.pass(0, vec![instance], vec![], &[]);
        let spell = story.open("a");
        assert_eq!((spell.down_at, spell.down_from, spell.seen_at), (at(minute), from, at(0)), "{what}");
    }
    // Before the first look of all nothing was watched.
    let mut story = Story::new();
    story.pass(0, vec![stopped("a", -500)], vec![], &[]);
    assert_eq!((story.open("a").down_at, story.open("a").down_from), (at(0), FirstLook));
}

#[test]
fn each_part_of_a_spell_has_its_cause() {
    // Migrated by the first pass that sees it, up before the next one.
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, 0)]);
    assert_eq!(story.open("a").accepted_at, Some(at(0)));
    story.pass(15, vec![started("a", 4)], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::InPlace), vec![(Noticing, 10), (ComingUp, 4)]));

    // No room twice, then it comes up, which the provider gives no time for.
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    story.pass(15, vec![stopped("a", -10)], vec![], &[refused("a", 15)]);
    let accepted = attempt("a", Action::Migrate, Outcome::Unknown, 30);
    story.pass(30, vec![stopped("a", -10)], vec![], &[refused("a", 30), accepted]);
    assert_eq!(story.open("a").first_tried_at, Some(at(0)));
    story.pass(45, vec![Instance { started_at: None, ..row("a", Status::Running) }], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::InPlace), vec![(Noticing, 10), (NoRoom, 30), (ComingUp, 15)]));

    // Accepted, and the job fails: that was not coming up. The recreation elsewhere is.
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, 0)]);
    story.ledger.in_flight.insert(InstanceId::new("a"), call(0));
    story.pass(15, vec![row("a", Status::Migrating)], vec![job("a", JobState::Running, 0)], &[]);
    assert_eq!((story.open("a").part, story.open("a").accepted_at), (ComingUp, Some(at(0))));
    let recreated = attempt("a", Action::Recreate, Outcome::Accepted, 30);
    let recreated = Attempt { new_instance_id: Some(InstanceId::new("b")), ..recreated };
    story.pass(30, vec![row("a", Status::Migrating)], vec![job("a", JobState::Fail, 0)], &[recreated]);
    assert_eq!(minutes(story.open("a")), [(Noticing, 10), (Failed, 30)]);
    assert_eq!(story.open("a").ids, ["a", "b"].map(InstanceId::new));
    let created = Step::Created { replacement: InstanceId::new("b"), kept: None };
    let recreation = Recreation::planned("a", Cause::Found, "m".into(), at(30));
    let recreation = Recreation { step: created, pass: "p".into(), ..recreation };
    story.ledger.recreations.insert(InstanceId::new("a"), recreation);
    story.pass(45, vec![row("a", Status::Migrating), row("b", Status::Pulling)], vec![], &[]);
    story.pass(60, vec![row("a", Status::Migrating), started("b", 50)], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::Elsewhere), vec![(Noticing, 10), (Failed, 30), (ComingUp, 20)]));
    assert!(story.ledger.spells.is_empty());

    // Held back by the cooldown, then by a limit.
    let mut story = Story::of(&["a"]);
    story.ledger.last_attempt.insert(InstanceId::new("a"), Stamp::At(at(-60)));
    story.pass(0, vec![stopped("a", -10)], vec![], &[]);
    let held = |reason: &str, since, until: Option<i64>| {
        Some(HeldBy { reason: reason.into(), since: at(since), until: until.map(at) })
    };
    assert_eq!(story.open("a").held_by, held("cooling_down", 0, Some(180)));
    story.pass(15, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!(story.open("a").held_by, held("cooling_down", 0, Some(180)), "since when it first did");
    story.ledger.last_attempt.clear();
    story.policy.max_migrations = Some(0);
    story.pass(30, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!(story.open("a").held_by, held("over_limit", 30, None));
    story.pass(45, vec![started("a", 45)], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::InPlace), vec![(Noticing, 10), (HeldBack, 45)]));

    // It was the turn of this pass, and the pass was stopped.
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Skipped, 0)]);
    assert_eq!(story.open("a").held_by, held("not_started", 0, None));
    // Another error than lack of room.
    let failed = Attempt { error_kind: Some(ErrorKind::Billing), ..attempt("a", Action::Migrate, Outcome::Failed, 15) };
    story.pass(15, vec![stopped("a", -10)], vec![], &[failed]);
    story.pass(30, vec![started("a", 20)], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::InPlace), vec![(Noticing, 10), (HeldBack, 15), (Failed, 5)]));
}

#[test]
fn what_rests_or_waits_for_its_wave_says_so() {
    let no_room = Skip::NoRoom { until: Some(at(4)), detail: "nowhere".into(), is_proved: true };
    for (skip, part, reason, until) in [
        (no_room, NoRoom, "no_room", Some(at(4))),
        (Skip::NextWave { limit: 3 }, HeldBack, "next_wave", None),
        (Skip::RecreationOpen, HeldBack, "recreation_open", None),
    ] {
        let instances = Listing::complete(vec![stopped("a", -10)]);
        let (jobs, abilities) = (Listing::complete(vec![]), Default::default());
        let snapshot = Snapshot { taken_at: at(0), instances, jobs, abilities };
        let plan = Plan { decisions: vec![Decision::Skip(skip)], ..Plan::default() };
        let mut story = Story::of(&["a"]);
        let mut downtime = Downtime::of(&story.ledger);
        downtime.look((&snapshot, &story.ledger), &plan);
        story.store(downtime);
        let held_by = HeldBy { reason: reason.into(), since: at(0), until };
        assert_eq!((story.open("a").part, &story.open("a").held_by), (part, &Some(held_by)));
    }
}

#[test]
fn an_accepted_call_is_awaited_while_nothing_proves_it_lost() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, 0)]);
    story.ledger.in_flight.insert(InstanceId::new("a"), call(0));
    story.ledger.last_attempt.insert(InstanceId::new("a"), Stamp::At(at(0)));
    story.pass(1, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!(minutes(story.open("a")), [(Noticing, 10), (ComingUp, 1)], "it is not held back by its own call");
    // Three minutes later it is proved to have had no effect, and nothing holds it back.
    story.pass(4, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!(minutes(story.open("a")), [(Noticing, 10), (Failed, 4)]);
    assert_eq!(story.open("a").held_by, None);
}

#[test]
fn a_pass_that_recreates_and_sees_it_running_ends_the_spell() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    let mut downtime = story.look(15, Listing::complete(vec![stopped("a", -10)]), vec![]);
    let done = attempt("a", Action::Recreate, Outcome::Done, 15);
    let done = Attempt { new_instance_id: Some(InstanceId::new("b")), ..done };
    // The same news twice, and one of an instance that was never down.
    let ahead = Attempt { instance_id: InstanceId::new("c"), ..done.clone() };
    downtime.close(&[done.clone(), done, ahead], &[], (&Bridges::new(), &Markets::new()), at(17));
    story.store(downtime);
    let ends: Vec<_> = story.ended.iter().map(|it| (it.ids[0].as_str(), it.end, it.length(at(17)) / 60_000)).collect();
    assert_eq!(ends, [("a", Some(SpellEnd::Elsewhere), 27), ("c", Some(SpellEnd::Ahead), 0)]);
    assert_eq!(story.ledger.days[ALL_TIME].recovered, 1, "nothing had to be recovered for the other");
}

#[test]
fn a_pass_of_several_rounds_notes_each_attempt_once() {
    let down = || Listing::complete(vec![stopped("a", -10)]);
    let mut story = Story::of(&["a"]);
    let mut downtime = story.look(0, down(), vec![]);
    let mut attempts = vec![refused("a", 0)];
    downtime.note(&attempts);
    let look = |story: &Story, downtime: &mut Downtime, minute: i64, rows: Vec<Instance>| {
        let jobs = Listing::complete(vec![]);
        let instances = Listing::complete(rows);
        let snapshot = Snapshot { taken_at: at(minute), instances, jobs, abilities: Default::default() };
        let plan = plan::plan(&snapshot, &story.ledger, &story.policy, at(minute));
        downtime.look((&snapshot, &story.ledger), &plan);
    };
    look(&story, &mut downtime, 1, vec![stopped("a", -10)]);
    let done = attempt("a", Action::Recreate, Outcome::Done, 1);
    attempts.push(Attempt { new_instance_id: Some(InstanceId::new("b")), ..done });
    downtime.note(&attempts);
    // The next round sees the replacement, and since when it runs.
    let recreation = Recreation::planned("a", Cause::Found, "m".into(), at(1));
    let step = Step::Closed { replacement: Some(InstanceId::new("b")) };
    story.ledger.recreations.insert(InstanceId::new("a"), Recreation { step, pass: "p".into(), ..recreation });
    look(&story, &mut downtime, 3, vec![Instance { started_at: secs(2), ..row("b", Status::Running) }]);
    downtime.close(&attempts, &[], (&Bridges::new(), &Markets::new()), at(4));
    story.store(downtime);
    assert_eq!(story.told(), (Some(SpellEnd::Elsewhere), vec![(Noticing, 10), (NoRoom, 1), (ComingUp, 1)]));

    // What an earlier round was refused says nothing about the call that a later one awaits.
    let mut story = Story::of(&["a"]);
    let mut downtime = story.look(0, down(), vec![]);
    let attempts = [refused("a", 0), attempt("a", Action::Migrate, Outcome::Accepted, 0)];
    downtime.note(&attempts);
    story.ledger.in_flight.insert(InstanceId::new("a"), call(0));
    look(&story, &mut downtime, 1, vec![stopped("a", -10)]);
    downtime.close(&attempts, &[], (&Bridges::new(), &Markets::new()), at(1));
    story.store(downtime);
    assert_eq!(minutes(story.open("a")), [(Noticing, 10), (ComingUp, 1)]);
}

#[test]
fn one_that_ran_between_two_looks_was_down_twice() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, 0)]);
    let again = Instance { started_at: secs(4), ..stopped("a", 12) };
    story.pass(15, vec![again], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::InPlace), vec![(Noticing, 10), (ComingUp, 4)]));
    assert_eq!((story.open("a").down_at, minutes(story.open("a"))), (at(12), vec![(Noticing, 3)]));
    // Up for five minutes before the first stop, and for eight in between.
    assert_eq!(story.ledger.days[ALL_TIME].running_seconds, (5 + 8) * 60);
}

#[test]
fn what_is_not_to_run_any_more_is_given_up() {
    let down = || {
        let mut story = Story::of(&["a"]);
        story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
        story
    };
    // Deleted by a person.
    for rows in [vec![], vec![row("a", Status::Removing)]] {
        let mut story = down();
        story.pass(15, rows, vec![], &[]);
        assert_eq!(story.told(), (Some(SpellEnd::GivenUp), vec![(Noticing, 10), (NoRoom, 15)]));
        assert_eq!(story.ledger.days[ALL_TIME].recovered, 0);
    }
    // A gap in the listing proves nothing.
    let mut story = down();
    let shortfall = Some(Shortfall::Rows { announced: 1, received: 0 });
    let downtime = story.look(15, Listing { items: vec![], shortfall }, vec![]);
    story.store(downtime);
    assert_eq!((minutes(story.open("a")), story.ended.len()), (vec![(Noticing, 10)], 0));
    // A pass with another selection says nothing about it, for two hours.
    let mut story = down();
    story.policy.only = vec![Selector::parse("b").expect("a pattern")];
    story.pass(120, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!((minutes(story.open("a")), story.ended.len()), (vec![(Noticing, 10)], 0));
    story.pass(121, vec![stopped("a", -10)], vec![], &[]);
    assert_eq!(story.told(), (Some(SpellEnd::GivenUp), vec![(Noticing, 10)]));
    assert!(story.ledger.spells.is_empty());
}

#[test]
fn a_spell_goes_on_with_the_replacement_that_went_down() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    let recreation = Recreation::planned("a", Cause::Found, "m".into(), at(5));
    let step = Step::Created { replacement: InstanceId::new("b"), kept: None };
    let recreation = Recreation { step, pass: "p".into(), ..recreation };
    story.ledger.recreations.insert(InstanceId::new("a"), recreation);
    // The old one is gone, so that the new one is an instance like any other.
    story.pass(15, vec![stopped("b", 10)], vec![], &[]);
    assert!(!story.ledger.spells.contains_key(&InstanceId::new("a")));
    assert_eq!((story.open("b").down_at, story.open("b").ids.len(), story.ended.len()), (at(-10), 2, 0));
    story.pass(30, vec![started("b", 30)], vec![], &[]);
    assert_eq!(story.told().0, Some(SpellEnd::InPlace));
}

/// Its replacement runs, and the deletion has no effect: no pass finds it down again.
#[test]
fn what_only_waits_to_be_deleted_was_down_once() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    let step = Step::Deleted { replacement: InstanceId::new("b") };
    let planned = Recreation::planned("a", Cause::Reclaimed, "m".into(), at(5));
    let recreation = Recreation { step, since: at(5), pass: "p".into(), ..planned };
    story.ledger.recreations.insert(InstanceId::new("a"), recreation);
    for minute in [15, 30, 45] {
        let done = Attempt {
            new_instance_id: Some(InstanceId::new("b")),
            ..attempt("a", Action::Resume, Outcome::Done, minute)
        };
        story.pass(minute, vec![stopped("a", -10), started("b", 5)], vec![], &[done]);
    }
    assert_eq!((story.ended.len(), story.ledger.spells.len()), (1, 0), "{:?}", story.ended);
    assert_eq!(story.ended[0].end, Some(SpellEnd::Elsewhere));
}

#[test]
fn refused_calls_are_counted_for_their_spell() {
    let write = |id: &str, outcome, kind| ProviderWrite {
        at: at(15),
        call: WriteCall::Create,
        instance_id: InstanceId::new(id),
        instance_name: id.into(),
        outcome,
        error_kind: kind,
        error: None,
        new_instance_id: None,
        market: None,
        response_time: None,
    };
    let full = |id: &str| write(id, WriteOutcome::Refused, Some(ErrorKind::Capacity));
    let mut story = Story::of(&["a", "b"]);
    let mut downtime = story.look(0, Listing::complete(vec![stopped("a", -10), stopped("b", -9)]), vec![]);
    let done = attempt("b", Action::Recreate, Outcome::Done, 1);
    let done = Attempt { new_instance_id: Some(InstanceId::new("c")), ..done };
    let other = write("a", WriteOutcome::Refused, Some(ErrorKind::State));
    let unknown = write("a", WriteOutcome::Unknown, None);
    downtime.close(
        &[done],
        &[full("a"), full("b"), full("a"), other, unknown, full("x")],
        (&Bridges::new(), &Markets::new()),
        at(1),
    );
    story.store(downtime);
    let ended: Vec<_> = story.ended.iter().map(|it| (it.ids[0].as_str(), it.refused_calls)).collect();
    assert_eq!((story.open("a").refused_calls, ended), (2, vec![("b", 1)]));
}

#[test]
fn notices_are_counted_once_with_what_became_of_them() {
    let counts = |story: &Story| {
        let all = &story.ledger.days[ALL_TIME];
        (all.announced, all.taken, all.withdrawn)
    };
    let mut story = Story::of(&["a", "b"]);
    let both = |a: Instance, b: Instance| vec![a, b];
    let told = |id: &str| announced(row(id, Status::Running), 30);
    story.pass(0, both(told("a"), told("b")), vec![], &[]);
    story.pass(15, both(told("a"), told("b")), vec![], &[]);
    assert_eq!(counts(&story), (2, 0, 0));
    story.pass(30, both(announced(stopped("a", 30), 30), row("b", Status::Running)), vec![], &[refused("a", 30)]);
    assert_eq!(counts(&story), (2, 1, 1));
    story.pass(45, both(started("a", 40), row("b", Status::Running)), vec![], &[]);
    assert_eq!(counts(&story), (2, 1, 1), "one that came true is not withdrawn when the instance is back");
    assert!(story.ledger.observations.is_empty());
    // One that was down at first sight was not announced ahead.
    story.pass(60, both(announced(stopped("a", 50), 50), row("b", Status::Running)), vec![], &[]);
    assert_eq!(counts(&story), (2, 1, 1));
}

#[test]
fn running_time_is_counted_as_it_was_watched() {
    let running = |story: &Story| story.ledger.days[ALL_TIME].running_seconds / 60;
    let mut story = Story::of(&["a", "b"]);
    assert_eq!(running(&story), 0, "nothing is known of the time before");
    story.pass(0, vec![row("a", Status::Running), started("b", -5)], vec![], &[]);
    assert_eq!(running(&story), 15 + 5);
    // Down since minute 10: ten minutes of it are up time; the lost ones belong to the spell.
    story.pass(15, vec![row("a", Status::Running), stopped("b", 10)], vec![], &[]);
    assert_eq!(running(&story), 20 + 15 + 10);
    // A start time proves that it ran all the time; without one an hour is believed.
    let unproved = Instance { started_at: None, ..row("b", Status::Running) };
    story.pass(135, vec![row("a", Status::Running), unproved], vec![], &[]);
    assert_eq!(running(&story), 45 + 120 + 60);

    // Of an old one and its replacement that run side by side, one counts.
    let mut story = Story::of(&["a"]);
    let recreation = Recreation::planned("a", Cause::Found, "m".into(), at(-20));
    let step = Step::Created { replacement: InstanceId::new("b"), kept: None };
    story.ledger.recreations.insert(InstanceId::new("a"), Recreation { step, pass: "p".into(), ..recreation });
    story.pass(0, vec![row("a", Status::Running), started("b", -10)], vec![], &[]);
    assert_eq!(running(&story), 15);
}

#[test]
fn a_long_spell_stays_small_and_keeps_its_sums() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    for n in 1..=100 {
        let [early, late] = [20 * n, 20 * n + 10];
        story.pass(early, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, early)]);
        story.pass(late, vec![stopped("a", -10)], vec![], &[refused("a", late)]);
    }
    let spell = story.open("a").clone();
    assert!(spell.parts.len() <= 16, "{:?}", spell.parts);
    let sum = |wanted| minutes(&spell).iter().filter(|(part, _)| *part == wanted).map(|(_, it)| it).sum::<i64>();
    assert_eq!((sum(Noticing), sum(NoRoom), sum(Failed), sum(ComingUp)), (10, 1010, 1000, 0));
    let length = serde_json::to_string(&spell).expect("JSON").len();
    assert!(length < 700, "{length} bytes");
    story.pass(2020, vec![started("a", 2015)], vec![], &[]);
    // Cut at midnight, so that each day has its share.
    let days = &story.ledger.days;
    let lost: Vec<i64> = ["2026-01-15", "2026-01-16", ALL_TIME].map(|day| days[day].lost.total() / 60_000).into();
    assert_eq!(lost, [10 + 720, 1295, 2025]);
}

#[test]
fn a_typical_spell_is_small_and_an_empty_record_is_one() {
    let mut story = Story::of(&["a"]);
    story.pass(0, vec![stopped("a", -10)], vec![], &[refused("a", 0)]);
    story.pass(15, vec![stopped("a", -10)], vec![], &[attempt("a", Action::Migrate, Outcome::Accepted, 15)]);
    let spell =
        Spell { ids: vec![InstanceId::new("4kx2m9aa01tzqw3e")], name: "train-7".into(), ..story.open("a").clone() };
    let text = serde_json::to_string(&spell).expect("JSON");
    assert!(text.len() < 400, "{} bytes: {text}", text.len());
    assert_eq!(serde_json::from_str::<Spell>(&text).expect("a spell"), spell);
    assert_eq!(serde_json::from_str::<Spell>("{}").expect("a spell"), Spell::default());
    assert_eq!(serde_json::from_str::<DaySums>("{}").expect("sums"), DaySums::default());
}
