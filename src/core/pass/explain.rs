//! Why an instance was, or was not, acted on: every rule of the plan with its facts, not only the first that fits.
//!
//! The verdict is the plan's own. What each rule says comes from the functions that made it, in `core::plan::rules`.

use serde::Serialize;

use super::ledger::{Call, Ledger};
use super::plan::Plan;
use super::verdict::{Decision, Eligible, Skip};
use crate::core::pass::rules::{RULES, Rule, View};
use crate::core::recreation::journal::Recreation;
use crate::core::recreation::marker::Origin;
use crate::core::world::instance::{Instance, InstanceId, Status};
use crate::core::world::policy::{Eligibility, Halves, Policy};
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::{Timestamp, in_words};

/// What one rule says about an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The rule's machine name. Names are part of the contract: they are added to, never changed.
    pub rule: &'static str,
    /// Its answer.
    pub outcome: RuleOutcome,
    /// The facts in one sentence.
    pub detail: String,
}

/// The answer of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RuleOutcome {
    /// It leaves the verdict to the rules behind it.
    Passes,
    /// It decides: nothing is done, for now.
    Stops,
    /// It decides: this is why something is done.
    Acts,
    /// It is not reached, and would decide that nothing is done.
    WouldStop,
    /// It is not reached, and would decide that something is done.
    WouldAct,
    /// There is nothing it could be asked about.
    DoesNotApply,
}

impl RuleOutcome {
    /// Whether this is the rule that made the verdict.
    #[must_use]
    pub fn decides(self) -> bool {
        matches!(self, Self::Stops | Self::Acts)
    }
}

/// The name of the last rule, which the plan as a whole applies.
const WITHIN_LIMITS: &str = "within_limits";

/// Every rule with its answer about `instance`, which is a row of `plan`: listed, or known from the journal alone.
/// `decision` is the plan's verdict on it. At most one rule decides; where none does the instance is migrated. Where a
/// limit holds back a recreation, the rule that asked for it passes, and those behind it were not reached.
#[must_use]
pub fn explain(
    snapshot: &Snapshot,
    ledger: &Ledger,
    policy: &Policy,
    plan: &Plan,
    (instance, decision): (&Instance, &Decision),
    now: Timestamp,
) -> Vec<Checked> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let view = View::new(snapshot, ledger, policy, &jobs, &plan.settlements, now);
    let is_over_limit = matches!(decision, Decision::Skip(Skip::OverLimit { .. }));
    let is_listed = find(&snapshot.instances.items, &instance.id).is_some();
    let mut is_reached = true;
    let mut checked: Vec<Checked> = Vec::with_capacity(RULES.len() + 1);
    for rule in RULES {
        let (outcome, detail) = match view.answer(rule, instance) {
            _ if !is_reached && !is_listed => (RuleOutcome::DoesNotApply, "the provider does not list it".into()),
            None => silent(&view, rule, instance),
            Some(answer) if !is_reached => {
                let outcome = if answer.verdict() == "skip" { RuleOutcome::WouldStop } else { RuleOutcome::WouldAct };
                (outcome, answer.detail(instance, policy))
            }
            // What a limit holds back did not decide.
            Some(answer) if is_over_limit => {
                is_reached = false;
                (RuleOutcome::Passes, answer.detail(instance, policy))
            }
            // The plan's own verdict may say more: of what a replacement is made, and what is in the way.
            Some(_) => {
                is_reached = false;
                let outcome = if decision.verdict() == "skip" { RuleOutcome::Stops } else { RuleOutcome::Acts };
                (outcome, decision.detail(instance, policy))
            }
        };
        // The sentence of a verdict names the job only where that says something new.
        let job =
            view.jobs.unfinished(&instance.id).filter(|_| rule == Rule::NoUnfinishedJob && !detail.contains("job "));
        let job = job.map_or_else(String::new, |job| format!("; job {} ({}) is {}", job.id, job.kind, job.state));
        checked.push(Checked { rule: name(rule), outcome, detail: detail + &job });
    }
    let limit = match (decision, policy.max_migrations, policy.max_recreations) {
        (Decision::Skip(Skip::OverLimit { .. }), _, _) => (RuleOutcome::Stops, decision.detail(instance, policy)),
        (Decision::Migrate(_), Some(limit), _) => (RuleOutcome::Passes, format!("within the limit of {limit}")),
        (_, _, Some(limit)) if decision.creates() => (RuleOutcome::Passes, format!("within the limit of {limit}")),
        _ => (RuleOutcome::DoesNotApply, "no limit holds it back".into()),
    };
    checked.push(Checked { rule: WITHIN_LIMITS, outcome: limit.0, detail: limit.1 });
    checked
}

/// The machine name of a rule.
fn name(rule: Rule) -> &'static str {
    match rule {
        Rule::Selected => "selected",
        Rule::NotExcluded => "not_excluded",
        Rule::InScope => "in_scope",
        Rule::OneOfItsMarker => "one_of_its_marker",
        Rule::NotMoving => "not_in_rollout",
        Rule::NoRecreation => "no_recreation",
        Rule::Stopped => "stopped",
        Rule::NoUnfinishedJob => "no_unfinished_job",
        Rule::CallSettled => "call_settled",
        Rule::ReclaimEvidence => "reclaim_evidence",
        Rule::MigrationNotFailed => "migration_not_failed",
        Rule::NotMigrating => "not_migrating",
        Rule::NotGivenUp => "not_given_up",
        Rule::PassMigrates => "pass_migrates",
        Rule::CooledDown => "cooled_down",
    }
}

/// The facts of a rule that leaves the verdict to others, and whether it had anything to look at.
fn silent(view: &View<'_>, rule: Rule, instance: &Instance) -> (RuleOutcome, String) {
    let Policy { only, exclude, scope, eligibility, halves, .. } = view.policy;
    let Instance { id, name, status, billing, .. } = instance;
    let passes = |detail: String| (RuleOutcome::Passes, detail);
    let nothing = |detail: &str| (RuleOutcome::DoesNotApply, detail.to_owned());
    match rule {
        Rule::Selected => match only.iter().find(|selector| selector.matches(id, name)) {
            Some(selector) => passes(format!("selected by --only {}", selector.as_str())),
            None => nothing("no --only is given"),
        },
        Rule::NotExcluded if exclude.is_empty() => nothing("no --exclude is given"),
        Rule::NotExcluded => passes("no --exclude names it".into()),
        Rule::InScope => {
            let billing = if billing.as_str().is_empty() { "not stated" } else { billing.as_str() };
            passes(format!("billing is {billing}, scope is {}", scope.into_str()))
        }
        Rule::OneOfItsMarker if Origin::in_name(name).is_none() => nothing("its name bears no marker of a replacement"),
        Rule::OneOfItsMarker => passes("no other bears its marker and is further on".into()),
        Rule::NotMoving => passes("no rollout moves it".into()),
        Rule::NoRecreation => passes("no recreation of it is open".into()),
        Rule::Stopped => passes(match instance.stopped_at {
            Some(stopped) => format!("status is {status}, stopped at {}", Timestamp::from(stopped)),
            None => format!("status is {status}"),
        }),
        Rule::NoUnfinishedJob => passes(match view.jobs.newest_migration(id) {
            Some(job) => {
                let made = job.created_at.map_or_else(String::new, |at| format!(", of {at}"));
                format!("no job is at work on it; its newest migration is job {} ({}{made})", job.id, job.state)
            }
            None => "no job is at work on it, and no migration job of it is listed".into(),
        }),
        Rule::CallSettled => match view.ledger.in_flight.get(id) {
            Some(call) => {
                let known = match call.call {
                    Call::Accepted => "was accepted",
                    Call::Begun | Call::Unknown => "is in doubt, which matters only while it is exited",
                };
                passes(format!("the migrate call at {} {known}", call.called_at))
            }
            None => nothing("no call of an earlier pass is open"),
        },
        Rule::ReclaimEvidence => {
            let seen = view.ledger.observations.get(id);
            let facts = match (&instance.reclaim, seen) {
                (Some(notice), _) => notice.to_string(),
                (None, Some(seen)) => format!("{}; last seen at {}", seen.notice, seen.last_seen_at),
                (None, None) => "no reclaim was announced".into(),
            };
            match (eligibility, status) {
                (Eligibility::Reclaimed, Status::Exited) => passes(facts),
                (Eligibility::Reclaimed, _) => nothing("only what is exited needs evidence of a reclaim"),
                (Eligibility::Time, _) => (RuleOutcome::DoesNotApply, format!("eligibility is time; {facts}")),
            }
        }
        Rule::MigrationNotFailed if !view.recreates() => nothing("MIGRATION_RETRY_FAILED is false"),
        Rule::MigrationNotFailed => passes("no migration of it failed or is stuck".into()),
        Rule::NotMigrating => passes(format!("status is {status}")),
        Rule::NotGivenUp => match view.failures.replaces(id) {
            Some(old) => passes(format!("it replaces {old}, and is not given up")),
            None => nothing("it replaces no other in an open recreation"),
        },
        Rule::PassMigrates => match halves {
            Halves::MigrateOnly => passes("the pass migrates only".into()),
            Halves::Both | Halves::RecreateOnly => passes("the pass migrates".into()),
        },
        Rule::CooledDown => passes(match view.cooldown(instance) {
            Ok(Eligible::CooledDown { last, elapsed }) => {
                let cooldown = in_words(view.policy.cooldown);
                format!("the last migration was at {last}, {} ago; the cooldown is {cooldown}", in_words(elapsed))
            }
            Ok(Eligible::NoPreviousMigration) | Err(_) => "no previous migration".into(),
        }),
    }
}

/// What the next pass would do, in one sentence.
#[must_use]
pub fn next_pass(decision: &Decision, now: Timestamp) -> String {
    match (decision.verdict(), decision.until()) {
        ("migrate", _) => "migrates it".into(),
        ("recreate", _) => "creates it anew".into(),
        ("resume", _) => "goes on with its recreation".into(),
        (_, Some(until)) if until > now => {
            format!("leaves it alone; time alone may change that in {} ({until})", in_words(until.since(now)))
        }
        (_, Some(_)) => "leaves it alone; time alone may change that at any moment".into(),
        (_, None) => "leaves it alone, until something else changes".into(),
    }
}

/// The recreation that an instance belongs to, with its old instance: its own, or the one it replaces another in.
#[must_use]
pub fn recreation_of<'a>(ledger: &'a Ledger, id: &InstanceId) -> Option<(&'a InstanceId, &'a Recreation)> {
    let own = ledger.recreations.get_key_value(id);
    own.or_else(|| ledger.recreations.iter().find(|(_, it)| it.step.replacement() == Some(id)))
}
