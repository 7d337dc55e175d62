//! The creation of a replacement: one place after the other, until one has room.

use tokio::time::Instant;

use super::turn::{Presence, Turn};
use super::{Awaits, Task};
use crate::act::board::Turnout;
use crate::act::{Edges, is_of_the_account};
use crate::cloud::{CloudError, CloudRead as _, CloudWrite as _, Effect, Guard, Order};
use crate::core::pass::ladder::Ask;
use crate::core::pass::verdict::Recreating;
use crate::core::record::execution::Outcome;
use crate::core::record::trail::WriteCall;
use crate::core::recreation::blueprint::{Obstacle, Placement, Prepared};
use crate::core::recreation::journal::{Cause, Next, Old, Step, Successor, Transition, Unfit};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, Instance, InstanceId, Place};
use crate::core::world::money::Usd;
use crate::core::world::snapshot::find;
use crate::core::world::time::{in_words, millis};

impl<E: Edges> Turn<'_, E> {
    /// Reports what prevents the creation, and counts it as a failed attempt where it is one.
    pub(super) async fn obstructed(&self, task: &mut Task<'_>, obstacle: &Obstacle) {
        let kind = match obstacle {
            Obstacle::CannotRecreate(_) => ErrorKind::Configuration,
            // What is not offered now may be again.
            Obstacle::NoPlace { .. } | Obstacle::NoRoom { .. } => {
                return self.no_room(task, obstacle.to_string()).await;
            }
            Obstacle::Unread { kind, .. } => return task.fail(Outcome::Failed, *kind, obstacle.to_string()),
            Obstacle::JobAtWork(_) | Obstacle::Gone => return task.end(Outcome::Skipped, obstacle.to_string()),
        };
        if self.advance(task, Transition::CreateRefused(obstacle.to_string())).await {
            let Recreating { instance, .. } = task.work;
            let reason = format!("{} ({instance}): {obstacle}", task.recreation.instance_name);
            task.fail(Outcome::Failed, kind, reason);
        }
    }

    /// Asks one place after the other. Only a refusal for lack of room leads to the next one.
    pub(super) async fn create(&self, task: &mut Task<'_>, prepared: &Prepared) {
        let Prepared { blueprint, gpus, .. } = prepared;
        let markets = self.pass.markets;
        // On-demand instances have a market of their own, of which nothing is remembered.
        let is_spot = blueprint.billing != Billing::OnDemand;
        let (mut tried, mut last): (Vec<&Place>, String) = (Vec::new(), String::new());
        if !task.recreation.pass.is_empty() && !self.is_absent(task).await {
            return;
        }
        loop {
            let order_turn = match markets.order_turn(&blueprint.billing).await {
                Ok(turn) => turn,
                Err(why) => return self.not_created(task, &why).await,
            };
            let ask =
                Ask { cause: &task.work.recreation.cause, policy: self.pass.world.limits.policy, now: self.pass.now() };
            let Some(placement) = markets.board().choose(prepared, ask, &tried) else { break };
            if is_spot {
                // Another task may have been refused meanwhile: there, or for the account.
                if let Turnout::Rests(_) = markets.turn(&placement.place, *gpus, || self.pass.now()).await {
                    continue;
                }
                if markets.closed(&blueprint.billing).is_some() {
                    markets.unanswered(&placement.place);
                    continue;
                }
            } else if task.recreation.cause == Cause::Bridged {
                let Some(price) = placement.price else {
                    return self.no_room(task, "no room, and no on-demand price is known for a stand-in".into()).await;
                };
                if !self.open_bridge(task, price) {
                    let policy = &self.pass.world.limits.policy.bridge;
                    let reason = format!(
                        "no room, and {} of a stand-in at {price} USD/h do not fit into what is left of {} USD a day",
                        in_words(policy.stay),
                        policy.per_day
                    );
                    return self.no_room(task, reason).await;
                }
            }
            let ticket = self.about_to(WriteCall::Create, task, is_spot.then_some(&placement.place));
            task.recreation.notes.clone_from(&blueprint.notes);
            if !self.advance(task, Transition::Create).await {
                return self.answered_by(placement, is_spot, None);
            }
            task.attempt.at = task.recreation.since;
            let marker = task.recreation.marker.clone();
            let order = Order { marker: &marker, replaces: &task.work.instance, blueprint, placement };
            let may_send = || self.pass.may_send(self.store_error);
            let begun = Instant::now();
            let guard = Guard { stop: self.pass.world.stop, may_send: &may_send };
            let mut answer = self.pass.writer.create(order, guard).await;
            if answer.as_ref().is_err_and(|error| error.effect == Effect::Possible)
                && self.pass.world.cloud.abilities().idempotent_create
            {
                // The answer was lost. The same marker brings it again, whether the instance exists or not; a refusal does not
                // say that it does not.
                let again = self.pass.writer.create(order, guard).await;
                answer = again.map_err(|error| CloudError { effect: Effect::Possible, ..error });
            }
            let response_time = millis(begun.elapsed());
            self.pass.answered(ticket, answer.as_ref().map(Some), response_time);
            task.attempt.response_time = Some(response_time);
            match &answer {
                Err(error) if error.effect == Effect::NotSent => {}
                Err(error) if error.effect == Effect::Refused && is_of_the_account(error.kind) => {
                    markets.close(&blueprint.billing, &error.to_string());
                }
                _ => markets.grant(&blueprint.billing),
            }
            drop(order_turn);
            let has_room = match &answer {
                Ok(_) => Some(true),
                Err(error) if error.effect == Effect::Refused && error.kind == ErrorKind::Capacity => Some(false),
                Err(_) => None,
            };
            self.answered_by(placement, is_spot, has_room.map(|has_room| (has_room, *gpus)));
            if !is_spot && answer.as_ref().is_err_and(|error| error.effect != Effect::Possible) {
                markets.forget_bridge(&task.work.instance);
            }
            let error = match answer {
                Ok(replacement) if self.is_another(&replacement, task) => {
                    let reason = format!("the provider answered with the ID of an instance that exists, {replacement}");
                    task.fail(Outcome::Unknown, ErrorKind::Api, reason);
                    task.awaits = Awaits::Found;
                    return;
                }
                Ok(replacement) => {
                    if self.advance(task, Transition::Found(replacement.clone())).await {
                        task.attempt.new_instance_id = Some(replacement);
                        task.place = match &blueprint.notes[..] {
                            [] => format!(" {}", placement.words),
                            notes => format!(" {} ({})", placement.words, notes.join("; ")),
                        };
                        self.await_running(task);
                    }
                    return;
                }
                Err(error) => error,
            };
            match (error.effect, error.kind) {
                (Effect::NotSent, kind) => {
                    task.attempt.response_time = None;
                    if self.advance(task, Transition::CreateUnsent).await {
                        match self.pass.world.stop.cause() {
                            Some(_) => task.end(Outcome::Skipped, self.pass.why_not_started(self.store_error)),
                            None => task.fail(Outcome::Failed, kind, error.to_string()),
                        }
                    }
                    return;
                }
                (Effect::Possible, kind) => {
                    task.fail(Outcome::Unknown, kind, error.to_string());
                    task.awaits = Awaits::Found;
                    return;
                }
                (Effect::Refused, ErrorKind::Capacity) => {
                    tried.push(&placement.place);
                    last = format!(": {error}");
                }
                (Effect::Refused, kind) => {
                    let reason = error.to_string();
                    // How fast the account calls says nothing about the instance. A rollout takes the move back.
                    let transition = match kind == ErrorKind::RateLimit && !task.recreation.is_move() {
                        true => Transition::PutOff(reason.clone()),
                        false => Transition::CreateRefused(reason.clone()),
                    };
                    if self.advance(task, transition).await {
                        task.fail(Outcome::Failed, kind, reason);
                    }
                    return;
                }
            }
        }
        let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
        let reason = match &tried[..] {
            [] => "no room: its markets refused another instance meanwhile".into(),
            tried => format!("no room for {}{last}", tried.join(", nor ")),
        };
        self.no_room(task, reason).await;
    }

    /// Whether an instance cannot be the replacement that was just created.
    fn is_another(&self, id: &InstanceId, task: &Task<'_>) -> bool {
        let is_marked = |it: &Instance| it.marker.as_deref().is_some_and(|it| *it == task.recreation.marker);
        *id == task.work.instance || find(self.listed, id).is_some_and(|it| !is_marked(it))
    }

    /// Whether no earlier pass created the replacement after all, although the listing lacks it. Otherwise the task is over.
    async fn is_absent(&self, task: &mut Task<'_>) -> bool {
        let looking = self.pass.world.cloud.marked(&task.recreation.marker);
        match self.pass.unless_stopped(looking).await {
            Some(Ok(found)) => match found.iter().find(|instance| !instance.status.is_going()) {
                Some(found) => task.end(Outcome::Skipped, format!("{} exists already; a later pass goes on", found.id)),
                None => return true,
            },
            Some(Err(error)) => task.fail(Outcome::Failed, error.kind, error.to_string()),
            None => task.end(Outcome::Skipped, self.pass.why_not_started(self.store_error)),
        }
        false
    }

    /// Puts an on-demand instance on record before it is created, if the budget allows it.
    fn open_bridge(&self, task: &Task<'_>, price: Usd) -> bool {
        let policy = &self.pass.world.limits.policy.bridge;
        self.pass.markets.open_bridge(&task.work.instance, price, policy, self.pass.now())
    }

    /// What a market answered, and to how many GPUs.
    fn answered_by(&self, placement: &Placement, is_spot: bool, answer: Option<(bool, u32)>) {
        let (markets, place, now) = (self.pass.markets, &placement.place, self.pass.now());
        match answer.filter(|_| is_spot) {
            Some((true, _)) => markets.accepted(place, now),
            Some((false, gpus)) => markets.refused(place, gpus, now),
            None => markets.unanswered(place),
        }
    }

    /// Nothing was asked, since another creation was refused for a reason that holds for all.
    async fn not_created(&self, task: &mut Task<'_>, why: &str) {
        let is_begun = matches!(task.recreation.step, Step::Intent { .. });
        if !is_begun || self.advance(task, Transition::CreateUnsent).await {
            task.end(Outcome::Skipped, format!("not started: another creation was refused: {why}"));
        }
    }

    /// Records that no place has room. A later pass tries again.
    async fn no_room(&self, task: &mut Task<'_>, reason: String) {
        // A rollout counts it: it takes the move back.
        if task.recreation.is_move() {
            if self.advance(task, Transition::CreateRefused(reason.clone())).await {
                task.fail(Outcome::Failed, ErrorKind::Capacity, reason);
            }
            return;
        }
        let is_on_record = !matches!(task.recreation.step, Step::Pending { .. }) || !task.recreation.pass.is_empty();
        if !is_on_record || self.advance(task, Transition::PutOff(reason.clone())).await {
            task.fail(Outcome::NoRoom, ErrorKind::Capacity, reason);
        }
    }

    /// Creates the next replacement, if the last one was reclaimed before it ran and is gone.
    pub(super) async fn create_again(&self, task: &mut Task<'_>) {
        let Recreating { next: Next::Abandon(Unfit::Reclaimed), prepared: Some(Ok(prepared)), .. } = task.work else {
            return;
        };
        let is_given_up = matches!(task.recreation.step, Step::Abandoned { .. });
        if is_given_up && task.attempt.new_instance_id.is_none() && self.pass.may_send(self.store_error) {
            let Some(Presence::Gone) = self.presence_of_replacement(task).await else { return };
            if self.observe(task, Old::Failed, Successor::Gone).await {
                self.create(task, prepared).await;
            }
        }
    }

    async fn presence_of_replacement(&self, task: &Task<'_>) -> Option<Presence> {
        match self.presence(task.recreation.step.replacement()?).await? {
            Presence::There(seen) if seen.status.is_going() => Some(Presence::Gone),
            seen => Some(seen),
        }
    }
}
