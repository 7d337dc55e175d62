//! Errors of the API, and the shapes they are written in.

use std::borrow::Cow;

use crate::xml::escape;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
}

/// The answer of an action: the XML after the request id, or an error.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    /// An error with the status that goes with its code.
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        Self { status: status_of(&code), code, message: message.into() }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    pub(crate) fn value(parameter: &str, value: &str, why: &str) -> Self {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {why}");
        Self::new("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    pub(crate) fn no_instance(ids: &[&str]) -> Self {
        let message = match ids {
            [id] => format!("The instance ID '{id}' does not exist"),
            _ => format!("The instance IDs '{}' do not exist", ids.join(", ")),
        };
        Self::new("InvalidInstanceID.NotFound", message)
    }

    /// In the shape of EC2.
    pub(crate) fn ec2(&self, request_id: &str) -> String {
        let (code, message) = (escape(&self.code), escape(&self.message));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}\
             </Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
    }

    /// In the shape of STS and the load balancers.
    pub(crate) fn query(&self, namespace: &str, request_id: &str) -> String {
        let (code, message) = (escape(&self.code), escape(&self.message));
        let kind = if self.status < 500 { "Sender" } else { "Receiver" };
        format!(
            "<ErrorResponse xmlns=\"{namespace}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{code}</Code>\n    \
             <Message>{message}</Message>\n  </Error>\n  <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n"
        )
    }

    /// In the shape of the JSON services.
    pub(crate) fn json(&self) -> String {
        let name = format!("com.amazon.coral.service#{}", self.code);
        serde_json::json!({"__type": name, "message": self.message}).to_string()
    }
}

/// The HTTP status of a code (1.5): 400, but for a few.
pub(crate) fn status_of(code: &str) -> u16 {
    match code {
        "AuthFailure" => 401,
        "UnauthorizedOperation"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "AccessDenied"
        | "ExpiredToken" => 403,
        "DryRunOperation" => 412,
        "InsufficientInstanceCapacity"
        | "InternalError"
        | "InternalFailure"
        | "ServerInternal"
        | "InternalServiceFault"
        | "InternalErrorException"
        | "ServiceException" => 500,
        "RequestLimitExceeded" | "EC2ThrottledException" | "Unavailable" | "ServiceUnavailable" => 503,
        _ => 400,
    }
}
