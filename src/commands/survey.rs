//! What recreations need to know beyond the listings: of what an instance is made, and where there is room for it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt};

use crate::cloud::{CloudError, CloudRead};
use crate::core::pass::verdict::Recreating;
use crate::core::recreation::blueprint::{self, Cluster, Market, Obstacle, Offer, OfferQuery, Prepared, RecreateSpec};
use crate::core::recreation::journal::Next;
use crate::core::world::instance::{Job, JobId};

/// Asks for everything that the creations among these need, and adds it to them. What cannot be read is an obstacle
/// for that one instance; a market that cannot be read leaves the own product.
pub(super) async fn survey<'a, C: CloudRead>(
    cloud: &C,
    jobs: &[Job],
    works: impl Iterator<Item = &'a mut Recreating>,
    at_once: usize,
) {
    let finished: HashSet<&JobId> = jobs.iter().filter(|job| !job.state.is_unfinished()).map(|job| &job.id).collect();
    let market = MarketReader { cloud, offers: RefCell::default(), clusters: RefCell::default() };
    stream::iter(works.filter(|work| work.creates()))
        .for_each_concurrent(at_once, |work| {
            let (market, finished) = (&market, &finished);
            async move {
                let prepared = match specification(cloud, finished, work).await {
                    Ok(spec) => {
                        let market = market.of(&spec).await;
                        let prepared = blueprint::prepare(spec, &market);
                        prepared.and_then(|it| like_before(work, it)).and_then(|it| may_begin(work, it))
                    }
                    Err(obstacle) => Err(obstacle),
                };
                work.prepared = Some(prepared);
            }
        })
        .await;
}

/// Nothing is deleted before it is known that it can be created again.
fn may_begin(work: &Recreating, prepared: Prepared) -> Result<Prepared, Obstacle> {
    let begins_to_delete = work.next == Next::DeleteOldFirst && work.recreation.step.kept().is_none();
    if begins_to_delete && !prepared.has_room {
        return Err(Obstacle::NoRoom { product: prepared.spec.product_id });
    }
    Ok(prepared)
}

/// What a rollout moves gets the product that was compared with its own, in the cluster where that was: its own.
fn like_before(work: &Recreating, mut prepared: Prepared) -> Result<Prepared, Obstacle> {
    if work.recreation.is_move() {
        let Prepared { spec, placements, .. } = &mut prepared;
        placements.retain(|it| it.product_id == spec.product_id && it.cluster_id == spec.cluster_id);
        if placements.is_empty() {
            return Err(Obstacle::NoPlace { product: prepared.spec.product_id });
        }
    }
    Ok(prepared)
}

/// The specification that the journal keeps, or the one that the provider's data make.
async fn specification<C: CloudRead>(
    cloud: &C,
    finished: &HashSet<&JobId>,
    work: &Recreating,
) -> Result<RecreateSpec, Obstacle> {
    let Recreating { instance, recreation, .. } = work;
    if let Some(kept) = recreation.step.kept() {
        return Ok(kept.clone());
    }
    let configuration = match cloud.configuration(instance, &recreation.instance_name).await {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Err(Obstacle::Gone),
        Err(error) => return Err(unread(&error)),
    };
    // Jobs that are over, above all the failed migration itself, may still be named there. One that is not in the
    // listing is older than the listing reaches back.
    let failed = recreation.cause.job();
    for job in configuration.jobs.iter().filter(|job| Some(*job) != failed && !finished.contains(job)) {
        match cloud.job(job).await {
            Ok(Some(found)) if !found.state.is_unfinished() => {}
            Ok(_) => return Err(Obstacle::JobAtWork(job.clone())),
            Err(error) => return Err(unread(&error)),
        }
    }
    let spec = RecreateSpec::try_from(configuration).map_err(Obstacle::CannotRecreate)?;
    Ok(match recreation.moves_to() {
        Some(to) => RecreateSpec { billing: to.clone(), ..spec },
        None => spec,
    })
}

fn unread(error: &CloudError) -> Obstacle {
    Obstacle::Unread { kind: error.kind, error: error.to_string() }
}

/// Asks each question once.
struct MarketReader<'a, C> {
    cloud: &'a C,
    offers: RefCell<HashMap<OfferQuery, Option<Vec<Offer>>>>,
    clusters: RefCell<Option<Vec<Cluster>>>,
}

impl<C: CloudRead> MarketReader<'_, C> {
    async fn of(&self, spec: &RecreateSpec) -> Market {
        // Products with a CPU only are listed elsewhere and not sold as spot: the own product is all there is.
        if spec.kind != "gpu" {
            return Market::default();
        }
        let own_cluster = Some(spec.cluster_id.as_str()).filter(|id| !id.is_empty());
        let own_cluster = self.offers(spec.query(own_cluster)).await;
        let (mut anywhere, mut clusters) = (None, Vec::new());
        if !spec.is_tied() {
            (anywhere, clusters) = (self.offers(spec.query(None)).await, self.clusters().await);
        }
        Market { own_cluster, anywhere, clusters }
    }

    async fn offers(&self, query: OfferQuery) -> Option<Vec<Offer>> {
        if let Some(known) = self.offers.borrow().get(&query) {
            return known.clone();
        }
        let offers = self.cloud.offers(&query).await.ok();
        self.offers.borrow_mut().insert(query, offers.clone());
        offers
    }

    async fn clusters(&self) -> Vec<Cluster> {
        if let Some(known) = &*self.clusters.borrow() {
            return known.clone();
        }
        let clusters = self.cloud.clusters().await.unwrap_or_default();
        *self.clusters.borrow_mut() = Some(clusters.clone());
        clusters
    }
}
