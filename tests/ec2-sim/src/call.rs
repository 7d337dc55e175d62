//! The calls of the API: who answers them, and what goes wrong on the way.

use crate::error::{Answer, ApiError};
use crate::fault::What;
use crate::form::Form;
use crate::log::Entry;
use crate::world::World;
use crate::xml::ec2_answer;

/// What a call gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The content type.
    pub content_type: &'static str,
    /// The id of the call.
    pub request_id: String,
    /// Whether and when it arrives.
    pub delivery: Delivery,
}

/// Whether and when an answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Whole,
    /// The connection failed before the call had an effect: no answer.
    CutBefore,
    /// The call took effect; its answer is lost. The reply holds what it would have been.
    CutAfter,
    /// The call took effect at once; the answer comes so much later.
    Hang {
        /// Milliseconds.
        ms: u64,
    },
}

const XML: &str = "text/xml;charset=UTF-8";

impl World {
    /// A call of the API, signed by the user of the default key. `service` is `ec2` or `sts`, `form` the body.
    ///
    /// What is told about an instance that ends becomes less step by step: at `shutting-down` its subnet, VPC, groups and
    /// private address are gone, at `terminated` also its profile, volumes and interfaces; then its tags go one by one,
    /// and within an hour the whole row.
    pub fn call(&mut self, region: &str, service: &str, form: &str) -> Reply {
        self.call_as(crate::keys::ACCESS_KEY, region, service, form)
    }

    /// The same, signed by this access key.
    pub fn call_as(&mut self, key: &str, region: &str, service: &str, form: &str) -> Reply {
        let form = Form::parse(form);
        let action = form.get("Action").unwrap_or_default().to_owned();
        let request_id = self.fresh_uuid();
        let (delay, what) = self.script.strike(&action);
        let before = self.effects;
        let answered = match &what {
            Some(What::CutBefore | What::Html | What::Code { after: false, .. }) => Ok(String::new()),
            _ => self.answer(key, region, service, &action, &form, &request_id),
        };
        let answered = match &what {
            Some(What::Code { code, status, message, .. }) => {
                let message = message.clone().unwrap_or_else(|| "An error that the test asked for".to_owned());
                Err(ApiError { status: *status, code: code.clone().into(), message })
            }
            _ => answered,
        };
        let code = answered.as_ref().err().map(|error| error.code.clone().into_owned());
        let (status, body) = match answered {
            Ok(body) => (200, body),
            Err(error) if service == "sts" => (error.status, error.sts(&request_id)),
            Err(error) => (error.status, error.ec2(&request_id)),
        };
        let delivery = if delay == 0 { Delivery::Whole } else { Delivery::Hang { ms: delay } };
        let mut reply = Reply { status, body, content_type: XML, request_id, delivery };
        match what {
            Some(What::CutBefore) => reply.delivery = Delivery::CutBefore,
            Some(What::CutAfter) => reply.delivery = Delivery::CutAfter,
            Some(What::Html) => {
                reply.status = 502;
                reply.content_type = "text/html";
                reply.body =
                    "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>".to_owned();
            }
            Some(What::Empty) => reply.body.clear(),
            Some(What::Code { .. } | What::Delay(_)) | None => {}
        }
        let arrives = !matches!(reply.delivery, Delivery::CutBefore | Delivery::CutAfter);
        self.log.push(Entry {
            at_ms: self.now,
            region: region.to_owned(),
            service: service.to_owned(),
            action,
            form: form.pairs().to_vec(),
            status: arrives.then_some(reply.status),
            code: code.filter(|_| arrives),
            took_effect: self.effects != before,
        });
        reply
    }

    /// Refuses a call that never came to an action, because of its signature.
    pub(crate) fn refuse(&mut self, region: &str, service: &str, form: &str, error: &ApiError) -> Reply {
        let form = Form::parse(form);
        let request_id = self.fresh_uuid();
        self.log.push(Entry {
            at_ms: self.now,
            region: region.to_owned(),
            service: service.to_owned(),
            action: form.get("Action").unwrap_or_default().to_owned(),
            form: form.pairs().to_vec(),
            status: Some(error.status),
            code: Some(error.code.clone().into_owned()),
            took_effect: false,
        });
        let body = if service == "sts" { error.sts(&request_id) } else { error.ec2(&request_id) };
        Reply { status: error.status, body, content_type: XML, request_id, delivery: Delivery::Whole }
    }

    fn answer(
        &mut self,
        key: &str,
        region: &str,
        service: &str,
        action: &str,
        form: &Form,
        id: &str,
    ) -> Answer<String> {
        if action.is_empty() {
            return Err(ApiError::new("MissingAction", "The request is missing an action or a required parameter"));
        }
        if service == "sts" {
            return self.sts(key, action, form, id);
        }
        if service != "ec2" {
            return Err(ApiError::new("InvalidAction", format!("There is no service {service} here")));
        }
        if self.region(region).is_none() {
            let message = "AWS was not able to validate the provided access credentials";
            return Err(ApiError::new("AuthFailure", message));
        }
        if form.need("Version")? != "2016-11-15" {
            return Err(ApiError::new("NoSuchVersion", "The specified version is not supported"));
        }
        if !ACTIONS.contains(&action) {
            let message = format!("The action {action} is not valid for this web service.");
            return Err(ApiError::new("InvalidAction", message));
        }
        form.check(action)?;
        self.throttle(region, action, form)?;
        let inside = match action {
            "DescribeRegions" => self.describe_regions(form),
            "DescribeInstances" => self.describe_instances(region, form),
            "DescribeInstanceStatus" => self.describe_instance_status(region, form),
            "DescribeInstanceAttribute" => self.describe_instance_attribute(region, form),
            "DescribeSpotInstanceRequests" => self.describe_spot_instance_requests(region, form),
            "DescribeVolumes" => self.describe_volumes(region, form),
            "DescribeSubnets" => self.describe_subnets(region, form),
            "DescribeInstanceTypes" => self.describe_instance_types(region, form),
            "DescribeInstanceTypeOfferings" => self.describe_instance_type_offerings(region, form),
            "DescribeSpotPriceHistory" => self.describe_spot_price_history(region, form),
            "RunInstances" => self.run_instances(region, form),
            "TerminateInstances" => self.terminate_instances(region, form),
            "StopInstances" => self.stop_instances(region, form),
            "StartInstances" => self.start_instances(region, form),
            "CancelSpotInstanceRequests" => self.cancel_spot_instance_requests(region, form),
            _ => self.create_tags(region, form),
        };
        Ok(ec2_answer(action, id, &inside?))
    }

    /// The place of a region; the caller has made sure that it is there.
    pub(crate) fn region_place(&self, name: &str) -> usize {
        self.regions.iter().position(|region| region.name == name).unwrap_or_default()
    }
}

const ACTIONS: [&str; 16] = [
    "DescribeRegions",
    "DescribeInstances",
    "DescribeInstanceStatus",
    "DescribeInstanceAttribute",
    "DescribeSpotInstanceRequests",
    "DescribeVolumes",
    "DescribeSubnets",
    "DescribeInstanceTypes",
    "DescribeInstanceTypeOfferings",
    "DescribeSpotPriceHistory",
    "RunInstances",
    "TerminateInstances",
    "StopInstances",
    "StartInstances",
    "CancelSpotInstanceRequests",
    "CreateTags",
];
