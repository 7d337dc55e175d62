//! Target groups of load balancers: traffic moves from one instance to another (`docs/ec2-api.md` section 4.5).

use super::client::Ec2Client;
use super::facts::encoded;
use super::region::{Region, request};
use super::wire;
use super::xml::{Set, shapes};
use crate::cloud::transport::Transport;
use crate::cloud::{CloudError, Guard};
use crate::core::world::instance::InstanceId;

shapes! {
    /// Of DescribeTargetHealth.
    struct TargetHealth {
        describe_target_health_result: TargetHealthResult,
    }

    struct TargetHealthResult {
        target_health_descriptions: Set<TargetDescription>,
    }

    struct TargetDescription {
        target: TargetRow,
        target_health: TargetCondition,
    }

    struct TargetRow {
        id: String,
        port: Option<u32>,
    }

    struct TargetCondition {
        state: String,
    }
}

impl<T: Transport> Ec2Client<T> {
    /// Takes the next step to move traffic in every target group of the settings in which `from` is a target: `to` is
    /// registered, becomes healthy, then `from` is deregistered and drained. Returns what is waited for; `None` once it is done.
    ///
    /// # Errors
    /// When a group cannot be read, or a target cannot be registered or deregistered.
    pub(super) async fn shifted(
        &self,
        from: &InstanceId,
        to: &InstanceId,
        guard: Guard<'_>,
    ) -> Result<Option<String>, CloudError> {
        let mut waits = Vec::new();
        for arn in &self.terms.target_groups {
            waits.extend(self.shifted_in(arn, from, to, guard).await?);
        }
        Ok((!waits.is_empty()).then(|| waits.join(", ")))
    }

    async fn shifted_in(
        &self,
        arn: &str,
        from: &InstanceId,
        to: &InstanceId,
        guard: Guard<'_>,
    ) -> Result<Option<String>, CloudError> {
        let (region, name) = parts(arn);
        let Some(region) = self.regions.iter().find(|it| it.name == region) else {
            let what = format!("the region of {arn} is in none of RESPOT_EC2_REGIONS");
            return Err(self.regions[0].balancers.unsent("DescribeTargetHealth", &what));
        };
        let targets = region.targets(arn).await?;
        let of = |id: &InstanceId| targets.iter().find(|it| it.target.id == id.as_str());
        let state = |id: &InstanceId| of(id).map_or("", |it| it.target_health.state.as_str());
        let Some(old) = of(from) else { return Ok(None) };
        match (state(from), state(to)) {
            // It serves while it drains, and its connections end by themselves.
            ("draining", "healthy") => Ok(Some(format!("{from} to drain in {name}"))),
            (_, "healthy") => {
                region.change_target("DeregisterTargets", (arn, from, old.target.port), guard).await?;
                Ok(Some(format!("{from} to drain in {name}")))
            }
            (_, "" | "draining" | "unused") => {
                region.change_target("RegisterTargets", (arn, to, old.target.port), guard).await?;
                Ok(Some(format!("{to} to be healthy in {name}")))
            }
            (_, state) => Ok(Some(format!("{to} to be healthy in {name}, where it is {state}"))),
        }
    }
}

/// The region and the name in the ARN of a target group.
fn parts(arn: &str) -> (&str, &str) {
    (arn.split(':').nth(3).unwrap_or_default(), arn.split('/').nth(1).unwrap_or(arn))
}

impl<T: Transport> Region<T> {
    async fn targets(&self, arn: &str) -> Result<Vec<TargetDescription>, CloudError> {
        let form = [("TargetGroupArn".to_owned(), arn.to_owned())];
        let request = request("DescribeTargetHealth", &form);
        let health = Box::pin(self.balancers.ask(&request, wire::read::<TargetHealth>)).await?;
        Ok(health.describe_target_health_result.target_health_descriptions.item)
    }

    async fn change_target(
        &self,
        action: &'static str,
        (arn, id, port): (&str, &InstanceId, Option<u32>),
        guard: Guard<'_>,
    ) -> Result<(), CloudError> {
        let port = port.map(|port| port.to_string());
        let form = [("TargetGroupArn", arn), ("Targets.member.1.Id", id.as_str())].into_iter();
        let form = form.chain(port.as_deref().map(|port| ("Targets.member.1.Port", port)));
        Box::pin(self.balancers.write(action, encoded(form), guard)).await.map(drop)
    }
}
