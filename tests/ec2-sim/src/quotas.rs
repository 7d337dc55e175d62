//! Service Quotas: GetServiceQuota (3.7).

use serde_json::json;

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::Lifecycle;
use crate::region::ACCOUNT;
use crate::world::World;

/// The quotas of EC2 that there are: the code, the market, the group, the name.
const QUOTAS: [(&str, Lifecycle, &str, &str); 10] = [
    ("L-34B43A08", Lifecycle::Spot, "Standard", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
    ("L-3819A6DF", Lifecycle::Spot, "G", "All G and VT Spot Instance Requests"),
    ("L-7212CCBC", Lifecycle::Spot, "P", "All P4, P3 and P2 Spot Instance Requests"),
    ("L-E3A00192", Lifecycle::Spot, "X", "All X Spot Instance Requests"),
    ("L-85EED4F7", Lifecycle::Spot, "DL", "All DL Spot Instance Requests"),
    ("L-B5D1601B", Lifecycle::Spot, "Inf", "All Inf Spot Instance Requests"),
    ("L-88CF9481", Lifecycle::Spot, "F", "All F Spot Instance Requests"),
    ("L-1216C47A", Lifecycle::OnDemand, "Standard", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    ("L-DB2E81BA", Lifecycle::OnDemand, "G", "Running On-Demand G and VT instances"),
    ("L-417A185B", Lifecycle::OnDemand, "P", "Running On-Demand P instances"),
];

impl World {
    pub(crate) fn get_service_quota(&self, name: &str, form: &Form) -> Answer<String> {
        let need = |member: &str| {
            let message = format!("The member {member} is missing");
            form.get(member).ok_or_else(|| ApiError::new("IllegalArgumentException", message))
        };
        let (service, code) = (need("ServiceCode")?, need("QuotaCode")?);
        let quota = QUOTAS.iter().find(|(known, ..)| *known == code).filter(|_| service == "ec2");
        let (Some((_, market, group, title)), Some(region)) = (quota, self.region(name)) else {
            let message = format!("The quota {code} of the service {service} does not exist");
            return Err(ApiError::new("NoSuchResourceException", message));
        };
        let of = match market {
            Lifecycle::Spot => "Spot",
            Lifecycle::OnDemand => "OnDemand",
        };
        let quota = json!({
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaArn": format!("arn:aws:servicequotas:{name}:{ACCOUNT}:ec2/{code}"),
            "QuotaCode": code,
            "QuotaName": title,
            "Value": f64::from(region.quota(*market, group)),
            "Unit": "None",
            "Adjustable": true,
            "GlobalQuota": false,
            "QuotaAppliedAtLevel": "ACCOUNT",
            "UsageMetric": {
                "MetricNamespace": "AWS/Usage",
                "MetricName": "ResourceCount",
                "MetricDimensions": {
                    "Class": format!("{group}/{of}"), "Resource": "vCPU", "Service": "EC2", "Type": "Resource",
                },
                "MetricStatisticRecommendation": "Maximum",
            },
        });
        Ok(json!({"Quota": quota}).to_string())
    }
}
