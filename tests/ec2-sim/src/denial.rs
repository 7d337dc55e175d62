//! What the user of the keys may not do.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::keys::AccessKey;
use crate::protocol::Protocol;
use crate::region::ACCOUNT;
use crate::world::World;

impl World {
    /// The user may not call this action of whatever service, neither in earnest nor as a rehearsal.
    pub fn deny(&mut self, action: &str) {
        self.denied.insert(action.to_owned());
    }

    /// The user may call it again.
    pub fn allow(&mut self, action: &str) {
        self.denied.remove(action);
    }

    /// Refuses what the user may not call: on EC2 with a blob at the end, which only STS can read (1.5).
    pub(crate) fn permit(&self, key: &str, region: &str, service: &str, action: &str, form: &Form) -> Answer<()> {
        if !self.denied.contains(action) {
            return Ok(());
        }
        let user = self.keys.get(key).map(|key: &AccessKey| key.arn.as_str()).unwrap_or_default();
        let prefix = if service == "monitoring" { "cloudwatch" } else { service };
        let own = ["InstanceId.1", "InstanceId", "SpotInstanceRequestId.1", "ResourceId.1"];
        let resource = match own.iter().find_map(|name| form.get(name)) {
            Some(id) => format!("arn:aws:ec2:{region}:{ACCOUNT}:{}/{id}", kind_of(id)),
            None if action == "RunInstances" => format!("arn:aws:ec2:{region}:{ACCOUNT}:instance/*"),
            None => form.get("TargetGroupArn").unwrap_or("*").to_owned(),
        };
        let message = format!(
            "User: {user} is not authorized to perform: {prefix}:{action} on resource: {resource} because no \
             identity-based policy allows the {prefix}:{action} action"
        );
        Err(match Protocol::of(service) {
            Protocol::Ec2 => {
                let blob = "4JeW9fZ-0YlXnP3gQmKvR8sUdT1bHcXo2A7iEwLx5MhqCzNfGtVyBkSjDaRpIu6O".repeat(8);
                let message = format!(
                    "You are not authorized to perform this operation. {message}. Encoded authorization failure message: \
                     {blob}"
                );
                ApiError::new("UnauthorizedOperation", message)
            }
            Protocol::Query(_) => ApiError::new("AccessDenied", message),
            Protocol::Json { .. } => ApiError::new("AccessDeniedException", message),
        })
    }
}

/// What an ARN calls the thing with this id.
fn kind_of(id: &str) -> &'static str {
    match id.split('-').next() {
        Some("sir") => "spot-instances-request",
        Some("vol") => "volume",
        _ => "instance",
    }
}
