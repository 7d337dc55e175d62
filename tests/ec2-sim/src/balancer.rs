//! Elastic Load Balancing: the actions about target groups. The older form protocol, with `.member` in its lists.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::targets::{PORT, TargetGroup, TargetState};
use crate::world::World;
use crate::xml::Xml;

const ACTIONS: [&str; 4] = ["DescribeTargetGroups", "DescribeTargetHealth", "RegisterTargets", "DeregisterTargets"];
const SERVICE: &str = "elasticloadbalancing";

impl World {
    /// The whole answer of an action.
    pub(crate) fn balancer(&mut self, key: &str, region: &str, action: &str, form: &Form, id: &str) -> Answer<String> {
        if form.need("Version").map_err(validation)? != "2015-12-01" || !ACTIONS.contains(&action) {
            let version = form.get("Version").unwrap_or_default();
            let message = format!("Could not find operation {action} for version {version}");
            return Err(ApiError::new("InvalidAction", message));
        }
        if self.region(region).is_none() {
            let message = "The security token included in the request is invalid.";
            return Err(ApiError::new("InvalidClientTokenId", message));
        }
        form.check(action).map_err(validation)?;
        self.throttle_service(region, SERVICE, action)?;
        self.permit(key, region, SERVICE, action, form)?;
        let mut xml = Xml::new();
        match action {
            "DescribeTargetGroups" => self.describe_target_groups(region, form, &mut xml)?,
            "DescribeTargetHealth" => self.describe_target_health(region, form, &mut xml)?,
            _ => {
                let place = self.named_group(region, form)?;
                let targets = read_targets(form)?;
                if targets.is_empty() {
                    let message = "1 validation error detected: Value null at 'targets' failed to satisfy constraint: \
                                   Member must not be null";
                    return Err(ApiError::new("ValidationError", message));
                }
                if action == "RegisterTargets" {
                    self.register_targets(place, &targets)?;
                } else {
                    self.deregister_targets(place, &targets);
                }
            }
        }
        let inside = xml.into_text();
        Ok(format!(
            "<{action}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\n  \
             <{action}Result>{inside}</{action}Result>\n  <ResponseMetadata>\n    <RequestId>{id}</RequestId>\n  \
             </ResponseMetadata>\n</{action}Response>\n"
        ))
    }

    fn describe_target_groups(&self, region: &str, form: &Form, xml: &mut Xml) -> Answer<()> {
        let (arns, names) = (form.list("TargetGroupArns.member"), form.list("Names.member"));
        if form.has("LoadBalancerArn") {
            return Err(ApiError::new("LoadBalancerNotFound", "One or more load balancers not found"));
        }
        let here: Vec<_> = self.target_groups.iter().filter(|group| group.region == region).collect();
        let is_known = |wanted: &&str, said: fn(&TargetGroup) -> &str| here.iter().any(|group| said(group) == *wanted);
        let all_known = arns.iter().all(|arn| is_known(arn, |group| &group.arn))
            && names.iter().all(|name| is_known(name, |group| &group.name));
        if !all_known {
            return Err(not_found());
        }
        let is_wanted = |group: &TargetGroup| {
            (arns.is_empty() && names.is_empty())
                || arns.contains(&group.arn.as_str())
                || names.contains(&group.name.as_str())
        };
        let rows: Vec<_> = here.into_iter().filter(|group| is_wanted(group)).collect();
        let size = form.get("PageSize").map_or(Ok(400), |size| {
            let size = size.parse::<usize>().ok().filter(|size| (1..=400).contains(size));
            size.ok_or_else(|| ApiError::new("ValidationError", "The page size must be between 1 and 400"))
        })?;
        let begin = form.get("Marker").map_or(Ok(0), |marker| {
            let begin = marker.strip_prefix("after-").and_then(|begin| begin.parse::<usize>().ok());
            begin.ok_or_else(|| ApiError::new("ValidationError", "The marker is not valid"))
        })?;
        let page = rows.iter().skip(begin).take(size.min(self.rules.page_size_cap));
        let end = begin + page.len();
        xml.members("TargetGroups", page, |xml, group| {
            xml.text("TargetGroupArn", &group.arn);
            xml.text("TargetGroupName", &group.name);
            xml.text("Protocol", "HTTP");
            xml.text("Port", PORT);
            xml.maybe("VpcId", self.region(region).map(|region| &region.vpc));
            xml.text("HealthCheckProtocol", "HTTP");
            xml.text("HealthCheckPort", "traffic-port");
            xml.text("HealthCheckEnabled", true);
            xml.text("HealthCheckIntervalSeconds", 15);
            xml.text("HealthCheckTimeoutSeconds", 5);
            xml.text("HealthyThresholdCount", 2);
            xml.text("UnhealthyThresholdCount", 2);
            xml.text("HealthCheckPath", "/health");
            xml.node("Matcher", |xml| xml.text("HttpCode", "200"));
            xml.empty("LoadBalancerArns");
            xml.text("TargetType", "instance");
            xml.text("ProtocolVersion", "HTTP1");
            xml.text("IpAddressType", "ipv4");
        });
        if end < rows.len() {
            xml.text("NextMarker", format_args!("after-{end}"));
        }
        Ok(())
    }

    fn describe_target_health(&mut self, region: &str, form: &Form, xml: &mut Xml) -> Answer<()> {
        let place = self.named_group(region, form)?;
        let wanted = read_targets(form)?;
        let group = &self.target_groups[place];
        let states = group.targets.iter().filter_map(|target| {
            let state = self.state_of_target(target)?;
            Some((target.id.clone(), target.port, Some(state)))
        });
        let mut rows: Vec<_> = states.collect();
        if !wanted.is_empty() {
            let row = |(id, port): &(String, u16)| {
                let known = rows.iter().find(|(known, at, _)| known == id && at == port);
                (id.clone(), *port, known.and_then(|(_, _, state)| *state))
            };
            rows = wanted.iter().map(row).collect();
        } else if self.rules.shuffled {
            self.rng.shuffle(&mut rows);
        }
        xml.members("TargetHealthDescriptions", &rows, |xml, (id, port, state)| {
            xml.node("Target", |xml| {
                xml.text("Id", id);
                xml.text("Port", port);
            });
            xml.text("HealthCheckPort", port);
            xml.node("TargetHealth", |xml| {
                xml.text("State", state.unwrap_or(TargetState::Unused));
                let absent = ("Target.NotRegistered", "Target is not registered to the target group");
                if let Some((code, sentence)) = state.map_or(Some(absent), TargetState::reason) {
                    xml.text("Reason", code);
                    xml.text("Description", sentence);
                }
            });
        });
        Ok(())
    }

    /// The place of the target group that a call names.
    fn named_group(&self, region: &str, form: &Form) -> Answer<usize> {
        let arn = form.need("TargetGroupArn").map_err(validation)?;
        if !arn.starts_with("arn:") || !arn.contains(":targetgroup/") {
            return Err(ApiError::new("ValidationError", format!("'{arn}' is not a valid target group ARN")));
        }
        let place = self.target_groups.iter().position(|group| group.arn == arn && group.region == region);
        place.ok_or_else(not_found)
    }
}

/// The targets that a call names, on the port of the group unless they say another one.
fn read_targets(form: &Form) -> Answer<Vec<(String, u16)>> {
    let read = |number: u32| {
        let at = |name: &str| format!("Targets.member.{number}.{name}");
        let id = form.need(&at("Id")).map_err(validation)?;
        let port = form.get(&at("Port")).map_or(Ok(PORT), |port| {
            let port = port.parse().ok().filter(|port| *port > 0);
            port.ok_or_else(|| ApiError::new("ValidationError", "The port must be between 1 and 65535"))
        })?;
        Ok((id.to_owned(), port))
    };
    form.members("Targets.member").into_iter().map(read).collect()
}

fn not_found() -> ApiError {
    ApiError::new("TargetGroupNotFound", "One or more target groups not found")
}

fn validation(error: ApiError) -> ApiError {
    ApiError::new("ValidationError", error.message)
}
