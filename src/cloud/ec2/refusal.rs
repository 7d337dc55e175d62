//! What EC2's error responses mean (`docs/ec2-api.md` section 3.9): the code decides, and the status only where the code is
//! unknown, since a lack of room comes as HTTP 500.

use serde::Deserialize;

use super::wire::text_of;
use super::xml::{Element, Set, Shape as _, shapes};
use crate::cloud::Effect;
use crate::cloud::request::{Dialect, Refusal, effect_of};
use crate::cloud::transport::{Request, Response};
use crate::core::world::error::ErrorKind;

/// EC2's way of refusing, in one region.
#[derive(Debug)]
pub(super) struct Ec2 {
    pub(super) region: String,
}

/// The longest message that is shown, in characters.
const LONGEST_MESSAGE: usize = 300;

shapes! {
    struct ErrorBody {
        errors: Set<ErrorItem>,
        /// The form of STS and of load balancers.
        error: Option<ErrorItem>,
        request_id: String,
    }

    struct ErrorItem {
        code: String,
        message: String,
    }
}

impl Dialect for Ec2 {
    fn call(&self, request: &Request) -> String {
        format!("{} in {}", request.path, self.region)
    }

    fn refusal(&self, request: &Request, response: &Response) -> Refusal {
        let (ErrorItem { code, message }, request_id) = error_of(&response.body);
        let (kind, effect, not_found) = classify(request.path, response.status, &code, &message);
        let mut shown = response.status.to_string();
        match code.as_str() {
            "" => {
                let text = text_of(&response.body);
                shown.extend([": ", if text.is_empty() { "no error code" } else { &text }]);
            }
            code => shown.extend([" ", code, ": ", &readable(&message)]),
        }
        if !request_id.is_empty() {
            shown.push_str(&format!(" (request {request_id})"));
        }
        Refusal { kind, effect, not_found, message: shown, hint: hint_of(&code, &message) }
    }

    fn hint(&self, kind: ErrorKind, _status: Option<u16>, _not_found: bool) -> Option<&'static str> {
        Some(match kind {
            ErrorKind::Auth => "respot doctor says whose credentials these are; deploy/aws/ has the policies",
            ErrorKind::Network | ErrorKind::Timeout => {
                "check the network, the region in RESPOT_EC2_REGIONS and AWS_ENDPOINT_URL_EC2"
            }
            ErrorKind::Api => "EC2 has a problem, or something in between answers; the next pass tries again",
            ErrorKind::RateLimit => "other programs of the account call EC2, too; the next pass tries again",
            _ => return None,
        })
    }
}

/// The code and the message of a response, or the beginning of its body.
pub(super) fn error_in(body: &[u8]) -> String {
    let (ErrorItem { code, message }, _) = error_of(body);
    if code.is_empty() { text_of(body) } else { format!("{code}: {}", readable(&message)) }
}

/// What the services that speak JSON answer.
#[derive(Deserialize)]
struct JsonError {
    /// Behind `#`, if that is there.
    #[serde(rename = "__type")]
    code: String,
    #[serde(default, alias = "Message")]
    message: String,
}

fn error_of(body: &[u8]) -> (ErrorItem, String) {
    if let Ok(JsonError { code, message }) = serde_json::from_slice(body) {
        let code = code.rsplit('#').next().unwrap_or_default().to_owned();
        return (ErrorItem { code, message }, String::new());
    }
    let read = Element::of(body).map(|it| ErrorBody::read(&it, &mut Vec::new()));
    let ErrorBody { errors, error, request_id } = read.unwrap_or_default();
    (errors.item.into_iter().next().or(error).unwrap_or_default(), request_id)
}

/// Without what only `sts:DecodeAuthorizationMessage` reads, and not too long.
fn readable(message: &str) -> String {
    let plain = message.split("Encoded authorization failure message").next().unwrap_or_default().trim();
    plain.chars().take(LONGEST_MESSAGE).collect()
}

fn hint_of(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "RequestExpired" | "InvalidSecurity.RequestHasExpired" => {
            "check this machine's clock, and whether temporary credentials have ended"
        }
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted" => {
            "run once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
        }
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException"
            if message.contains("permissions boundary") || message.contains("service control policy") =>
        {
            "a permissions boundary or a service control policy denies it, whatever the policy allows"
        }
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            "the credentials lack this permission; deploy/aws/ has the policies"
        }
        "MaxSpotInstanceCountExceeded" | "VcpuLimitExceeded" => {
            "the quota of vCPUs of this family is used up: ask for more in Service Quotas"
        }
        "OptInRequired" => "enable the region for this account, or take it out of RESPOT_EC2_REGIONS",
        _ => return None,
    })
}

/// The class of an error, the effect that the request may have had, and whether what it named does not exist.
fn classify(action: &str, status: u16, code: &str, message: &str) -> (ErrorKind, Effect, bool) {
    let refused = |kind| (kind, Effect::Refused, false);
    match code {
        "RequestLimitExceeded"
        | "EC2ThrottledException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "RequestResourceCountExceeded"
        | "ConcurrentTagAccess"
        | "RetryableError" => refused(ErrorKind::RateLimit),
        // Of an image or an address, where other calls are accepted.
        "AuthFailure" if action == "RunInstances" && message.starts_with("Not authorized for") => {
            refused(ErrorKind::Configuration)
        }
        "AuthFailure"
        | "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "RequestExpired"
        | "InvalidSecurity.RequestHasExpired"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException" => refused(ErrorKind::Auth),
        "InsufficientInstanceCapacity" if message.contains("spread placement group") => {
            refused(ErrorKind::Configuration)
        }
        "InsufficientInstanceCapacity"
        | "UnfulfillableCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientCapacityOnHost"
        | "InsufficientVolumeCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "ReservationCapacityExceeded"
        | "SpotMaxPriceTooLow"
        | "InsufficientFreeAddressesInSubnet"
        | "Unsupported"
        | "InvalidAvailabilityZone"
        | "VolumeTypeNotAvailableInZone" => refused(ErrorKind::Capacity),
        "OptInRequired" | "PendingVerification" | "Blocked" | "AccountDisabled" => refused(ErrorKind::Billing),
        _ if message.contains("not eligible for Free Tier") => refused(ErrorKind::Billing),
        // What the token stands for has come and gone.
        "IdempotentInstanceTerminated" => (ErrorKind::State, Effect::Refused, true),
        "IdempotentParameterMismatch" | "InvalidClientToken" => refused(ErrorKind::State),
        "IncorrectInstanceState"
        | "IncorrectSpotRequestState"
        | "IncorrectState"
        | "InvalidState"
        | "OperationNotPermitted"
        | "DependencyViolation"
        | "Resource.AlreadyAssociated"
        | "VolumeInUse" => refused(ErrorKind::State),
        "InternalError" | "InternalFailure" | "ServerInternal" | "ServiceUnavailable" | "Unavailable" => {
            (ErrorKind::Api, Effect::Possible, false)
        }
        "InvalidPaginationToken" | "InvalidNextToken" => (ErrorKind::Configuration, Effect::Refused, true),
        "FilterLimitExceeded" => refused(ErrorKind::Configuration),
        "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" | "InvalidSpotInstanceRequestID.NotFound" => {
            (ErrorKind::State, Effect::Refused, true)
        }
        code if code.ends_with("LimitExceeded") || code.ends_with("CountExceeded") => refused(ErrorKind::Billing),
        code if code.starts_with("Invalid")
            || code.starts_with("Missing")
            || code.starts_with("Unknown")
            || code.starts_with("Unsupported")
            || matches!(code, "CustomerKeyHasBeenRevoked" | "TagPolicyViolation" | "VPCIdNotSpecified") =>
        {
            refused(ErrorKind::Configuration)
        }
        // A code that is not known yet, or none.
        _ => {
            let kind = match status {
                401 | 403 => ErrorKind::Auth,
                429 | 509 => ErrorKind::RateLimit,
                _ => ErrorKind::Api,
            };
            (kind, effect_of(status), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::transport::Method;
    use std::time::Duration;

    fn refused(action: &'static str, status: u16, body: &str) -> Refusal {
        let request = Request {
            method: Method::Post,
            path: action,
            query: vec![],
            body: Some("UserData=c2VjcmV0".into()),
            timeout: Duration::from_secs(1),
        };
        let response = Response { status, retry_after: None, date: None, body: body.as_bytes().to_vec() };
        Ec2 { region: "eu-west-1".into() }.refusal(&request, &response)
    }

    fn error(code: &str, message: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r-1</RequestID></Response>"
        )
    }

    /// Each row: the action, the status, the code, the message, the class, whether the request may have had an effect.
    #[test]
    fn the_code_decides_before_the_status() {
        let rows = [
            ("RunInstances", 500, "InsufficientInstanceCapacity", "no capacity", ErrorKind::Capacity, false),
            (
                "RunInstances",
                400,
                "InsufficientInstanceCapacity",
                "the limit of instances in this spread placement group",
                ErrorKind::Configuration,
                false,
            ),
            ("RunInstances", 400, "Unsupported", "not supported in your zone", ErrorKind::Capacity, false),
            ("RunInstances", 400, "MaxSpotInstanceCountExceeded", "", ErrorKind::Billing, false),
            ("RunInstances", 400, "VcpuLimitExceeded", "", ErrorKind::Billing, false),
            ("RunInstances", 503, "RequestLimitExceeded", "", ErrorKind::RateLimit, false),
            ("RunInstances", 400, "RequestResourceCountExceeded", "", ErrorKind::RateLimit, false),
            ("RunInstances", 401, "AuthFailure", "bad keys", ErrorKind::Auth, false),
            ("RunInstances", 400, "AuthFailure", "Not authorized for images: [ami-1]", ErrorKind::Configuration, false),
            ("RunInstances", 400, "InvalidAMIID.NotFound", "", ErrorKind::Configuration, false),
            (
                "RunInstances",
                400,
                "InvalidParameterValue",
                "Invalid IAM Instance Profile",
                ErrorKind::Configuration,
                false,
            ),
            ("RunInstances", 500, "InternalError", "", ErrorKind::Api, true),
            ("RunInstances", 503, "Unavailable", "", ErrorKind::Api, true),
            ("RunInstances", 500, "SomethingNew", "", ErrorKind::Api, true),
            ("RunInstances", 400, "SomethingNew", "", ErrorKind::Api, false),
            ("RunInstances", 400, "IdempotentInstanceTerminated", "", ErrorKind::State, false),
            ("TerminateInstances", 400, "OperationNotPermitted", "may not be terminated", ErrorKind::State, false),
            ("DescribeInstances", 403, "UnauthorizedOperation", "", ErrorKind::Auth, false),
            ("DescribeInstances", 400, "RequestExpired", "", ErrorKind::Auth, false),
        ];
        for (action, status, code, message, kind, may_have_effect) in rows {
            let refusal = refused(action, status, &error(code, message));
            let effect = if may_have_effect { Effect::Possible } else { Effect::Refused };
            assert_eq!((refusal.kind, refusal.effect), (kind, effect), "{status} {code} {message}");
            assert!(refusal.message.contains(code) && refusal.message.contains("r-1"), "{}", refusal.message);
        }
        let gone = refused("TerminateInstances", 400, &error("InvalidInstanceID.NotFound", ""));
        assert!(gone.not_found);
    }

    #[test]
    fn services_that_speak_json_refuse_in_json() {
        for (body, kind, shown) in [
            (
                r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
                ErrorKind::RateLimit,
                "400 ThrottlingException: Rate exceeded",
            ),
            (
                r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#,
                ErrorKind::Auth,
                "400 AccessDeniedException: no",
            ),
            (r#"{"__type":"NoSuchResourceException"}"#, ErrorKind::Api, "400 NoSuchResourceException: "),
        ] {
            let refusal = refused("GetMetricData", 400, body);
            assert_eq!((refusal.kind, refusal.effect, refusal.message.as_str()), (kind, Effect::Refused, shown));
        }
    }

    #[test]
    fn any_body_is_survived_and_nothing_secret_is_shown() {
        let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
        for (status, body, shown) in [
            (502, page, "502: <html>"),
            (500, "", "500: no error code"),
            (400, "plain text", "400: plain text"),
            (
                403,
                "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>no</Message></Error><RequestId>s-1</RequestId></ErrorResponse>",
                "403 InvalidClientTokenId: no (request s-1)",
            ),
        ] {
            let refusal = refused("RunInstances", status, body);
            assert!(refusal.message.starts_with(shown), "{}", refusal.message);
            assert_eq!(refusal.effect == Effect::Possible, status >= 500);
        }
        let blob = "You are not authorized. Encoded authorization failure message: AbCdEf";
        let refusal = refused("RunInstances", 403, &error("UnauthorizedOperation", blob));
        assert_eq!(refusal.message, "403 UnauthorizedOperation: You are not authorized. (request r-1)");
    }
}
