//! What recreations need to know beyond the listings: what the instance is made of, and where there is room for it.

use std::collections::HashMap;

use crate::cloud::CloudRead;
use crate::core::pass::kept::LaunchRecord;
use crate::core::pass::verdict::Recreating;
use crate::core::recreation::blueprint::Wanted;
use crate::core::recreation::journal::Next;
use crate::core::world::instance::{InstanceId, Job};

/// Asks the provider for everything that creations among these need, and adds it to them.
pub(super) async fn survey<'a, C: CloudRead>(
    cloud: &C,
    jobs: &[Job],
    records: &HashMap<InstanceId, LaunchRecord>,
    works: impl Iterator<Item = &'a mut Recreating>,
    at_once: usize,
) {
    let mut works: Vec<&mut Recreating> = works.filter(|work| work.creates()).collect();
    if works.is_empty() {
        return;
    }
    let wanted: Vec<Wanted<'_>> = works.iter().map(|work| wanted(work, records)).collect();
    let prepared = cloud.prepare(&wanted, jobs, at_once).await;
    for (work, prepared) in works.iter_mut().zip(prepared) {
        work.prepared = Some(prepared);
    }
}

fn wanted<'a>(work: &'a Recreating, records: &'a HashMap<InstanceId, LaunchRecord>) -> Wanted<'a> {
    let Recreating { instance, recreation, next, .. } = work;
    let recorded = || records.get(instance).and_then(|record| record.blueprint.as_ref());
    let kept = recreation.step.kept().or_else(recorded);
    Wanted {
        instance,
        name: &recreation.instance_name,
        kept,
        billing: recreation.cause.billing(),
        stays: recreation.is_move(),
        failed_job: recreation.cause.job(),
        // Nothing is deleted before it is known that it can be created again.
        needs_room: *next == Next::DeleteOldFirst && kept.is_none(),
    }
}
