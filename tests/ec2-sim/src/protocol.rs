//! The protocols that the services speak: how an error is written, and what an error is called (1.5, 1.12).

use std::borrow::Cow;

use crate::error::ApiError;

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// EC2's own.
    Ec2,
    /// The older form protocol, with its namespace.
    Query(&'static str),
    /// JSON, with its media type and the prefix of its targets.
    Json { media: &'static str, target: &'static str },
}

const JSON_1_0: &str = "application/x-amz-json-1.0";
const JSON_1_1: &str = "application/x-amz-json-1.1";

impl Protocol {
    /// The protocol of the service that calls are signed for.
    pub(crate) fn of(service: &str) -> Self {
        match service {
            "sts" => Self::Query("https://sts.amazonaws.com/doc/2011-06-15/"),
            "elasticloadbalancing" => Self::Query("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"),
            "monitoring" => Self::Json { media: JSON_1_0, target: "GraniteServiceVersion20100801" },
            "pricing" => Self::Json { media: JSON_1_1, target: "AWSPriceListService" },
            "servicequotas" => Self::Json { media: JSON_1_1, target: "ServiceQuotasV20190624" },
            _ => Self::Ec2,
        }
    }

    /// Whether a body of this media type is one of the JSON services.
    pub(crate) fn is_json(media: &str) -> bool {
        let media = media.split(';').next().unwrap_or_default().trim();
        media == JSON_1_0 || media == JSON_1_1
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Ec2 => "text/xml;charset=UTF-8",
            Self::Query(_) => "text/xml",
            Self::Json { media, .. } => media,
        }
    }

    /// An error as it is written.
    pub(crate) fn write(self, error: &ApiError, request_id: &str) -> String {
        match self {
            Self::Ec2 => error.ec2(request_id),
            Self::Query(namespace) => error.query(namespace, request_id),
            Self::Json { .. } => error.json(),
        }
    }

    /// What is wrong with a signature has another name in each protocol.
    pub(crate) fn rename(self, error: ApiError) -> ApiError {
        let Self::Json { .. } = self else { return error };
        let code = match &*error.code {
            "AuthFailure" | "InvalidClientTokenId" => "UnrecognizedClientException",
            "SignatureDoesNotMatch" => "InvalidSignatureException",
            "RequestExpired" if error.message.contains("token") => "ExpiredTokenException",
            "RequestExpired" => "InvalidSignatureException",
            "IncompleteSignature" => "IncompleteSignatureException",
            "MissingAuthenticationToken" => "MissingAuthenticationTokenException",
            _ => return error,
        };
        ApiError { status: 400, code: Cow::Borrowed(code), message: error.message }
    }
}
