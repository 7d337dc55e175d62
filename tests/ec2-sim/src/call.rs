//! The calls of the API: who answers them, and what goes wrong on the way.

use crate::error::{Answer, ApiError};
use crate::fault::What;
use crate::form::Form;
use crate::json::Document;
use crate::log::Entry;
use crate::protocol::Protocol;
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
    /// The header `x-amzn-errortype`, which errors of the JSON services have.
    pub error_type: Option<String>,
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

/// A call as it came in.
struct Call<'a> {
    key: &'a str,
    region: &'a str,
    service: &'a str,
    action: &'a str,
    form: &'a Form,
}

impl World {
    /// A call of the API, signed by the user of the default key. `service` is `ec2`, `sts` or `elasticloadbalancing`,
    /// `form` the body.
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
        let action = form.get("Action").unwrap_or_default();
        let call = Call { key, region, service, action, form: &form };
        self.carry_out(&call, |world, request_id| world.answer(&call, request_id))
    }

    /// A call of a service that speaks JSON: `monitoring`, `pricing` or `servicequotas`. `action` is for example
    /// `GetMetricData`, `body` the JSON. The log has its plain values under names with dots:
    /// `MetricDataQueries.1.MetricStat.Period`.
    pub fn call_json(&mut self, region: &str, service: &str, action: &str, body: &str) -> Reply {
        self.call_json_as(crate::keys::ACCESS_KEY, region, service, action, body)
    }

    /// The same, signed by this access key.
    pub fn call_json_as(&mut self, key: &str, region: &str, service: &str, action: &str, body: &str) -> Reply {
        let document = Document::parse(body);
        let form = document.form();
        let call = Call { key, region, service, action, form: &form };
        self.carry_out(&call, |world, _| world.answer_json(&call, &document))
    }

    /// Lets a call be answered, with what goes wrong on the way, and logs it.
    fn carry_out(&mut self, call: &Call<'_>, answer: impl FnOnce(&mut Self, &str) -> Answer<String>) -> Reply {
        let request_id = self.fresh_uuid();
        let (delay, what) = self.script.strike(call.action);
        let before = self.effects;
        let answered = match &what {
            Some(What::CutBefore | What::Html | What::Code { after: false, .. }) => Ok(String::new()),
            _ => answer(self, &request_id),
        };
        let answered = match &what {
            Some(What::Code { code, status, message, .. }) => {
                let message = message.clone().unwrap_or_else(|| "An error that the test asked for".to_owned());
                Err(ApiError { status: *status, code: code.clone().into(), message })
            }
            _ => answered,
        };
        let mut reply = reply(call.service, request_id, &answered);
        if delay > 0 {
            reply.delivery = Delivery::Hang { ms: delay };
        }
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
            region: call.region.to_owned(),
            service: call.service.to_owned(),
            action: call.action.to_owned(),
            form: call.form.pairs().to_vec(),
            status: arrives.then_some(reply.status),
            code: answered.err().map(|error| error.code.into_owned()).filter(|_| arrives),
            took_effect: self.effects != before,
        });
        reply
    }

    /// Refuses a call that never came to an action, for example because of its signature.
    pub(crate) fn refuse(&mut self, region: &str, service: &str, action: &str, form: &Form, error: ApiError) -> Reply {
        let error = Protocol::of(service).rename(error);
        let request_id = self.fresh_uuid();
        self.log.push(Entry {
            at_ms: self.now,
            region: region.to_owned(),
            service: service.to_owned(),
            action: action.to_owned(),
            form: form.pairs().to_vec(),
            status: Some(error.status),
            code: Some(error.code.clone().into_owned()),
            took_effect: false,
        });
        reply(service, request_id, &Err(error))
    }

    fn answer_json(&mut self, call: &Call<'_>, document: &Document) -> Answer<String> {
        let Call { key, region, service, action, form } = *call;
        let known = match service {
            "monitoring" => "GetMetricData",
            "pricing" => "GetProducts",
            "servicequotas" => "GetServiceQuota",
            _ => "",
        };
        if action.is_empty() || action != known {
            return Err(ApiError::new("UnknownOperationException", ""));
        }
        document.check(action)?;
        self.throttle_service(region, service, action)?;
        self.permit(key, region, service, action, form)?;
        if service == "pricing" {
            return self.get_products(region, form);
        }
        if self.region(region).is_none() {
            let message = "The security token included in the request is invalid.";
            return Err(ApiError::new("UnrecognizedClientException", message));
        }
        if service == "servicequotas" {
            return self.get_service_quota(region, form);
        }
        self.get_metric_data(region, document, form)
    }

    fn answer(&mut self, call: &Call<'_>, id: &str) -> Answer<String> {
        let Call { key, region, service, action, form } = *call;
        if action.is_empty() {
            return Err(ApiError::new("MissingAction", "The request is missing an action or a required parameter"));
        }
        if service == "sts" {
            return self.sts(key, action, form, id);
        }
        if service == "elasticloadbalancing" {
            return self.balancer(key, region, action, form, id);
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
        self.permit(key, region, service, action, form)?;
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

/// An answer that arrives whole and at once.
fn reply(service: &str, request_id: String, answered: &Answer<String>) -> Reply {
    let protocol = Protocol::of(service);
    let is_json = matches!(protocol, Protocol::Json { .. });
    let (status, body, error_type) = match answered {
        Ok(body) => (200, body.clone(), None),
        Err(error) => {
            let error_type = is_json.then(|| error.code.clone().into_owned());
            (error.status, protocol.write(error, &request_id), error_type)
        }
    };
    let content_type = protocol.content_type();
    Reply { status, body, content_type, request_id, error_type, delivery: Delivery::Whole }
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
