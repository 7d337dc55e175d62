//! `analyze`: which on-demand instances could be spot, what that would save and what speaks against it. It writes nothing.
//!
//! It takes one listing, one query for each kind of offer, and for each instance that would save money one query for its
//! metrics and one sample of its probe. Up to [`READS_AT_ONCE`] calls of a kind are in flight; the client's pacing slows
//! them down if the provider asks for that.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};

use super::observe::unless_stopped;
use super::{Exit, Failure, Presentation, Printed, Session};
use crate::clock::Clock;
use crate::cloud::{CloudError, CloudRead, Effect};
use crate::core::recreation::marker::is_bridge;
use crate::core::rollout::analysis::{Analysis, Opportunity, judge, saving};
use crate::core::rollout::findings::{Findings, ListedInstance, Offered, Probed, Terms, Usage};
use crate::core::rollout::metrics::{INTERVAL, Metrics, WINDOW};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, InstanceId, Status};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::time::Timestamp;
use crate::measure::{NetProber, ProbeOutcome, ProbeSample, ProbeTarget, Prober};
use crate::report::analyze::AnalyzeDocument;
use crate::report::document::Document;
use crate::report::{Event, Reporter, human};
use crate::store::{StoreRead, records};

/// The most calls in flight. `MIGRATION_MAX_CONCURRENT` does not limit these, since they change nothing.
pub const READS_AT_ONCE: usize = 16;

/// The most recent time that is left out. The provider lags about a minute and silently replaces times ahead of its clock
/// (`novita-api.md` section 2.8), so this loses nothing and tolerates a clock that is slightly ahead.
const LAG: Duration = Duration::from_secs(60);

/// Analyzes every running on-demand instance that the terms cover. An incomplete listing is analyzed as far as it goes, and
/// the result says so.
///
/// # Errors
/// Exit codes 3 and 4. Unreadable metrics are not an error, and offers are one only if none can be read.
pub async fn analyze<C: CloudRead, S: StoreRead, P: Prober>(
    cloud: &C,
    store: &S,
    prober: &P,
    terms: &Terms,
    clock: &Clock,
    reporter: &dyn Reporter,
) -> Result<Analysis, Failure> {
    let fleet = cloud.fleet(&|received, announced| reporter.event(Event::Listed { received, announced })).await?;
    if let Some(ahead) = clock.compare(cloud.reading()) {
        reporter.event(Event::ClockCorrected { ahead });
    }
    let (markets, unread) = records::markets(store, clock.now()).await?;
    reporter.event(Event::Unread { records: &unread });
    let usage = Usage::of(&fleet.items, fleet.is_complete());
    // What stands in for a spot instance returns to spot by itself.
    let may_move =
        |it: &&ListedInstance| it.is_on_demand() && !is_bridge(&it.instance.name) && terms.cover(&it.instance);
    let covered: Vec<&ListedInstance> = fleet.items.iter().filter(may_move).collect();
    let market = offers(cloud, &covered).await?;
    let meter = Meter::default();
    let judged = covered.into_iter().map(|listed| {
        let offered = market.of(listed);
        let (meter, markets) = (&meter, &markets);
        async move {
            let (current, spot) = offered.costs(listed.gpu_num);
            // An instance that would save nothing stays where it is, so nothing else about it matters.
            let (metrics, probed) = match saving(current, spot) {
                Some(_) => {
                    join(meter.read(cloud, &listed.instance.id, clock.now()), sample(prober, listed, terms)).await
                }
                None => (None, Probed::Unasked),
            };
            let findings = Findings { offered, metrics, probed, usage, markets };
            judge(listed, &findings, terms, clock.now())
        }
    });
    let opportunities: Vec<Opportunity> = stream::iter(judged).buffer_unordered(READS_AT_ONCE).collect().await;
    let notes = market
        .notes()
        .into_iter()
        .chain(meter.note())
        .chain(unread_rows(&fleet.items, terms))
        .chain(cloud.caveats())
        .collect();
    Ok(Analysis::new(opportunities, fleet.shortfall, notes))
}

/// How many instances have a status that is not known, so that it is not known whether they run. One that has may be on demand.
fn unread_rows(fleet: &[ListedInstance], terms: &Terms) -> Option<String> {
    let is_unknown = |it: &&ListedInstance| {
        matches!(it.instance.status, Status::Other(_))
            && it.instance.billing != Billing::Spot
            && terms.cover(&it.instance)
    };
    let unknown: Vec<&str> = fleet.iter().filter(is_unknown).map(|it| it.instance.id.as_str()).collect();
    (!unknown.is_empty()).then(|| format!("not analyzed, since their rows cannot be read: {}", unknown.join(", ")))
}

/// The offers by query.
struct OfferLists {
    offers: HashMap<OfferQuery, Result<Vec<Offer>, String>>,
}

/// Reads the offers of each query once.
async fn offers<C: CloudRead>(cloud: &C, covered: &[&ListedInstance]) -> Result<OfferLists, Failure> {
    let questions: HashSet<OfferQuery> = covered.iter().filter_map(|it| it.query()).collect();
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
    Ok(OfferLists { offers: answers.collect() })
}

impl OfferLists {
    fn of(&self, listed: &ListedInstance) -> Offered {
        let Some(query) = listed.query() else {
            return Offered::Unknown("its product, its cluster or its number of GPUs is not listed".into());
        };
        let product = listed.instance.place.as_deref().map_or("", |place| place.product.as_str());
        match self.offers.get(&query) {
            Some(Ok(offers)) => Offered::among(offers, product),
            Some(Err(error)) => Offered::Unknown(error.clone()),
            None => Offered::Unknown("there was no query for them".into()),
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

/// Reads metrics until they count as down: one call failed after all its retries, and no other call succeeded meanwhile.
/// Every further call would take as long to fail.
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
                // A refusal for one instance says nothing about the others.
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

async fn sample<P: Prober>(prober: &P, listed: &ListedInstance, terms: &Terms) -> Probed {
    let Some(probe) = &terms.probe else { return Probed::Unasked };
    let target =
        ProbeTarget { id: listed.instance.id.as_str(), name: &listed.instance.name, endpoints: &listed.endpoints };
    match prober.sample(probe, target).await {
        ProbeSample { took, outcome: ProbeOutcome::Good } => Probed::Passed(took),
        ProbeSample { outcome: ProbeOutcome::Bad(why) | ProbeOutcome::Untaken(why), .. } => Probed::Failed(why),
    }
}

/// The command.
///
/// # Errors
/// Exit codes 2, 3, 4 and 6.
pub async fn command(session: &Session<'_>) -> Result<Printed, Failure> {
    let Session { settings, clock, stop, reporter, show, .. } = *session;
    let (store, cloud) = (session.open_to_read().await?, session.client().await?);
    let prober = NetProber::new(settings.probe_timeout, &settings.proxies);
    let analyzing = analyze(&cloud, &store, &prober, &settings.terms, clock, reporter);
    Ok(self::show(unless_stopped(stop, settings.job_timeout, analyzing).await?, show))
}

/// What `analyze` prints.
#[must_use]
pub fn show(analysis: Analysis, show: Presentation) -> Printed {
    let document = if show.json() {
        Document::json(analysis, |analysis, out| out.document(&AnalyzeDocument::new(analysis)))
    } else {
        human::analyze(show.screen, &analysis).into()
    };
    Printed { exit: Exit::Done, document }
}
