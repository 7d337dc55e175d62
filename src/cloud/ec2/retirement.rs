//! How an on-demand instance goes that a rollout has replaced: stopped first, with a tag that says when (`docs/ec2-api.md`
//! section 4.7).

use super::client::Ec2Client;
use super::facts::encoded;
use super::states;
use super::wire::Ec2Row;
use crate::clock::Clock;
use crate::cloud::transport::Transport;
use crate::cloud::{CloudError, CloudRead as _, Guard};
use crate::core::world::instance::{Aside, InstanceId, Places};
use crate::core::world::time::Timestamp;

impl<T: Transport> Ec2Client<T> {
    /// Whether a pass may terminate an instance that is stopped: a rollout retired it, long enough ago, and what took its
    /// place runs.
    pub(super) fn is_due(&self, row: &Ec2Row) -> bool {
        let instance = self.instance(row, None, &mut Places::default());
        instance.aside.as_deref() == Some(&Aside::Retired { until: None }) && self.has_heir(row)
    }

    /// Whether a spot instance runs in the place of another, by the last listing: the one that replaced it, or one of its name
    /// that was launched since it was stopped and replaced no other on-demand instance: what replaced it may have been replaced in
    /// turn.
    pub(super) fn has_heir(&self, old: &Ec2Row) -> bool {
        let rows = self.rows.borrow();
        let name = |row: &Ec2Row| row.tag("Name").filter(|name| !name.is_empty()).map(str::to_owned);
        let is_on_demand =
            |id: &str| rows.values().any(|(_, row)| row.instance_id == id && row.instance_lifecycle.is_empty());
        let is_later = |row: &Ec2Row| row.launch_time.parse::<Timestamp>().ok() > old.retired_at();
        let took_its_name = |row: &Ec2Row| {
            name(old).is_some()
                && name(row) == name(old)
                && is_later(row)
                && !row.tag(states::REPLACES).is_some_and(is_on_demand)
        };
        let is_heir = |row: &Ec2Row| {
            row.instance_lifecycle == "spot"
                && row.instance_state.name == "running"
                && states::is_ours(row, &self.terms.opt_in)
                && (row.tag(states::REPLACES) == Some(&old.instance_id) || took_its_name(row))
        };
        rows.values().any(|(_, row)| is_heir(row))
    }

    /// Stops an on-demand instance. Its tag says when, so that a later pass knows until when it is kept, and that no one else
    /// stopped it.
    pub(super) async fn stop(&self, region: usize, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let now = || self.reading().map_or_else(|| Clock::system().machine_now(), |it| it.shown);
        self.tag_retired(region, id, &format!("{}{}", states::BEGUN, now()), guard).await?;
        let form = encoded([("InstanceId.1", id.as_str())]);
        self.regions[region].requests.write("StopInstances", form, guard).await?;
        self.tag_retired(region, id, &now().to_string(), guard).await
    }

    pub(super) async fn tag_retired(
        &self,
        region: usize,
        id: &InstanceId,
        value: &str,
        guard: Guard<'_>,
    ) -> Result<(), CloudError> {
        let tag = [("ResourceId.1", id.as_str()), ("Tag.1.Key", states::RETIRED), ("Tag.1.Value", value)];
        self.regions[region].requests.write("CreateTags", encoded(tag), guard).await.map(drop)
    }
}
