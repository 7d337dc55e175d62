//! `explain`: why an instance was, or was not, acted on. Holds no writer.

use tokio::time::Instant;

use super::pass::{self, Rules, stopped};
use super::survey::survey;
use super::views::life_of;
use super::{Exit, Failure, Presentation, Printed};
use crate::clock::Clock;
use crate::cloud::CloudRead;
use crate::core::pass::explain::{self, Checked};
use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::Plan;
use crate::core::pass::safety;
use crate::core::pass::verdict::Decision;
use crate::core::record::life::Life;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::report::explained::{self, ExplainDocument, JournalPart};
use crate::report::json::ErrorPart;
use crate::report::{Reporter, human, json};
use crate::stop::{Stop, StopCause};
use crate::store::StoreRead;
use crate::store::records::{self, Mode};

/// So many events are shown.
const EVENTS: usize = 10;

/// What is needed to look.
#[derive(Clone, Copy)]
pub struct Look<'a, C, S> {
    /// The provider.
    pub cloud: &'a C,
    /// The memory.
    pub store: &'a S,
    /// The rules of a pass.
    pub rules: &'a Rules<'a>,
    /// The clock of decisions.
    pub clock: Clock,
    /// Who hears of it.
    pub reporter: &'a dyn Reporter,
}

/// Everything there is to say about one instance.
#[derive(Debug)]
pub struct Explained {
    /// Why the provider could not be asked.
    pub failure: Option<Failure>,
    /// The instance.
    pub id: InstanceId,
    /// As the provider lists it, or the journal knows it.
    pub row: Option<Instance>,
    /// The plan's verdict on it.
    pub decision: Option<Decision>,
    /// The reason in one sentence.
    pub detail: Option<String>,
    /// What the next pass does.
    pub next_pass: Option<String>,
    /// Why the next pass would be refused as a whole.
    pub refused: Option<String>,
    /// Every rule in its order.
    pub rules: Vec<Checked>,
    /// What the store knows of all its ids.
    pub ledger: Ledger,
    /// What happened to it.
    pub life: Life,
    /// The clock of decisions.
    pub now: Timestamp,
}

/// Explains the verdict on the instance with this id or name. `enabled` is whether passes do anything.
///
/// When the provider cannot be asked the store still is: the failure is part of the answer.
///
/// # Errors
/// Exit code 2 when nobody knows the instance, or several bear the name; 3 when the provider cannot be asked and the
/// store knows nothing; 4 and 6.
pub async fn explain<C: CloudRead, S: StoreRead>(
    look: &Look<'_, C, S>,
    enabled: bool,
    wanted: &str,
    stop: &Stop,
) -> Result<Explained, Failure> {
    tokio::select! {
        biased;
        cause = stop.triggered() => Err(stopped(cause)),
        () = stop.trigger_at(Instant::now() + look.rules.deadline) => Err(stopped(StopCause::Deadline)),
        explained = explain_now(look, enabled, wanted) => explained,
    }
}

async fn explain_now<C: CloudRead, S: StoreRead>(
    look: &Look<'_, C, S>,
    enabled: bool,
    wanted: &str,
) -> Result<Explained, Failure> {
    let Look { cloud, store, rules, clock, reporter } = *look;
    let (life, _) = life_of(store, wanted).await?;
    let (snapshot, plan, ledger) = match pass::look(cloud, store, rules, clock, reporter).await {
        Ok(seen) => seen,
        Err(failure) if failure.exit == Exit::Provider => return from_the_store(look, wanted, life, failure).await,
        Err(failure) => return Err(failure),
    };
    let Some((instance, decision)) = choose(&snapshot, &plan, wanted)? else {
        return not_listed(look, wanted, life, &snapshot).await;
    };
    // Whoever asked by name may mean one that no pass acted on.
    let is_known = life.ids.contains(&instance.id);
    let life = if is_known { life } else { life_of(store, instance.id.as_str()).await?.0 };
    let checked = safety::check(&snapshot, &plan, rules.blast_radius);
    let mut own = Plan { decisions: vec![decision.clone()], ..Plan::default() };
    if checked.is_ok() {
        survey(cloud, &snapshot.jobs.items, own.recreations_mut(), rules.workers).await;
    }
    let decision = own.decisions.pop().unwrap_or_else(|| decision.clone());
    let now = clock.now();
    // A pass asks for the migration times of what is exited; an explanation tells those of others, too.
    let facts = records::ledger(store, &known_ids(&life, &instance.id), Mode::Real).await?;
    let ledger = Ledger { last_attempt: facts.last_attempt, ..ledger };
    let rows = (instance, &decision);
    let next =
        if enabled { explain::next_pass(&decision, now) } else { "does nothing: MIGRATION_ENABLED is false".into() };
    Ok(Explained {
        failure: None,
        id: instance.id.clone(),
        row: Some(instance.clone()),
        detail: Some(decision.detail(instance, rules.policy)),
        next_pass: Some(next),
        refused: checked.err().map(|refused| refused.to_string()),
        rules: explain::explain(&snapshot, &ledger, rules.policy, &plan, rows, now),
        decision: Some(decision),
        ledger,
        life,
        now,
    })
}

/// The one row of the plan that is meant: by its id, else by its name, else by its name among those that are not going.
fn choose<'a>(
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    wanted: &str,
) -> Result<Option<(&'a Instance, &'a Decision)>, Failure> {
    let rows = || plan.rows(&snapshot.instances.items);
    if let Some(row) = rows().find(|(instance, _)| instance.id.as_str() == wanted) {
        return Ok(Some(row));
    }
    let mut named: Vec<_> = rows().filter(|(instance, _)| instance.name == wanted).collect();
    if named.iter().any(|(instance, _)| !instance.status.is_going()) {
        named.retain(|(instance, _)| !instance.status.is_going());
    }
    match named[..] {
        [] => Ok(None),
        [row] => Ok(Some(row)),
        _ => {
            let each = named.iter().map(|(it, decision)| format!("{} ({}, {})", it.id, it.status, decision.reason()));
            let each = each.collect::<Vec<_>>().join(", ");
            let message = format!("{} instances bear the name {wanted:?}: {each}", named.len());
            Err(Failure { exit: Exit::Usage, kind: "usage", message, hint: Some("ask for one by its id".into()) })
        }
    }
}

/// The ids of which the migration time may matter.
fn known_ids<'a>(life: &'a Life, id: &'a InstanceId) -> Vec<&'a InstanceId> {
    life.ids.iter().chain((!life.ids.contains(id)).then_some(id)).collect()
}

/// The one of a chain that is meant.
fn meant(life: &Life, wanted: &str) -> Option<InstanceId> {
    let by_name = || life.names.iter().find(|(_, name)| *name == wanted).map(|(id, _)| id);
    let by_id = life.ids.iter().find(|id| id.as_str() == wanted);
    by_id.or_else(by_name).or(life.ids.last()).cloned()
}

/// What the store alone can say.
async fn from_the_store<C, S: StoreRead>(
    look: &Look<'_, C, S>,
    wanted: &str,
    life: Life,
    failure: Failure,
) -> Result<Explained, Failure> {
    let id = meant(&life, wanted).unwrap_or_else(|| InstanceId::new(wanted));
    let ledger = records::ledger(look.store, &known_ids(&life, &id), Mode::Real).await?;
    if life.ids.is_empty() && !ledger.last_attempt.contains_key(&id) {
        return Err(failure);
    }
    let now = look.clock.now();
    Ok(Explained {
        failure: Some(failure),
        id,
        row: None,
        decision: None,
        detail: None,
        next_pass: None,
        refused: None,
        rules: Vec::new(),
        ledger,
        life,
        now,
    })
}

/// What is to be said of an instance that the provider does not list.
async fn not_listed<C, S: StoreRead>(
    look: &Look<'_, C, S>,
    wanted: &str,
    life: Life,
    snapshot: &Snapshot,
) -> Result<Explained, Failure> {
    let unknown = || {
        let message = format!("no instance with the id or name {wanted:?} is listed, and nothing is remembered of one");
        let hint = Some("respot dry-run shows all that are listed".into());
        Failure { exit: Exit::Usage, kind: "usage", message, hint }
    };
    let known = from_the_store(look, wanted, life, unknown()).await?;
    let mut detail = match &snapshot.instances.shortfall {
        Some(shortfall) => format!("it is not in a listing that is incomplete: {shortfall}"),
        None => "the provider does not list it any more".into(),
    };
    let mut id = &known.id;
    for _ in &known.life.ids {
        let Some(by) = known.life.replaced_by.get(id) else { break };
        let status = find(&snapshot.instances.items, by);
        let status = status.map_or("which is not listed either".into(), |it| format!("whose status is {}", it.status));
        detail = format!("{detail}; replaced by {by}, {status}");
        id = by;
    }
    let next = if *id == known.id { String::new() } else { format!("; for what takes its place: respot explain {id}") };
    let next = format!("has nothing to do with it{next}");
    Ok(Explained { failure: None, detail: Some(detail), next_pass: Some(next), ..known })
}

/// What `explain` prints.
#[must_use]
pub fn show(explained: &Explained, show: Presentation) -> Printed {
    let Explained { failure, id, row, decision, detail, next_pass, refused, rules, ledger, life, now } = explained;
    let error = failure.as_ref().map(|failure| ErrorPart {
        code: failure.exit.code(),
        kind: failure.kind,
        message: &failure.message,
        hint: failure.hint.as_deref(),
    });
    let not_listed = if life.replaced_by.contains_key(id) { "replaced" } else { "not_listed" };
    let reason = match (decision, failure) {
        (Some(decision), _) => Some(decision.reason()),
        (None, None) => Some(not_listed),
        (None, Some(_)) => None,
    };
    let actions: Vec<_> = life.events.iter().filter(|event| event.event.is_action()).cloned().collect();
    let last = |count: usize| count.saturating_sub(EVENTS);
    let document = ExplainDocument {
        error,
        instance_id: id,
        instance_name: row.as_ref().map(|row| row.name.as_str()).or(life.names.get(id).map(String::as_str)),
        status: row.as_ref().map(|row| row.status.as_str()),
        billing: row.as_ref().map(|row| row.billing.as_str()).filter(|billing| !billing.is_empty()),
        verdict: decision.as_ref().map(Decision::verdict),
        reason,
        detail: detail.as_deref(),
        until: decision.as_ref().and_then(Decision::until),
        next_pass: next_pass.as_deref(),
        refused: refused.as_deref(),
        rules,
        observations: ledger.observations.get(id).map(Into::into),
        last_attempt: ledger.last_attempt.get(id).map(explained::stamp),
        in_flight: ledger.in_flight.get(id).map(Into::into),
        journal: explain::recreation_of(ledger, id).map(|(old, it)| JournalPart::new(old, it, *now)),
        ids: &life.ids,
        attempts: &actions[last(actions.len())..],
    };
    let text = if show.json() {
        json::document(&document)
    } else {
        human::explain(show.screen, &document, &life.events[last(life.events.len())..], *now)
    };
    Printed { exit: failure.as_ref().map_or(Exit::Done, |failure| failure.exit), document: text.into() }
}
