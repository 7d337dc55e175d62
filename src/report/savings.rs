//! The document of `analyze` for scripts. Amounts are numbers of USD, written from whole numbers without a detour through
//! floating point.

use serde::Serialize;
use serde_json::value::RawValue;

use super::document::Rows;
use crate::core::pass::exposure::Exposure;
use crate::core::rollout::analysis::{Analysis, Gate, Gates, Opportunity, Risk};
use crate::core::rollout::metrics::Workload;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::money::{Usd, decimal};

/// `analyze`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SavingsDocument<'a, F: Serialize, O: Serialize> {
    instances_analyzed: usize,
    opportunities_found: usize,
    total_monthly_savings: Box<RawValue>,
    total_annual_savings: Box<RawValue>,
    approved: ApprovedPart,
    complete: bool,
    notes: Vec<&'a str>,
    opportunities: F,
    others: O,
}

/// Those that all gates approve.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApprovedPart {
    count: usize,
    monthly_savings: Box<RawValue>,
    annual_savings: Box<RawValue>,
}

/// An instance that would save something.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OpportunityPart<'a> {
    instance_id: &'a InstanceId,
    instance_name: &'a str,
    product_id: Option<&'a str>,
    cluster_id: Option<&'a str>,
    gpu_num: u32,
    current_cost: Option<Box<RawValue>>,
    spot_cost: Option<Box<RawValue>>,
    savings_amount: Box<RawValue>,
    savings_percentage: Option<Box<RawValue>>,
    monthly_savings: Box<RawValue>,
    annual_savings: Box<RawValue>,
    risk_level: Risk,
    interruption_rate: Option<Box<RawValue>>,
    interruption_evidence: EvidencePart,
    workload: Workload,
    approved: bool,
    gates: GatesPart<'a>,
}

/// What this store has seen of reclaims there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct EvidencePart {
    instance_hours: u64,
    reclaims: u64,
}

#[derive(Debug, Serialize)]
struct GatesPart<'a> {
    performance: GatePart<'a>,
    resource: GatePart<'a>,
    application: GatePart<'a>,
}

#[derive(Debug, Serialize)]
struct GatePart<'a> {
    verdict: &'static str,
    confidence: Box<RawValue>,
    evidence: Vec<&'a str>,
}

/// An instance that would save nothing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OtherPart<'a> {
    instance_id: &'a InstanceId,
    instance_name: &'a str,
    product_id: Option<&'a str>,
    cluster_id: Option<&'a str>,
    current_cost: Option<Box<RawValue>>,
    spot_cost: Option<Box<RawValue>>,
    reason: &'static str,
}

/// The document of an analysis.
#[must_use]
pub fn savings(analysis: &Analysis) -> impl Serialize {
    let (total, approved) = (analysis.total(), analysis.approved());
    SavingsDocument {
        instances_analyzed: analysis.opportunities.len(),
        opportunities_found: total.count,
        total_monthly_savings: money(total.hourly.monthly()),
        total_annual_savings: money(total.hourly.annual()),
        approved: ApprovedPart {
            count: approved.count,
            monthly_savings: money(approved.hourly.monthly()),
            annual_savings: money(approved.hourly.annual()),
        },
        complete: analysis.shortfall.is_none(),
        notes: analysis.notes.iter().map(String::as_str).collect(),
        opportunities: Rows(|| analysis.found().filter_map(opportunity)),
        others: Rows(|| analysis.opportunities.iter().filter(|it| it.saving().is_none()).map(other)),
    }
}

fn opportunity(it: &Opportunity) -> Option<OpportunityPart<'_>> {
    let saving = it.saving()?;
    let (product_id, cluster_id) = place(it.place.as_ref());
    Some(OpportunityPart {
        instance_id: &it.instance,
        instance_name: &it.name,
        product_id,
        cluster_id,
        gpu_num: it.gpu_num,
        current_cost: it.current_cost.map(money),
        spot_cost: it.spot_cost.map(money),
        savings_amount: money(saving),
        savings_percentage: it.saving_share().map(|share| number(&decimal(share, 2))),
        monthly_savings: money(saving.monthly()),
        annual_savings: money(saving.annual()),
        risk_level: it.risk,
        interruption_rate: it.exposure.and_then(|it| it.rate()).map(|rate| number(&decimal(rate, 6))),
        interruption_evidence: it.exposure.map_or(EvidencePart::default(), |exposure: Exposure| EvidencePart {
            instance_hours: exposure.hours(),
            reclaims: exposure.reclaims,
        }),
        workload: it.workload,
        approved: it.approved,
        gates: gates(&it.gates),
    })
}

fn other(it: &Opportunity) -> OtherPart<'_> {
    let (product_id, cluster_id) = place(it.place.as_ref());
    OtherPart {
        instance_id: &it.instance,
        instance_name: &it.name,
        product_id,
        cluster_id,
        current_cost: it.current_cost.map(money),
        spot_cost: it.spot_cost.map(money),
        reason: it.why_none(),
    }
}

fn place(place: Option<&Place>) -> (Option<&str>, Option<&str>) {
    place.map_or((None, None), |it| (Some(it.product.as_str()), Some(it.cluster.as_str())))
}

fn gates(Gates { performance, resource, application }: &Gates) -> GatesPart<'_> {
    GatesPart { performance: gate(performance), resource: gate(resource), application: gate(application) }
}

fn gate(gate: &Gate) -> GatePart<'_> {
    GatePart {
        verdict: gate.verdict().into_str(),
        confidence: number(&decimal(u64::from(gate.confidence()), 2)),
        evidence: gate.evidence.iter().map(|it| it.text.as_str()).collect(),
    }
}

fn money(amount: Usd) -> Box<RawValue> {
    number(&amount.to_string())
}

fn number(text: &str) -> Box<RawValue> {
    #[expect(clippy::expect_used, reason = "digits around one point are a number in JSON")]
    RawValue::from_string(text.to_owned()).expect("a number")
}
