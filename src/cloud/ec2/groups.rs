//! Target groups of load balancers: traffic moves from one instance to another (`docs/ec2-api.md` section 4.5).

use super::client::Ec2Client;
use super::facts::{LaunchFacts, encoded};
use super::membership::{Balance, Groups, Membership, groups, words};
use super::region::{Region, request};
use super::states::TARGETS;
use super::wire::{self, Ec2Row};
use super::xml::{Set, shapes};
use crate::cloud::transport::Transport;
use crate::cloud::{CloudError, Guard, Registered};
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
    /// How many targets the last listing found in the groups of the settings, and which groups it could not read.
    pub fn targets(&self) -> (usize, Vec<(String, CloudError)>) {
        let balance = self.balance.borrow();
        (balance.targets.len(), balance.unread.clone())
    }

    /// Reads the target groups of the settings, each by itself. What drains is no target any more.
    pub(super) async fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for arn in &self.terms.target_groups {
            let (region, name) = parts(arn);
            let Some(at) = self.regions.iter().position(|it| it.name == region) else { continue };
            let targets = match self.regions[at].targets(arn).await {
                Ok(targets) => targets,
                Err(error) => {
                    balance.unread.push((name.to_owned(), error));
                    continue;
                }
            };
            balance.read.insert((at, name.to_owned()));
            for TargetDescription { target, .. } in
                targets.into_iter().filter(|it| it.target_health.state != "draining")
            {
                let port = target.port.map_or(String::new(), |port| format!(":{port}"));
                balance.targets.entry((at, target.id)).or_default().insert(format!("{name}{port}"));
            }
        }
        balance
    }

    /// The membership of an instance that is listed, from what was known of it.
    pub(super) fn membership(&self, region: usize, row: &Ec2Row, known: &str) -> Membership {
        let balance = self.balance.borrow();
        let now = balance.of(region, &row.instance_id);
        Membership::seen(known, &now, |group| balance.is_read(region, group), row.tag(TARGETS).unwrap_or_default())
    }

    /// The target groups for what replaces an instance, as they are on record. Only those: the same launch has to be the same
    /// request in every pass. What else is known of its groups is noted.
    pub(super) fn served(
        &self,
        region: usize,
        old: &InstanceId,
        facts: &LaunchFacts,
        notes: &mut Vec<String>,
    ) -> String {
        let (balance, targets) = (self.balance.borrow(), &facts.targets);
        let unseen: Groups = balance.of(region, old.as_str()).difference(&groups(targets)).cloned().collect();
        if !unseen.is_empty() {
            notes.push(format!("it is not registered in {}: no pass saw the old instance there", words(&unseen)));
        }
        if targets.is_empty() && !balance.unread.is_empty() {
            notes.push("whether it was in a target group is not known: they could not be read".into());
        }
        if !targets.is_empty() && !facts.has_room_for(targets) {
            notes.push(format!("it is not registered in {targets}: its tags leave no room to say so"));
            return String::new();
        }
        targets.clone()
    }

    /// Registers what was found to be missing in a target group and `may` be acted on.
    pub(super) async fn registered(&self, may: &dyn Fn(&InstanceId) -> bool, guard: Guard<'_>) -> Vec<Registered> {
        let missing = self.unregistered.take().into_iter().map(|((at, id), groups)| (at, InstanceId::new(&id), groups));
        let unread = |(group, error): &(String, CloudError)| Registered {
            instance: None,
            group: group.clone(),
            answer: Err(error.clone()),
        };
        let mut registered: Vec<Registered> = self.balance.borrow().unread.iter().map(unread).collect();
        for (at, id, groups) in missing.filter(|(_, id, _)| may(id)) {
            for group in groups {
                let (name, port) =
                    group.split_once(':').map_or((group.as_str(), None), |(name, port)| (name, Some(port)));
                let is_it = |arn: &&String| parts(arn) == (self.regions[at].name.as_str(), name);
                // The settings do not name it any more.
                let Some(arn) = self.terms.target_groups.iter().find(is_it) else { continue };
                let target = (arn.as_str(), &id, port.and_then(|port| port.parse().ok()));
                let answer = self.regions[at].change_target("RegisterTargets", target, guard).await;
                registered.push(Registered { instance: Some(id.clone()), group, answer });
            }
        }
        registered
    }

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
