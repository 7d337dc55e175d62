//! `explain`: why an instance was, or was not, acted on. Holds no writer.

use super::history::life_of;
use super::observe::{Observed, observe, unless_stopped};
use super::survey::survey;
use super::{Exit, Failure, Presentation, Printed, Session};
use crate::act::{Limits, World};
use crate::cloud::CloudRead;
use crate::core::pass::explain;
use crate::core::pass::ladder::Ask;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::{self, Plan};
use crate::core::pass::verdict::Decision;
use crate::core::record::life::{Life, LifeEvent};
use crate::core::world::instance::{Billing, Instance, InstanceId};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::report::explained::{ExplainDocument, Explained, JournalPart, PlacePart};
use crate::report::{complain, human, json};
use crate::store::StoreRead;
use crate::store::records::{self, Mode};

/// How many of the last events are shown.
const EVENTS: usize = 10;

/// The command.
///
/// # Errors
/// Exit codes 2, 3, 4 and 6.
pub async fn command(session: &Session<'_>, wanted: &str) -> Result<Printed, Failure> {
    let Session { settings, clock, show, .. } = *session;
    let (store, cloud) = (session.open_to_plan().await?, session.client().await?);
    let limits = Limits::new(settings, Mode::Real);
    let world = session.world(&cloud, &store, &limits);
    let (explained, failure) = explain(&world, settings.enabled, wanted).await?;
    if let Some(Failure { message, hint, .. }) = &failure {
        complain(message, hint.as_deref(), session.log_format);
    }
    Ok(self::show(&explained, failure.as_ref(), clock.now(), show))
}

/// Explains the verdict on the instance with this id or name. `enabled` is whether passes do anything.
///
/// When the provider cannot be asked, the store still is: the failure is part of the answer.
///
/// # Errors
/// Exit code 2 when the instance is unknown, or several have the name; 3 when the provider cannot be asked and the store
/// knows nothing; 4 and 6.
pub async fn explain<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    enabled: bool,
    wanted: &str,
) -> Result<(Explained, Option<Failure>), Failure> {
    unless_stopped(world.stop, world.limits.deadline, explain_now(world, enabled, wanted)).await
}

async fn explain_now<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    enabled: bool,
    wanted: &str,
) -> Result<(Explained, Option<Failure>), Failure> {
    let World { cloud, store, limits, clock, .. } = *world;
    let (life, _) = life_of(store, wanted, clock.now()).await?;
    let Observed { snapshot, ledger, plan, safe, mut board, .. } = match observe(world).await {
        Ok(observed) => observed,
        Err(failure) if failure.exit == Exit::Provider => {
            return match from_the_store(store, wanted, life, clock.now()).await? {
                Some(explained) => Ok((explained, Some(failure))),
                None => Err(failure),
            };
        }
        Err(failure) => return Err(failure),
    };
    let Some((instance, decision)) = choose(&snapshot, &plan, wanted)? else {
        return Ok((not_listed(store, wanted, life, &snapshot, clock.now()).await?, None));
    };
    // A name may mean an instance that no pass has acted on.
    let is_known = life.ids.contains(&instance.id);
    let life = if is_known { life } else { life_of(store, instance.id.as_str(), clock.now()).await?.0 };
    let mut decision = decision.clone();
    let mut places = Vec::new();
    if safe.is_ok() {
        let to_create = decision.recreating().filter(|work| work.creates()).cloned();
        let only = std::iter::once((instance, ()));
        let otherwise = || plan::otherwise(&snapshot, &ledger, limits.policy, only, clock.now()).pop();
        let mut considered = to_create.or_else(|| Some(otherwise()?.1));
        survey(cloud, &snapshot.jobs.items, &ledger.launch_records, considered.iter_mut(), limits.workers).await;
        let now = clock.now();
        if let Some(work) = considered {
            if let Some(Ok(prepared)) = &work.prepared {
                board.state(prepared, now);
                let ask = Ask { cause: &work.recreation.cause, policy: limits.policy, now };
                places.extend(board.ranking(prepared, ask).into_iter().map(|it| PlacePart::new(it, &board, ask)));
            }
            if decision.is_on_proved() {
                decision.foresee(plan::otherwise_in_words(&work, &board, limits.policy, now));
            }
            if let Some(created) = decision.recreating_mut().filter(|it| it.creates()) {
                created.prepared = work.prepared;
            }
        }
        plan::place(&mut decision, &board, limits.policy, now);
    }
    let now = clock.now();
    // A pass reads the migration times of exited instances only; an explanation tells those of others, too.
    let (facts, _) = records::ledger(store, &known_ids(&life, &instance.id), Mode::Real, now).await?;
    let ledger = Ledger { last_attempt: facts.last_attempt, ..ledger };
    let rules = explain::explain(&snapshot, &ledger, limits.policy, &plan, (instance, &decision), now);
    let next =
        if enabled { explain::next_pass(&decision, now) } else { "does nothing: MIGRATION_ENABLED is false".into() };
    let explained = Explained {
        instance_name: Some(instance.name.to_string()),
        status: Some(instance.status.clone()),
        billing: Some(instance.billing.clone()).filter(|billing| *billing != Billing::Unstated),
        verdict: Some(decision.verdict().into_str()),
        reason: Some(decision.reason()),
        detail: Some(decision.detail(instance, limits.policy)),
        until: decision.until(),
        next_pass: Some(next),
        refused: safe.err().map(|refused| refused.to_string()),
        rules,
        places,
        ..remembered(&instance.id, &ledger, life, now)
    };
    Ok((explained, None))
}

/// What earlier passes left behind about an instance.
fn remembered(id: &InstanceId, ledger: &Ledger, life: Life, now: Timestamp) -> Explained {
    let last = |mut events: Vec<LifeEvent>| events.split_off(events.len().saturating_sub(EVENTS));
    let actions = life.events.iter().filter(|event| event.event.is_action()).cloned().collect();
    Explained {
        instance_id: id.clone(),
        instance_name: life.names.get(id).cloned(),
        status: None,
        billing: None,
        verdict: None,
        reason: None,
        detail: None,
        until: None,
        next_pass: None,
        refused: None,
        rules: Vec::new(),
        places: Vec::new(),
        observations: ledger.observations.get(id).cloned(),
        last_attempt: ledger.last_attempt.get(id).cloned(),
        in_flight: ledger.in_flight.get(id).map(Into::into),
        journal: explain::recreation_of(ledger, id).map(|(old, it)| JournalPart::new(old, it, now)),
        ids: life.ids,
        attempts: last(actions),
        events: last(life.events),
    }
}

/// The row of the plan with this id or name; of several with the name, the one that is not being removed.
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
            let message = format!("{} instances have the name {wanted:?}: {each}", named.len());
            Err(Failure {
                exit: Exit::Usage,
                kind: "usage",
                message,
                hint: Some("ask for one by its id".into()),
                error_kind: None,
            })
        }
    }
}

/// The ids whose migration times are read.
fn known_ids<'a>(life: &'a Life, id: &'a InstanceId) -> Vec<&'a InstanceId> {
    life.ids.iter().chain((!life.ids.contains(id)).then_some(id)).collect()
}

/// The instance of a chain with this id or name, else its newest.
fn meant(life: &Life, wanted: &str) -> Option<InstanceId> {
    let by_name = || life.names.iter().find(|(_, name)| *name == wanted).map(|(id, _)| id);
    let by_id = life.ids.iter().find(|id| id.as_str() == wanted);
    by_id.or_else(by_name).or(life.ids.last()).cloned()
}

/// What the store alone can say; `None` if it knows nothing.
async fn from_the_store<S: StoreRead>(
    store: &S,
    wanted: &str,
    life: Life,
    now: Timestamp,
) -> Result<Option<Explained>, Failure> {
    let id = meant(&life, wanted).unwrap_or_else(|| InstanceId::new(wanted));
    let (ledger, _) = records::ledger(store, &known_ids(&life, &id), Mode::Real, now).await?;
    let is_known = !life.ids.is_empty() || ledger.last_attempt.contains_key(&id);
    Ok(is_known.then(|| remembered(&id, &ledger, life, now)))
}

/// What there is to say about an instance that the provider does not list.
async fn not_listed<S: StoreRead>(
    store: &S,
    wanted: &str,
    life: Life,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Explained, Failure> {
    let replaced_by = life.replaced_by.clone();
    let Some(known) = from_the_store(store, wanted, life, now).await? else {
        let message = format!("no instance with the id or name {wanted:?} is listed, and nothing is remembered of one");
        let hint = Some("respot dry-run shows all that are listed".into());
        return Err(Failure { exit: Exit::Usage, kind: "usage", message, hint, error_kind: None });
    };
    let mut detail = match &snapshot.instances.shortfall {
        Some(shortfall) => format!("it is not in a listing that is incomplete: {shortfall}"),
        None => "the provider does not list it any more".into(),
    };
    let mut id = &known.instance_id;
    for _ in &known.ids {
        let Some(by) = replaced_by.get(id) else { break };
        let status = find(&snapshot.instances.items, by);
        let status = status.map_or("which is not listed either".into(), |it| format!("whose status is {}", it.status));
        detail = format!("{detail}; replaced by {by}, {status}");
        id = by;
    }
    let is_replaced = *id != known.instance_id;
    let next = if is_replaced { format!("; for what takes its place: respot explain {id}") } else { String::new() };
    Ok(Explained {
        reason: Some(if is_replaced { "replaced" } else { "not_listed" }),
        detail: Some(detail),
        next_pass: Some(format!("has nothing to do with it{next}")),
        ..known
    })
}

/// What `explain` prints.
#[must_use]
pub fn show(explained: &Explained, failure: Option<&Failure>, now: Timestamp, show: Presentation) -> Printed {
    let document = if show.json() {
        json::document(&ExplainDocument { error: failure.map(Failure::part), explained })
    } else {
        human::explain(show.screen, explained, failure.is_some(), now)
    };
    Printed { exit: failure.map_or(Exit::Done, |failure| failure.exit), document: document.into() }
}
