//! `analyze`: which on-demand instances could be spot, what that would save and what speaks against it. Holds no writer.
//!
//! One listing, one question for each kind of offer, and for each instance that would save something one question for its
//! metrics and one sample of the probe. The calls of a kind are made [`READS_AT_ONCE`] at a time; the client's pacing slows
//! them down when the provider asks for it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::pass::stopped;
use super::{Exit, Failure, Presentation, Printed};
use crate::clock::Clock;
use crate::cloud::{CloudError, CloudRead, Effect};
use crate::core::recreation::blueprint::{Offer, OfferQuery};
use crate::core::rollout::analysis::{
    Analysis, Facts, Member, Offered, Opportunity, Probed, Terms, Usage, judge, saving,
};
use crate::core::rollout::metrics::{INTERVAL, Metrics, WINDOW};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::measure::{Outcome, Prober, Sample, Target};
use crate::report::document::Document;
use crate::report::savings::savings;
use crate::report::{Event, Reporter, human};
use crate::stop::{Stop, StopCause};
use crate::store::{StoreRead, records};

/// Calls in flight. These are reads, which `MIGRATION_MAX_CONCURRENT` does not bound: it is about what changes something.
pub const READS_AT_ONCE: usize = 16;

/// The provider lags about a minute, and silently replaces times that lie ahead of its clock (`novita-api.md` section 2.8):
/// so nothing is lost by not asking for the last one, and a clock that is a little ahead does no harm.
const LAG: Duration = Duration::from_secs(60);

/// Looks at every running on-demand instance that the terms cover. A listing that is known to be incomplete is analysed
/// as far as it came, and says so: nothing is done about it here.
///
/// # Errors
/// Exit codes 3 and 4. Metrics that cannot be read are no error, and offers are one only if none can be read.
pub async fn analyze<C: CloudRead, S: StoreRead, P: Prober>(
    cloud: &C,
    store: &S,
    prober: &P,
    terms: &Terms,
    clock: Clock,
    reporter: &dyn Reporter,
) -> Result<Analysis, Failure> {
    let exposures = records::exposures(store).await?;
    let fleet = cloud.fleet(&|received, announced| reporter.event(Event::Listed { received, announced })).await?;
    let usage = Usage::of(&fleet.items, fleet.is_complete());
    let members: Vec<&Member> =
        fleet.items.iter().filter(|member| member.is_on_demand() && terms.cover(&member.instance)).collect();
    let market = offers(cloud, &members).await?;
    let meter = Meter::default();
    let judged = members.into_iter().map(|member| {
        let offered = market.of(member);
        let (meter, exposures) = (&meter, &exposures);
        async move {
            let (current, spot) = offered.costs(member.gpu_num);
            // Whatever else is known of one that would save nothing, it stays where it is.
            let (metrics, probed) = match saving(current, spot) {
                Some(_) => {
                    join(meter.read(cloud, &member.instance.id, clock.now()), sample(prober, member, terms)).await
                }
                None => (None, Probed::Unasked),
            };
            let facts = Facts { offered, metrics, probed, usage, exposures };
            judge(member, &facts, terms, clock.now())
        }
    });
    let opportunities: Vec<Opportunity> = stream::iter(judged).buffer_unordered(READS_AT_ONCE).collect().await;
    let notes = market.notes().into_iter().chain(meter.note()).collect();
    Ok(Analysis::new(opportunities, fleet.shortfall, notes))
}

/// What is on offer, by question.
struct Market {
    offers: HashMap<OfferQuery, Result<Vec<Offer>, String>>,
}

/// Asks each question once.
async fn offers<C: CloudRead>(cloud: &C, members: &[&Member]) -> Result<Market, Failure> {
    let questions: HashSet<OfferQuery> = members.iter().filter_map(|member| member.query()).collect();
    let asked = questions.into_iter().map(|query| async move {
        let offers = cloud.offers(&query).await;
        (query, offers)
    });
    let answers: Vec<(OfferQuery, Result<Vec<Offer>, CloudError>)> =
        stream::iter(asked).buffer_unordered(READS_AT_ONCE).collect().await;
    if answers.iter().all(|(_, answer)| answer.is_err())
        && let Some((_, Err(error))) = answers.first()
    {
        return Err(error.clone().into());
    }
    let answers = answers.into_iter().map(|(query, answer)| (query, answer.map_err(|error| error.to_string())));
    Ok(Market { offers: answers.collect() })
}

impl Market {
    fn of(&self, member: &Member) -> Offered {
        let Some(query) = member.query() else {
            return Offered::Unknown("its product, its cluster or its number of GPUs is not listed".into());
        };
        let product = member.instance.place.as_deref().map_or("", |place| place.product.as_str());
        match self.offers.get(&query) {
            Some(Ok(offers)) => Offered::among(offers, product),
            Some(Err(error)) => Offered::Unknown(error.clone()),
            None => Offered::Unknown("nobody asked".into()),
        }
    }

    fn notes(&self) -> Vec<String> {
        let unread = self.offers.iter().filter_map(|(query, answer)| Some((query, answer.as_ref().err()?)));
        let mut notes: Vec<String> = unread
            .map(|(query, error)| {
                let OfferQuery { cluster_id, product_name, gpu_num, billing: _ } = query;
                let cluster = cluster_id.as_deref().unwrap_or_default();
                format!("offers for {gpu_num} x {product_name} in {cluster} could not be read: {error}")
            })
            .collect();
        notes.sort();
        notes
    }
}

/// Reads metrics until they count as down: a call was retried for as long as that makes sense, and no other had an answer
/// meanwhile. Each further one would take as long, one after another in a large fleet.
#[derive(Default)]
struct Meter {
    are_down: Cell<bool>,
    answers: Cell<usize>,
    unread: Cell<usize>,
    last_error: RefCell<Option<CloudError>>,
}

impl Meter {
    async fn read<C: CloudRead>(&self, cloud: &C, id: &InstanceId, now: Timestamp) -> Option<Metrics> {
        if self.are_down.get() {
            self.unread.set(self.unread.get() + 1);
            return None;
        }
        let answers_before = self.answers.get();
        match cloud.metrics(id, now - WINDOW, now - LAG, INTERVAL).await {
            Ok(metrics) => {
                self.answers.set(self.answers.get() + 1);
                metrics
            }
            Err(error) => {
                // A plain no to one instance says nothing about the others.
                let is_refused = error.effect == Effect::Refused && error.kind != ErrorKind::RateLimit;
                let others_are_answered = self.answers.get() > answers_before;
                self.are_down.set(self.are_down.get() || !is_refused && !others_are_answered);
                self.unread.set(self.unread.get() + 1);
                *self.last_error.borrow_mut() = Some(error);
                None
            }
        }
    }

    fn note(&self) -> Option<String> {
        let error = self.last_error.borrow();
        let instances = if self.unread.get() == 1 { "instance" } else { "instances" };
        error.as_ref().map(|error| format!("metrics of {} {instances} could not be read: {error}", self.unread.get()))
    }
}

async fn sample<P: Prober>(prober: &P, member: &Member, terms: &Terms) -> Probed {
    let Some(probe) = &terms.probe else { return Probed::Unasked };
    let target = Target { id: member.instance.id.as_str(), name: &member.instance.name, endpoints: &member.endpoints };
    match prober.sample(probe, target).await {
        Sample { took, outcome: Outcome::Good } => Probed::Passed(took),
        Sample { outcome: Outcome::Bad(why) | Outcome::Untaken(why), .. } => Probed::Failed(why),
    }
}

/// Gives up when the program is told to, or when it takes longer than a pass may.
///
/// # Errors
/// Exit code 6, and those of the work.
pub async fn within<T>(
    stop: &Stop,
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        cause = stop.triggered() => Err(stopped(cause)),
        () = stop.trigger_at(Instant::now() + limit) => Err(stopped(StopCause::Deadline)),
        done = work => done,
    }
}

/// What `analyze` prints.
#[must_use]
pub fn show(analysis: Analysis, show: Presentation) -> Printed {
    let document = if show.json() {
        Document::json(analysis, |analysis, out| out.document(&savings(analysis)))
    } else {
        human::savings(show.screen, &analysis).into()
    };
    Printed { exit: Exit::Done, document }
}
