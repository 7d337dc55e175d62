//! Why an instance was, or was not, acted on: every rule of the plan with its facts, not only the first that fits.
//!
//! The verdict is the plan's own. What each rule says comes from the functions that decide, in [`super::rules`].

use serde::Serialize;
use strum::VariantArray as _;

use super::ledger::Ledger;
use super::plan::Plan;
use super::rules::{Rule, View};
use super::settle::without_effects;
use super::verdict::{Decision, Skip, Verdict};
use crate::core::recreation::journal::Recreation;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::{Timestamp, in_words};

/// What one rule says about an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub rule: &'static str,
    pub outcome: RuleOutcome,
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
    let ledger = &*without_effects(ledger, &plan.settlements);
    let view = View::new(snapshot, ledger, policy, &jobs, now);
    let is_over_limit = matches!(decision, Decision::Skip(Skip::OverLimit { .. }));
    let is_listed = find(&snapshot.instances.items, &instance.id).is_some();
    let one_of = |decision: &Decision, skips, acts| if decision.verdict() == Verdict::Skip { skips } else { acts };
    let mut is_reached = true;
    let mut checked: Vec<Checked> = Vec::with_capacity(Rule::VARIANTS.len() + 1);
    for &rule in Rule::VARIANTS {
        let is_asked = is_reached || is_listed;
        let answer = view.answer(rule, instance);
        // The sentence about an unfinished job names it; other sentences do not.
        let names_job = matches!(answer, None | Some(Decision::Skip(Skip::JobUnfinished { .. }))) && is_asked;
        let (outcome, detail) = match answer {
            _ if !is_asked => (RuleOutcome::DoesNotApply, "the provider does not list it".into()),
            None => match view.facts(rule, instance) {
                Ok(facts) => (RuleOutcome::Passes, facts),
                Err(why) => (RuleOutcome::DoesNotApply, why),
            },
            Some(answer) if !is_reached => {
                let outcome = one_of(&answer, RuleOutcome::WouldStop, RuleOutcome::WouldAct);
                (outcome, answer.detail(instance, policy))
            }
            // What a limit holds back did not decide.
            Some(answer) if is_over_limit => {
                is_reached = false;
                (RuleOutcome::Passes, answer.detail(instance, policy))
            }
            // The plan's own verdict may say more: what a replacement is made of, and what is in the way.
            Some(_) => {
                is_reached = false;
                let outcome = one_of(decision, RuleOutcome::Stops, RuleOutcome::Acts);
                (outcome, decision.detail(instance, policy))
            }
        };
        let job = jobs.unfinished(&instance.id).filter(|_| rule == Rule::NoUnfinishedJob && !names_job);
        let job = job.map_or_else(String::new, |job| format!("; job {} ({}) is {}", job.id, job.kind, job.state));
        checked.push(Checked { rule: rule.into_str(), outcome, detail: detail + &job });
    }
    let (outcome, detail) = match (decision, policy.max_migrations, policy.max_recreations) {
        (Decision::Skip(Skip::OverLimit { .. }), _, _) => (RuleOutcome::Stops, decision.detail(instance, policy)),
        (Decision::Migrate { .. }, Some(limit), _) => (RuleOutcome::Passes, format!("within the limit of {limit}")),
        (_, _, Some(limit)) if decision.creates() => (RuleOutcome::Passes, format!("within the limit of {limit}")),
        _ => (RuleOutcome::DoesNotApply, "no limit holds it back".into()),
    };
    checked.push(Checked { rule: WITHIN_LIMITS, outcome, detail });
    checked
}

/// What the next pass would do, in one sentence.
#[must_use]
pub fn next_pass(decision: &Decision, now: Timestamp) -> String {
    match (decision.verdict(), decision.until()) {
        (Verdict::Migrate, _) => "migrates it".into(),
        (Verdict::Recreate, _) => "recreates it".into(),
        (Verdict::Resume, _) => "continues its recreation".into(),
        (Verdict::Skip, Some(until)) if until > now => {
            format!("leaves it alone; time alone may change that in {} ({until})", in_words(until.since(now)))
        }
        (Verdict::Skip, Some(_)) => "leaves it alone; time alone may change that at any moment".into(),
        (Verdict::Skip, None) => "leaves it alone, until something else changes".into(),
    }
}

/// The recreation that an instance belongs to, with its old instance: its own, or the one it replaces another in.
#[must_use]
pub fn recreation_of<'a>(ledger: &'a Ledger, id: &InstanceId) -> Option<(&'a InstanceId, &'a Recreation)> {
    let own = ledger.recreations.get_key_value(id);
    own.or_else(|| ledger.recreations.iter().find(|(_, it)| it.step.replacement() == Some(id)))
}
