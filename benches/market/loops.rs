//! What the program is compared with: two loops that know nothing but the provider's list.

use novita_sim::{Answer, Call, Delivery, World};
use respot::cloud::transport::Method;
use serde_json::{Value, json};

use crate::replay::PRODUCT;

const MIGRATE: &str = "/v1/gpu/instance/migrate";

/// Creates what is down in the next zone that takes it, in a fixed order that ends in the zone where it was, and deletes
/// the old one. What is tied to its zone is migrated.
pub(crate) fn eager(world: &mut World, zones: &[&str]) {
    for id in down(world) {
        let Some(old) = world.get(&id).cloned() else { continue };
        if !old.volumes.is_empty() {
            post(world, MIGRATE, &json!({"instanceId": id}));
            continue;
        }
        let at = zones.iter().position(|zone| *zone == old.cluster_id).unwrap_or_default();
        let mut places = (1..=zones.len()).map(|step| zones[(at + step) % zones.len()]);
        let create = |zone: &str| {
            json!({"name": old.name, "productId": PRODUCT, "gpuNum": old.gpu_num, "rootfsSize": old.rootfs_size,
                "imageUrl": old.image_url, "kind": old.kind, "billingMode": "spot", "clusterId": zone})
        };
        if places.any(|zone| post(world, "/v1/gpu/instance/create", &create(zone))) {
            post(world, "/v1/gpu/instance/delete", &json!({"instanceId": id}));
        }
    }
}

/// Migrates whatever is exited.
pub(crate) fn shell(world: &mut World) {
    for id in down(world) {
        post(world, MIGRATE, &json!({"instanceId": id}));
    }
}

fn down(world: &World) -> Vec<String> {
    world.machines().filter(|machine| machine.status == "exited").map(|machine| machine.id.clone()).collect()
}

/// Whether the provider accepted it.
fn post(world: &mut World, path: &str, body: &Value) -> bool {
    let (key, body) = (Some(world.rules().key.clone()), body.to_string().into_bytes());
    let call = Call { method: Method::Post, path: path.to_owned(), query: Vec::new(), key, body };
    matches!(world.serve(&call).delivery, Delivery::Answer(Answer { status: 200, .. }))
}
