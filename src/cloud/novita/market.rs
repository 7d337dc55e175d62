//! Where replacements can be created: what they are made of, the jobs at work on them, offers and clusters.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures_util::future::{join, join3};
use futures_util::stream::{self, StreamExt};
use tokio::sync::OnceCell;

use super::blueprint::{Configuration, Spec, blueprint};
use super::paging::{self, INSTANCES, JOBS, NAME, Search};
use super::refusal::Novita;
use super::wire::{self, Cluster, Listed as _};
use crate::cloud::CloudError;
use crate::cloud::request::Requests;
use crate::cloud::transport::{Method, Transport};
use crate::core::recreation::blueprint::{Blueprint, Nearness, Obstacle, Placement, Prepared, Wanted};
use crate::core::world::instance::{Billing, InstanceId, Job, JobId, Place};
use crate::core::world::market::{Offer, OfferQuery, Stock};
use crate::core::world::money::Usd;

/// Prepares replacements, with at most `at_once` at a time. Each question is asked once. A market that cannot be read
/// leaves the instance's own product.
pub(super) async fn prepare<T: Transport>(
    requests: &Requests<T, Novita>,
    wanted: &[Wanted<'_>],
    jobs: &[Job],
    at_once: usize,
) -> Vec<Result<Prepared, Obstacle>> {
    let finished: HashSet<&JobId> = jobs.iter().filter(|job| !job.state.is_unfinished()).map(|job| &job.id).collect();
    let reader = Reader {
        requests,
        finished,
        offers: RefCell::default(),
        clusters: OnceCell::new(),
        unread: RefCell::default(),
    };
    let preparing = wanted.iter().map(|wanted| reader.prepare(wanted));
    stream::iter(preparing).buffered(at_once.max(1)).collect().await
}

struct Reader<'a, T> {
    requests: &'a Requests<T, Novita>,
    finished: HashSet<&'a JobId>,
    /// Each question is asked once, also when several ask it at the same time. `None` could not be read.
    offers: RefCell<HashMap<OfferQuery, Rc<OnceCell<Option<Vec<Offer>>>>>>,
    clusters: OnceCell<Vec<Cluster>>,
    /// What could not be read.
    unread: RefCell<Option<CloudError>>,
}

impl<T: Transport> Reader<'_, T> {
    async fn prepare(&self, wanted: &Wanted<'_>) -> Result<Prepared, Obstacle> {
        let (blueprint, paid) = self.blueprint(wanted).await?;
        let spec = Spec::of(&blueprint).map_err(Obstacle::CannotRecreate)?;
        let offered = self.offered(&blueprint, &spec).await;
        let unread = self.unread.borrow().as_ref().map(ToString::to_string);
        choose(wanted, (blueprint, paid), &spec, &offered).map(|prepared| Prepared { unread, ..prepared })
    }

    /// The blueprint that the journal keeps, or what the provider reports; and what the instance costs, for one GPU and an
    /// hour, if that is reported.
    async fn blueprint(&self, wanted: &Wanted<'_>) -> Result<(Blueprint, Option<Usd>), Obstacle> {
        if let Some(kept) = wanted.kept {
            return Ok((kept.clone(), None));
        }
        let found = configuration(self.requests, wanted.instance, wanted.name).await.map_err(unread)?;
        let configuration = found.ok_or(Obstacle::Gone)?;
        // Finished jobs may still be listed there, above all the failed migration. One that is missing from the list of
        // jobs is older than that list.
        let is_over = |job: &&JobId| Some(*job) == wanted.failed_job || self.finished.contains(job);
        for job in configuration.jobs.iter().filter(|job| !is_over(job)) {
            match job_by_id(self.requests, job).await.map_err(unread)? {
                Some(found) if !found.state.is_unfinished() => {}
                _ => return Err(Obstacle::JobAtWork(job.clone())),
            }
        }
        let paid = configuration.price;
        let blueprint = blueprint(configuration).map_err(Obstacle::CannotRecreate)?;
        Ok(match wanted.billing {
            Some(billing) => (Blueprint { billing: billing.clone(), ..blueprint }, paid),
            None => (blueprint, paid),
        })
    }

    async fn offered(&self, blueprint: &Blueprint, spec: &Spec) -> OnOffer {
        // CPU products are listed elsewhere and not sold as spot: only its own is left.
        if spec.kind != "gpu" {
            return OnOffer::default();
        }
        let own_cluster = Some(spec.cluster_id.as_str()).filter(|id| !id.is_empty());
        let own_cluster = self.offers(spec.query(&blueprint.billing, own_cluster));
        let mut on_offer = OnOffer::default();
        if spec.tied_by().is_some() {
            on_offer.own_cluster = own_cluster.await;
        } else {
            let anywhere = self.offers(spec.query(&blueprint.billing, None));
            (on_offer.own_cluster, on_offer.anywhere, on_offer.clusters) =
                join3(own_cluster, anywhere, self.clusters()).await;
            // Only the list of a cluster tells its own stock; the list of all tells the best of them.
            let elsewhere: HashSet<String> = offered_sites(spec, &on_offer)
                .into_iter()
                .map(|site| site.cluster_id)
                .filter(|id| !id.is_empty() && *id != spec.cluster_id)
                .collect();
            let questions = elsewhere.iter().map(async |id| {
                let offers = self.offers(spec.query(&blueprint.billing, Some(id))).await;
                (id.clone(), offers)
            });
            let answers: Vec<_> = stream::iter(questions).buffer_unordered(LISTS_AT_ONCE).collect().await;
            on_offer.by_cluster = answers.into_iter().filter_map(|(id, offers)| Some((id, offers?))).collect();
        }
        on_offer
    }

    async fn offers(&self, query: OfferQuery) -> Option<Vec<Offer>> {
        let cell = self.offers.borrow_mut().entry(query.clone()).or_default().clone();
        cell.get_or_init(|| async { self.kept(offers(self.requests, &query).await) }).await.clone()
    }

    async fn clusters(&self) -> Vec<Cluster> {
        let read = || async { self.kept(clusters(self.requests).await).unwrap_or_default() };
        self.clusters.get_or_init(read).await.clone()
    }

    /// Remembers the first error.
    fn kept<R>(&self, read: Result<R, CloudError>) -> Option<R> {
        read.map_err(|error| self.unread.borrow_mut().get_or_insert(error).clone()).ok()
    }
}

/// How many lists of offers are read at a time.
const LISTS_AT_ONCE: usize = 10;

/// The details of one instance.
pub(super) const INSTANCE: &str = "/v1/gpu/instance";

/// Everything known about an instance, list row and detail response merged; `None` if it does not exist. Its row is
/// found by `name`.
pub(super) async fn configuration<T: Transport>(
    requests: &Requests<T, Novita>,
    id: &InstanceId,
    name: &str,
) -> Result<Option<Configuration>, CloudError> {
    let query = vec![("instanceId", id.to_string())];
    let filter = if name.is_empty() { vec![] } else { vec![(NAME, name.to_owned())] };
    let is_wanted = |row: &wire::Record| row.id() == id.as_str();
    let (detail, rows) = join(
        requests.read(INSTANCE, query, |body| wire::Record::detail(body, id)),
        paging::search(requests, INSTANCES, &filter, Search { is_wanted: &is_wanted, enough: 1 }),
    )
    .await;
    let detail = match detail {
        Ok(detail) => detail,
        // What is listed is not gone, so the path may be what does not exist.
        Err(error) if error.not_found => {
            let is_listed = rows.is_ok_and(|rows| rows.iter().any(|row| !row.is_going()));
            return if is_listed { Err(CloudError { not_found: false, ..error }) } else { Ok(None) };
        }
        Err(error) => return Err(error),
    };
    let rows = rows?;
    // The filter is fuzzy, so a missing row proves nothing, and the detail response is used alone.
    let configuration = wire::configuration(&detail, rows.first());
    configuration.map(Some).map_err(|what| requests.unreadable(Method::Get, INSTANCE, 200, &what))
}

/// One job of any age; `None` if the provider does not list it.
async fn job_by_id<T: Transport>(requests: &Requests<T, Novita>, id: &JobId) -> Result<Option<Job>, CloudError> {
    let search = Search { is_wanted: &|row: &Job| row.id == *id, enough: 1 };
    Ok(paging::search(requests, JOBS, &[("jobId", id.to_string())], search).await?.into_iter().next())
}

/// The products on offer.
pub(super) async fn offers<T: Transport>(
    requests: &Requests<T, Novita>,
    query: &OfferQuery,
) -> Result<Vec<Offer>, CloudError> {
    let OfferQuery { cluster_id, product_name, gpu_num, billing } = query;
    let texts = [
        ("clusterId", cluster_id.clone().unwrap_or_default()),
        ("gpuNum", gpu_num.to_string()),
        ("productName", product_name.clone()),
        ("billingMethod", billing.clone()),
    ];
    let query = texts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    requests.read("/v1/products", query, |body| wire::offers(body, billing)).await
}

pub(super) async fn clusters<T: Transport>(requests: &Requests<T, Novita>) -> Result<Vec<Cluster>, CloudError> {
    requests.read("/v1/clusters", vec![], wire::clusters).await
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unread(error: CloudError) -> Obstacle {
    Obstacle::Unread { kind: error.kind, error: error.to_string() }
}

/// The places of a replacement, in order of preference.
fn choose(
    wanted: &Wanted<'_>,
    (blueprint, paid): (Blueprint, Option<Usd>),
    spec: &Spec,
    offered: &OnOffer,
) -> Result<Prepared, Obstacle> {
    let product = || if spec.product_id.is_empty() { spec.product_name.clone() } else { spec.product_id.clone() };
    let mut sites = sites(spec, offered);
    if wanted.stays {
        // The price of its own product in its own cluster decided on the move.
        let has_stock = sites.iter().any(|site| site.stock != Stock::None);
        sites.retain(|site| site.product_id == spec.product_id && site.cluster_id == spec.cluster_id);
        sites.retain(|site| !has_stock || site.stock != Stock::None);
    }
    if sites.is_empty() {
        return Err(Obstacle::NoPlace { product: product() });
    }
    let has_none = |site: &Site| site.stock == Stock::None;
    if wanted.needs_room && sites.iter().all(has_none) {
        return Err(Obstacle::NoRoom { product: product() });
    }
    let listed_price = own_offer(spec, offered).and_then(|offer| offer.price);
    // What the old instance cost; its product may cost more by now. With another billing mode it is no measure.
    let own_price = if wanted.billing.is_none() { paid.or(listed_price) } else { listed_price };
    let price_before = match wanted.billing {
        None => own_price,
        Some(Billing::Spot) => paid.or(own_offer(spec, offered).and_then(|offer| offer.on_demand_price)),
        Some(_) => None,
    };
    let mode = if wanted.billing == Some(&Billing::OnDemand) { " on demand" } else { "" };
    let placements = sites.into_iter().map(|site| {
        let words = words(spec, &site, price_before, mode);
        let nearness = match (site.product_id == spec.product_id, site.cluster_id == spec.cluster_id) {
            (true, true) => Nearness::Own,
            (false, true) => Nearness::SameCluster,
            (_, false) => Nearness::Elsewhere,
        };
        let cluster = offered.clusters.iter().find(|it| it.id == site.cluster_id);
        Placement {
            cluster_name: cluster.map(|it| it.name.clone()).unwrap_or_default(),
            nearness,
            price: site.price.map(|price| price.times(spec.gpu_num)),
            on_demand_price: site.on_demand_price.map(|price| price.times(spec.gpu_num)),
            stock: site.stock,
            place: Place { product: site.product_id.into(), cluster: site.cluster_id.into() },
            words,
        }
    });
    Ok(Prepared {
        placements: placements.collect(),
        blueprint,
        gpus: spec.gpu_num,
        own_price: own_price.map(|price| price.times(spec.gpu_num)),
        is_home_untried: false,
        tied_by: spec.tied_by(),
        unread: None,
    })
}

/// What is offered for one replacement. `None` could not be read, and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OnOffer {
    own_cluster: Option<Vec<Offer>>,
    anywhere: Option<Vec<Offer>>,
    /// What other clusters state themselves, as far as it could be read.
    by_cluster: HashMap<String, Vec<Offer>>,
    clusters: Vec<Cluster>,
}

/// A product in a cluster, by id; an empty cluster lets the provider choose.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    product_id: String,
    cluster_id: String,
    /// Per GPU and hour, if known.
    price: Option<Usd>,
    on_demand_price: Option<Usd>,
    stock: Stock,
}

/// Where a replacement can be created: its own product, then others of the same name in the same cluster, the cheapest
/// first, then in any other cluster unless something ties it. What is reported as sold out is among them, since stock is
/// only a hint; so is its own product, unless it is known to be gone.
fn sites(spec: &Spec, market: &OnOffer) -> Vec<Site> {
    let mut chosen = offered_sites(spec, market);
    let own = |site: &Site| site.product_id == spec.product_id && site.cluster_id == spec.cluster_id;
    if !spec.product_id.is_empty() && !chosen.iter().any(own) && !is_gone(spec, market) {
        let offer = own_offer(spec, market);
        let (price, on_demand_price) = (offer.and_then(|it| it.price), offer.and_then(|it| it.on_demand_price));
        let (product_id, cluster_id) = (spec.product_id.clone(), spec.cluster_id.clone());
        let stock = if market.own_cluster.is_some() { Stock::None } else { Stock::Unstated };
        chosen.push(Site { product_id, cluster_id, price, on_demand_price, stock });
    }
    chosen
}

/// What the provider offers that would do.
fn offered_sites(spec: &Spec, market: &OnOffer) -> Vec<Site> {
    let fits = |offer: &&Offer| offer.price.is_some() && offer.max_rootfs.is_none_or(|max| spec.rootfs_size <= max);
    let is_same_kind = |offer: &&Offer| {
        offer.product_id == spec.product_id || (!spec.product_name.is_empty() && offer.name == spec.product_name)
    };
    let place = |offer: &Offer, cluster_id: &str| Site {
        product_id: offer.product_id.clone(),
        cluster_id: cluster_id.into(),
        price: offer.price,
        on_demand_price: offer.on_demand_price,
        stock: if offer.available { offer.stock } else { Stock::None },
    };
    let cheapest_first = |mut places: Vec<Site>| {
        places.sort_by(|a, b| (a.price, &a.product_id, &a.cluster_id).cmp(&(b.price, &b.product_id, &b.cluster_id)));
        places
    };
    let own_cluster = market.own_cluster.as_deref().unwrap_or_default();
    let in_own: Vec<Site> =
        own_cluster.iter().filter(is_same_kind).filter(fits).map(|offer| place(offer, &spec.cluster_id)).collect();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        in_own.into_iter().partition(|site| site.product_id == spec.product_id);
    chosen.extend(cheapest_first(others));
    if spec.tied_by().is_none() {
        let anywhere = market.anywhere.as_deref().unwrap_or_default().iter().filter(is_same_kind).filter(fits);
        let elsewhere = anywhere.flat_map(|offer| {
            let clusters = clusters_of(offer, &market.clusters);
            clusters.into_iter().map(move |cluster| place(offer, &cluster))
        });
        let elsewhere = elsewhere.filter(|place| place.cluster_id.is_empty() || place.cluster_id != spec.cluster_id);
        let with_own_stock = elsewhere.map(|site| match market.by_cluster.get(&site.cluster_id) {
            Some(stated) => {
                let stated = stated.iter().find(|offer| offer.product_id == site.product_id);
                let stock = stated.map_or(Stock::None, |it| if it.available { it.stock } else { Stock::None });
                Site { stock, ..site }
            }
            None => site,
        });
        chosen.extend(cheapest_first(with_own_stock.collect()));
    }
    chosen
}

/// The ids of the clusters that have the offer; one empty id if there is no restriction.
fn clusters_of(offer: &Offer, clusters: &[Cluster]) -> Vec<String> {
    if offer.regions.is_empty() {
        return vec![String::new()];
    }
    // Regions are display names followed by a place; ids are spelled differently.
    let short = |name: &str| name.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let known = clusters.iter().filter(|cluster| {
        offer.regions.iter().any(|region| {
            let region = short(region);
            region == short(&cluster.name) || region == cluster.id.to_ascii_lowercase()
        })
    });
    let known: Vec<String> = known.map(|cluster| cluster.id.clone()).collect();
    // No known cluster has that region: the provider chooses.
    if known.is_empty() { vec![String::new()] } else { known }
}

fn own_offer<'a>(spec: &Spec, market: &'a OnOffer) -> Option<&'a Offer> {
    let lists = [market.own_cluster.as_deref(), market.anywhere.as_deref()];
    lists.into_iter().flatten().flatten().find(|offer| offer.product_id == spec.product_id)
}

/// Whether the lists could be read, have products, and its own is not among them.
fn is_gone(spec: &Spec, market: &OnOffer) -> bool {
    let lists = [market.own_cluster.as_deref(), market.anywhere.as_deref()];
    lists.into_iter().flatten().any(|offers| !offers.is_empty()) && own_offer(spec, market).is_none()
}

/// A site in words, seen from where the instance was.
fn words(spec: &Spec, site: &Site, price_before: Option<Usd>, mode: &str) -> String {
    let Site { product_id, cluster_id, price, .. } = site;
    let cluster = if cluster_id.is_empty() { "any cluster" } else { cluster_id };
    let is_own = *product_id == spec.product_id && *cluster_id == spec.cluster_id;
    let unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let mut words = if is_own {
        format!("on its own product {product_id} in {cluster}")
    } else {
        let (product, cluster_before) = (unknown(&spec.product_id), unknown(&spec.cluster_id));
        format!("on {product_id} in {cluster} in place of {product} in {cluster_before}")
    };
    if let Some(price) = price {
        words.push_str(&format!(", {} USD/h{mode}", price.times(spec.gpu_num)));
        if let Some(own) = price_before.filter(|own| !is_own && *own > Usd::default()) {
            let percent = i128::from(price.minus(own).micros()) * 1000 / i128::from(own.micros());
            let sign = if price < &own { "-" } else { "+" };
            let percent = percent.unsigned_abs();
            let difference = format!("{sign}{}.{} %", percent / 10, percent % 10);
            words.push_str(&if own == *price { " (the same price)".into() } else { format!(" ({difference})") });
        }
    }
    words
}

#[cfg(test)]
mod tests;
