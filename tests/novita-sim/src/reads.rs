//! The calls that change nothing.

use serde_json::json;

use crate::api::{Answer, Call, Trick};
use crate::app::endpoints;
use crate::machine::{JobRow, Machine, Product};
use crate::settings::{Hint, PageBase, Total, Wire};
use crate::wire::{self, Refusal};
use crate::world::World;

/// Which rows of a listing a call wants.
struct Page {
    offset: usize,
    size: usize,
}

impl Page {
    fn of(call: &Call, wire: &Wire, trick: Trick) -> Result<Self, Refusal> {
        let number = |name: &str| {
            let text = call.query(name);
            text.map(|text| text.parse::<usize>().map_err(|_| Refusal::invalid(&format!("invalid {name}")))).transpose()
        };
        let size = match number("pageSize")? {
            None | Some(0) => 10,
            Some(size) => size.min(wire.max_page_size),
        };
        let page = match (number("pageNum")?, wire.page_base) {
            (None, _) => 0,
            (Some(page), PageBase::Zero) => page,
            (Some(page), PageBase::Clamped) => page.saturating_sub(1),
            (Some(page), PageBase::One) => page.checked_sub(1).unwrap_or(usize::MAX),
        };
        let page = if trick == Trick::SamePage { 0 } else { page };
        Ok(Self { offset: page.saturating_mul(size), size })
    }
}

/// Puts a listing together from rows that are serialised already.
fn listing<'a>(
    key: &str,
    rows: impl Iterator<Item = Cow<'a>>,
    total: i64,
    is_past_end: bool,
    wire: &Wire,
    trick: Trick,
) -> Answer {
    let total = match trick {
        Trick::LyingTotal(by) => total.saturating_add(by),
        Trick::NoRows => 0,
        _ => total,
    };
    let rows = rows.filter(|_| trick != Trick::NoRows);
    let mut body = String::from("{");
    if !(is_past_end && wire.past_end_without_array) {
        body.push_str(&format!("\"{key}\":["));
        let times = if trick == Trick::DuplicateRows { 2 } else { 1 };
        let start = body.len();
        for row in rows {
            for _ in 0..times {
                if body.len() > start {
                    body.push(',');
                } else if matches!(trick, Trick::BadRow | Trick::NamelessRow) {
                    body.push_str(&spoiled(&row, trick));
                    continue;
                }
                body.push_str(&row);
            }
        }
        body.push(']');
    }
    let comma = if body.len() > 1 { "," } else { "" };
    match wire.total {
        Total::Int => body.push_str(&format!("{comma}\"total\":{total}")),
        Total::Text => body.push_str(&format!("{comma}\"total\":\"{total}\"")),
        Total::Absent => {}
    }
    body.push('}');
    Answer::json(body)
}

fn spoiled(row: &str, trick: Trick) -> String {
    if trick == Trick::NamelessRow {
        ["\"id\":", "\"Id\":", "\"instanceId\":"]
            .iter()
            .fold(row.to_owned(), |row, key| row.replacen(key, "\"ident\":", 1))
    } else if row.contains("\"name\":\"") {
        row.replacen("\"name\":\"", "\"name\":\"\\ud83d", 1)
    } else {
        row.replacen('{', "{\"id\":\"\",\"Id\":\"\",\"jobId\":\"\",", 1)
    }
}

type Cow<'a> = std::borrow::Cow<'a, str>;

fn as_total(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl World {
    /// Instances that no answer knows from now on, although they exist; none of them for an empty list.
    pub fn hide(&mut self, ids: &[&str]) {
        self.hidden = ids.iter().map(|id| (*id).to_owned()).collect();
    }

    fn is_hidden(&self, id: &str) -> bool {
        self.hidden.iter().any(|hidden| hidden == id)
    }

    pub(crate) fn list(&mut self, call: &Call, trick: Trick) -> Result<Answer, Refusal> {
        let page = Page::of(call, &self.rules.wire, trick)?;
        if trick == Trick::EndlessPages {
            return Ok(self.made_up_page(&page));
        }
        let wire = self.rules.wire.clone();
        let filters = [call.query("status"), call.query("name"), call.query("productName")];
        let wanted = |machine: &Machine| {
            let [status, name, product] = filters;
            status.is_none_or(|status| machine.status == status)
                && name.is_none_or(|name| machine.name.contains(name) || machine.id == name)
                && product.is_none_or(|part| machine.product_name.as_deref().unwrap_or_default().contains(part))
        };
        let is_shown = |slot: &&usize| self.machine_at(**slot).is_some_and(|machine| !self.is_hidden(&machine.id));
        let visible: Vec<usize>;
        let shown = if self.hidden.is_empty() {
            self.shown()
        } else {
            visible = self.shown().iter().filter(is_shown).copied().collect();
            &visible
        };
        let (total, slots): (usize, Vec<usize>) = if filters.iter().all(Option::is_none) {
            let end = shown.len().min(page.offset.saturating_add(page.size));
            let range = page.offset.min(end)..end;
            let slots = range.filter_map(|at| {
                let at = if wire.newest_first { shown.len() - 1 - at } else { at };
                shown.get(at).copied()
            });
            (shown.len(), slots.collect())
        } else {
            let mut slots: Vec<_> =
                shown.iter().copied().filter(|slot| self.machine_at(*slot).is_some_and(wanted)).collect();
            if wire.newest_first {
                slots.reverse();
            }
            (slots.len(), slots.into_iter().skip(page.offset).take(page.size).collect())
        };
        for slot in &slots {
            self.row(*slot);
        }
        let rows = slots.iter().filter_map(|slot| self.written_row(*slot)).map(Cow::Borrowed);
        let is_past_end = slots.is_empty() && page.offset > 0;
        Ok(listing("instances", rows, as_total(total), is_past_end, &wire, trick))
    }

    fn made_up_page(&mut self, page: &Page) -> Answer {
        let machine = crate::machine::Spec::running("made-up").machine;
        let rows: Vec<_> = (0..page.size)
            .map(|_| Cow::Owned(wire::row(&Machine { id: self.new_id(), ..machine.clone() }, &[])))
            .collect();
        let total = page.offset.saturating_add(2 * page.size);
        listing("instances", rows.into_iter(), as_total(total), false, &self.rules.wire, Trick::None)
    }

    pub(crate) fn list_jobs(&mut self, call: &Call, trick: Trick) -> Result<Answer, Refusal> {
        let page = Page::of(call, &self.rules.wire, trick)?;
        let wire = self.rules.wire.clone();
        if trick == Trick::EndlessPages {
            let template = JobRow::migration("none", "success", self.now_ms());
            let jobs: Vec<_> = (0..page.size).map(|_| JobRow { id: self.new_id(), ..template.clone() }).collect();
            let rows = jobs.iter().map(|job| Cow::Owned(wire::job(job, wire.job_id_key)));
            let total = as_total(page.offset.saturating_add(2 * page.size));
            return Ok(listing("jobs", rows, total, false, &wire, Trick::None));
        }
        let secs = |name: &str| {
            let text = call.query(name);
            let secs = text.map(|text| text.parse::<i64>().map_err(|_| Refusal::invalid(&format!("invalid {name}"))));
            Ok(secs.transpose()?.filter(|secs| *secs != 0))
        };
        let (from, to) = (secs("startTime")?, secs("endTime")?);
        let [id, state, kind] = [call.query("jobId"), call.query("state"), call.query("type")];
        let jobs: Vec<_> = self
            .shown_jobs()
            .filter(|job| {
                let at = job.created_at.div_euclid(1000);
                from.is_none_or(|from| at >= from)
                    && to.is_none_or(|to| at <= to)
                    && id.is_none_or(|id| job.id == id)
                    && state.is_none_or(|state| job.state == state)
                    && kind.is_none_or(|kind| job.kind == kind)
            })
            .collect();
        let rows = jobs.iter().skip(page.offset).take(page.size);
        let rows = rows.map(|job| Cow::Owned(wire::job(job, wire.job_id_key)));
        let is_past_end = page.offset >= jobs.len() && page.offset > 0;
        Ok(listing("jobs", rows, as_total(jobs.len()), is_past_end, &wire, trick))
    }

    pub(crate) fn get_instance(&self, call: &Call) -> Result<Answer, Refusal> {
        let id = call.query("instanceId").ok_or_else(|| Refusal::invalid("instanceId is required"))?;
        let slot = self.slot(id).filter(|_| !self.is_hidden(id));
        let slot = slot.and_then(|slot| self.slots.get(slot)?.as_ref()).ok_or_else(Refusal::not_found)?;
        let keeps_failed = self.rules.wire.get_keeps_failed_jobs;
        let stale = |job: &&JobRow| keeps_failed && job.state == "fail" && job.kind == "instanceMigrate";
        let jobs = self.jobs_of(id).filter(|job| job.is_unfinished() || stale(job));
        let jobs: Vec<_> = jobs.map(|job| (job.id.as_str(), job.kind.as_str())).collect();
        let endpoints = endpoints(&self.apps, slot, self.rules.wire.endpoint_urls);
        Ok(Answer::json(wire::instance(&slot.machine, &endpoints, &jobs, &self.rules.wire)))
    }

    pub(crate) fn list_products(&self, call: &Call) -> Result<Answer, Refusal> {
        let loose = self.rules.wire.loose_products;
        let gpus = match call.query("gpuNum") {
            Some(text) => text.parse::<u32>().ok().filter(|gpus| *gpus <= 8),
            None => Some(1),
        };
        let gpus = gpus.ok_or_else(|| Refusal::invalid("invalid gpuNum"))?;
        let billing = call.query("billingMethod").unwrap_or("onDemand");
        let cluster = call.query("clusterId");
        let name = call.query("productName").unwrap_or_default();
        let products: Vec<_> = self
            .products
            .iter()
            .filter(|product| product.name.contains(name))
            .filter(|product| cluster.is_none_or(|cluster| product.is_in(cluster)))
            .map(|product| {
                let is_sold = billing != "spot" || product.spot_price.is_some();
                let left = if is_sold { self.claimed(product, cluster, billing, gpus.max(1)) } else { 0 };
                let left = Some(left).filter(|_| self.rules.hint != Hint::Absent);
                wire::product(product, &self.clusters, left, loose)
            })
            .collect();
        Ok(Answer::json(json!({"data": products}).to_string()))
    }

    /// How many instances the product list says can be deployed, for a question about one cluster, or about all.
    fn claimed(&self, product: &Product, cluster: Option<&str>, billing: &str, gpus: u32) -> u32 {
        if product.hint_lies || self.rules.hint == Hint::AlwaysYes {
            return u32::MAX;
        }
        let left = |cluster: &str| {
            let in_stock = product.left_for(billing, cluster) / gpus;
            self.hinted_room(&product.id, billing, cluster).map_or(in_stock, |room| room.min(in_stock))
        };
        match cluster {
            Some(cluster) => left(cluster),
            None => self.clusters.iter().map(|cluster| left(&cluster.id)).max().unwrap_or(0),
        }
    }

    pub(crate) fn list_clusters(&self) -> Answer {
        let clusters: Vec<_> = self
            .clusters
            .iter()
            .map(|cluster| {
                let products = self.products.iter().filter(|product| product.is_in(&cluster.id));
                let types: Vec<_> = products.map(|product| product.name.as_str()).collect();
                let has_networks = self.networks.values().any(|home| *home == cluster.id);
                json!({"id": cluster.id, "name": cluster.name, "availableGpuType": types,
                    "supportNetworkStorage": cluster.network_storage, "supportInstanceNetwork": has_networks})
            })
            .collect();
        Answer::json(json!({"data": clusters}).to_string())
    }
}
