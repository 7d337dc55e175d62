//! Target groups of load balancers: traffic moves from one instance to another (`docs/ec2-api.md` section 4.5).

use std::collections::{BTreeSet, HashMap};

use super::client::Ec2Client;
use super::facts::encoded;
use super::region::{Region, request};
use super::wire;
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

/// Target groups, each with its port: `web:8000`.
pub(super) type Groups = BTreeSet<String>;

/// The target groups of each instance, by its region.
pub(super) type Targets = HashMap<(usize, String), Groups>;

/// The target groups of an instance that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// Those that it is in.
    pub(super) now: Groups,
    /// Those that it is or was in, so that no pass puts it back where a person has taken it out.
    ever: Groups,
    /// Those that it is still to be put into, since what it replaces was in them.
    pub(super) missing: Groups,
}

impl Membership {
    /// From what was known of it, as [`Self::mark`] wrote it, from the groups that it is in, if those could be read, and from
    /// its tag.
    pub(super) fn seen(known: &str, now: Option<&Groups>, tag: &str) -> Self {
        let mut parts = known.split('+').skip(1).map(groups);
        let (known_now, mut ever) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        ever.extend(known_now.iter().chain(now.into_iter().flatten()).cloned());
        let missing = groups(tag).difference(&ever).cloned().collect();
        Self { now: now.cloned().unwrap_or(known_now), ever, missing }
    }

    /// Completes the mark of what an instance is made of.
    pub(super) fn mark(&self, made_of: &str) -> String {
        match self.ever.is_empty() {
            true => made_of.to_owned(),
            false => format!("{made_of}+{}+{}", words(&self.now), words(&self.ever)),
        }
    }

    /// As a tag of its replacement.
    pub(super) fn tag(&self) -> String {
        words(&self.now.union(&self.missing).cloned().collect())
    }
}

fn groups(words: &str) -> Groups {
    words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn words(groups: &Groups) -> String {
    groups.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

impl<T: Transport> Ec2Client<T> {
    /// The targets in the groups of the settings; `None` if there are no groups, or if they cannot be read, which
    /// [`Self::unseen`] then says.
    pub(super) async fn seen_targets(&self) -> Option<Targets> {
        if self.terms.target_groups.is_empty() {
            return None;
        }
        let read = self.read_targets().await;
        read.map_err(|error| *self.unseen.borrow_mut() = Some(error)).ok()
    }

    /// What drains is no target any more.
    async fn read_targets(&self) -> Result<Targets, CloudError> {
        let mut found = Targets::new();
        for arn in &self.terms.target_groups {
            let (at, region) = self.home(arn)?;
            for TargetDescription { target, target_health } in region.targets(arn).await? {
                if target_health.state != "draining" {
                    let port = target.port.map_or(String::new(), |port| format!(":{port}"));
                    found.entry((at, target.id)).or_default().insert(format!("{}{port}", parts(arn).1));
                }
            }
        }
        Ok(found)
    }

    /// Registers what was found to be missing in a target group and `may` be acted on.
    pub(super) async fn registered(&self, may: &dyn Fn(&InstanceId) -> bool, guard: Guard<'_>) -> Vec<Registered> {
        let missing = self.unregistered.take().into_iter().map(|((at, id), groups)| (at, InstanceId::new(&id), groups));
        let mut registered = Vec::new();
        for (at, id, groups) in missing.filter(|(_, id, _)| may(id)) {
            for group in groups {
                let (name, port) =
                    group.split_once(':').map_or((group.as_str(), None), |(name, port)| (name, Some(port)));
                let is_it = |arn: &&String| parts(arn) == (self.regions[at].name.as_str(), name);
                // The settings do not name it any more.
                let Some(arn) = self.terms.target_groups.iter().find(is_it) else { continue };
                let target = (arn.as_str(), &id, port.and_then(|port| port.parse().ok()));
                let answer = self.regions[at].change_target("RegisterTargets", target, guard).await;
                registered.push(Registered { instance: id.clone(), group, answer });
            }
        }
        registered
    }

    /// The region of a target group.
    fn home(&self, arn: &str) -> Result<(usize, &Region<T>), CloudError> {
        let (name, _) = parts(arn);
        self.regions.iter().enumerate().find(|(_, it)| it.name == name).ok_or_else(|| {
            let what = format!("the region of {arn} is in none of RESPOT_EC2_REGIONS");
            self.regions[0].balancers.unsent("DescribeTargetHealth", &what)
        })
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
        let (_, region) = self.home(arn)?;
        let name = parts(arn).1;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: what was known of an instance, the groups that it is in, its tag; what is known then, what it lacks, and
    /// what its replacement is told.
    #[test]
    fn what_was_taken_out_by_a_person_stays_out() {
        let rows: &[(&str, Option<&str>, &str, &str, &str, &str)] = &[
            ("m", Some(""), "", "m", "", ""),
            ("m", Some("web:80"), "", "m+web:80+web:80", "", "web:80"),
            ("m+web:80+web:80", Some(""), "", "m++web:80", "", ""),
            ("m++web:80", Some(""), "web:80", "m++web:80", "", ""),
            ("m", Some(""), "web:80", "m", "web:80", "web:80"),
            ("", Some("web:80"), "api:80 web:80", "m+web:80+web:80", "api:80", "api:80 web:80"),
            ("m+web:80+web:80", None, "", "m+web:80+web:80", "", "web:80"),
            ("", None, "web:80", "m", "web:80", "web:80"),
        ];
        for (known, now, tag, mark, missing, told) in rows {
            let seen = Membership::seen(known, now.map(groups).as_ref(), tag);
            let found = (seen.mark("m"), words(&seen.missing), seen.tag());
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_str()),
                (*mark, *missing, *told),
                "{known} {now:?}"
            );
        }
    }
}
