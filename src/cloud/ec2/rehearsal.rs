//! Calls with `DryRun`: AWS says whether the credentials may make them, and does nothing (`docs/ec2-api.md` section 1.11).

use super::client::Ec2Client;
use super::facts::{self, LaunchFacts};
use super::region::request;
use super::states::{self, ORIGIN};
use super::wire::Ec2Row;
use crate::cloud::CloudError;
use crate::cloud::transport::Transport;
use crate::core::recreation::marker::marker_of_letters;
use crate::core::world::instance::{Billing, InstanceId, Place};

/// Whether a call is allowed; `None` if there is no instance to rehearse it with.
pub type Rehearsed = (&'static str, Option<Result<(), CloudError>>);

/// The letters of a marker that no instance has.
const NO_ORIGIN: &str = "000000000000";

impl<T: Transport> Ec2Client<T> {
    /// Rehearses the calls that passes make, in the first region: those that read, and those that write. The last listing
    /// has the instances that they are rehearsed with.
    pub async fn rehearsed(&self) -> (Vec<Rehearsed>, Vec<Rehearsed>) {
        let rows: Vec<Ec2Row> = {
            let rows = self.rows.borrow();
            let here = rows.values().filter(|(region, _)| *region == 0).map(|(_, row)| row);
            here.filter(|row| states::is_ours(row, &self.terms.opt_in) && !row.is_over()).cloned().collect()
        };
        let is_spot = |row: &&Ec2Row| row.instance_lifecycle == "spot" && row.instance_state.name == "running";
        let by_id = |row: Option<&Ec2Row>| row.map(|row| vec![("InstanceId.1".to_owned(), row.instance_id.clone())]);
        let none = || Some(Vec::new());
        let attribute = rows.first().map(|row| {
            vec![("InstanceId".to_owned(), row.instance_id.clone()), ("Attribute".to_owned(), "userData".to_owned())]
        });
        let reads = [
            ("DescribeSpotInstanceRequests", none()),
            ("DescribeInstanceAttribute", attribute),
            ("DescribeVolumes", none()),
            ("DescribeSubnets", none()),
            ("DescribeSpotPriceHistory", none()),
            ("DescribeInstanceTypes", none()),
            ("DescribeInstanceStatus", none()),
        ];
        let launch = match rows.iter().find(is_spot) {
            Some(row) => self.launch_form(row).await,
            None => None,
        };
        let is_on_demand = |row: &&Ec2Row| row.instance_lifecycle.is_empty() && row.instance_state.name == "running";
        let writes = [
            ("RunInstances", launch),
            ("TerminateInstances", by_id(rows.iter().find(|row| row.tag(ORIGIN).is_some()))),
            ("StopInstances", by_id(rows.iter().find(is_on_demand))),
        ];
        let mut found = (Vec::new(), Vec::new());
        for (action, form) in reads {
            found.0.push((action, self.rehearse(action, form).await));
        }
        for (action, form) in writes {
            found.1.push((action, self.rehearse(action, form).await));
        }
        found
    }

    async fn rehearse(
        &self,
        action: &'static str,
        form: Option<Vec<(String, String)>>,
    ) -> Option<Result<(), CloudError>> {
        let mut form = form?;
        form.push(("DryRun".into(), "true".into()));
        let asked = Box::pin(self.regions[0].requests.ask(&request(action, &form), |_| Ok(()))).await;
        Some(asked.or_else(|error| if error.message.contains("DryRunOperation") { Ok(()) } else { Err(error) }))
    }

    /// A launch of another instance like this one.
    async fn launch_form(&self, row: &Ec2Row) -> Option<Vec<(String, String)>> {
        let blueprint = self.facts(0, row, String::new()).await.ok()?.ok()?;
        let facts = LaunchFacts::of(&blueprint).ok()?;
        let id = InstanceId::new(&row.instance_id);
        let marker = marker_of_letters(&id, row.tag("Name").unwrap_or_default(), NO_ORIGIN)?;
        let place = Place { product: facts.kind.as_str().into(), cluster: facts.zone.as_str().into() };
        let form = facts::launch(&facts, &Billing::Spot, (&marker, &id), (&place, &facts.subnet)).ok()?;
        Some(form.into_iter().collect())
    }
}
