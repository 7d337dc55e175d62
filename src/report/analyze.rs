//! The JSON document of `analyze`. Amounts are in USD and written from integers, never through floating point. Instances
//! are converted one at a time while the document is written, since there may be very many.

use serde::{Serialize, Serializer};

use super::document::Number;
use crate::core::rollout::analysis::{Analysis, Opportunity, Risk, TotalSaving};
use crate::core::rollout::gates::{Gate, Gates};
use crate::core::rollout::metrics::Workload;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::money::{Usd, decimal};

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalyzeDocument<'a> {
    instances_analyzed: usize,
    opportunities_found: usize,
    total_monthly_savings: Number<Usd>,
    total_annual_savings: Number<Usd>,
    approved: ApprovedPart,
    complete: bool,
    notes: &'a [String],
    #[serde(serialize_with = "opportunities")]
    opportunities: &'a Analysis,
    #[serde(serialize_with = "others")]
    others: &'a Analysis,
}

/// The opportunities that all gates approve.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApprovedPart {
    count: usize,
    monthly_savings: Number<Usd>,
    annual_savings: Number<Usd>,
}

/// An instance that would save money.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OpportunityPart<'a> {
    instance_id: &'a InstanceId,
    instance_name: &'a str,
    product_id: Option<&'a str>,
    cluster_id: Option<&'a str>,
    gpu_num: u32,
    current_cost: Option<Number<Usd>>,
    spot_cost: Option<Number<Usd>>,
    savings_amount: Number<Usd>,
    savings_percentage: Option<Number<String>>,
    monthly_savings: Number<Usd>,
    annual_savings: Number<Usd>,
    risk_level: Risk,
    interruption_rate: Option<Number<String>>,
    interruption_evidence: EvidencePart,
    workload: Workload,
    approved: bool,
    #[serde(serialize_with = "gates")]
    gates: &'a Gates,
}

/// The record of reclaims in its place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EvidencePart {
    instance_hours: u64,
    reclaims: u64,
}

#[derive(Debug, Serialize)]
struct GatePart<'a> {
    verdict: &'static str,
    confidence: Number<String>,
    evidence: Vec<&'a str>,
}

/// An instance that would save no money.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OtherPart<'a> {
    instance_id: &'a InstanceId,
    instance_name: &'a str,
    product_id: Option<&'a str>,
    cluster_id: Option<&'a str>,
    current_cost: Option<Number<Usd>>,
    spot_cost: Option<Number<Usd>>,
    reason: &'static str,
}

impl<'a> AnalyzeDocument<'a> {
    #[must_use]
    pub fn new(analysis: &'a Analysis) -> Self {
        let (total, TotalSaving { count, hourly }) = (analysis.total(), analysis.approved());
        let approved =
            ApprovedPart { count, monthly_savings: Number(hourly.monthly()), annual_savings: Number(hourly.annual()) };
        Self {
            instances_analyzed: analysis.opportunities.len(),
            opportunities_found: total.count,
            total_monthly_savings: Number(total.hourly.monthly()),
            total_annual_savings: Number(total.hourly.annual()),
            approved,
            complete: analysis.shortfall.is_none(),
            notes: &analysis.notes,
            opportunities: analysis,
            others: analysis,
        }
    }
}

fn opportunities<S: Serializer>(analysis: &&Analysis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(analysis.found().filter_map(opportunity))
}

fn opportunity(it: &Opportunity) -> Option<OpportunityPart<'_>> {
    let saving = it.saving()?;
    let (product_id, cluster_id) = place(it.place.as_ref());
    let (instance_hours, reclaims) = it.market.map_or((0, 0), |market| (market.hours(), market.reclaims));
    Some(OpportunityPart {
        instance_id: &it.instance,
        instance_name: &it.name,
        product_id,
        cluster_id,
        gpu_num: it.gpu_num,
        current_cost: it.current_cost.map(Number),
        spot_cost: it.spot_cost.map(Number),
        savings_amount: Number(saving),
        savings_percentage: it.saving_share().map(|share| Number(decimal(share, 2))),
        monthly_savings: Number(saving.monthly()),
        annual_savings: Number(saving.annual()),
        risk_level: it.risk,
        interruption_rate: it.market.and_then(|it| it.rate()).map(|rate| Number(decimal(rate, 6))),
        interruption_evidence: EvidencePart { instance_hours, reclaims },
        workload: it.workload,
        approved: it.approved,
        gates: &it.gates,
    })
}

fn others<S: Serializer>(analysis: &&Analysis, serializer: S) -> Result<S::Ok, S::Error> {
    let others = analysis.opportunities.iter().filter(|it| it.saving().is_none());
    serializer.collect_seq(others.map(|it| {
        let (product_id, cluster_id) = place(it.place.as_ref());
        OtherPart {
            instance_id: &it.instance,
            instance_name: &it.name,
            product_id,
            cluster_id,
            current_cost: it.current_cost.map(Number),
            spot_cost: it.spot_cost.map(Number),
            reason: it.why_none(),
        }
    }))
}

fn place(place: Option<&Place>) -> (Option<&str>, Option<&str>) {
    place.map_or((None, None), |it| (Some(it.product.as_str()), Some(it.cluster.as_str())))
}

fn gates<S: Serializer>(gates: &&Gates, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(gates.all().into_iter().map(|(name, gate)| (name, part(gate))))
}

fn part(gate: &Gate) -> GatePart<'_> {
    GatePart {
        verdict: gate.verdict().into_str(),
        confidence: Number(decimal(u64::from(gate.confidence()), 2)),
        evidence: gate.evidence.iter().map(|it| it.text.as_str()).collect(),
    }
}
