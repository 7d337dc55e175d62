//! The services of AWS that are called: how each is reached, and how it is spoken to (`docs/ec2-api.md` sections 1.2 and 1.12).

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AwsService {
    Ec2,
    /// Whose credentials they are, and those of other roles.
    Sts,
    CloudWatch,
    PriceList,
    Quotas,
    LoadBalancers,
}

/// How a service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A form with the version of the API; the answer is XML.
    Form { version: &'static str },
    /// JSON of this version; a header names the call, behind this prefix.
    Json { version: &'static str, target: &'static str },
}

impl AwsService {
    pub const ALL: [Self; 6] =
        [Self::Ec2, Self::Sts, Self::CloudWatch, Self::PriceList, Self::Quotas, Self::LoadBalancers];

    /// Its name in signatures.
    #[must_use]
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
            Self::CloudWatch => "monitoring",
            Self::PriceList => "pricing",
            Self::Quotas => "servicequotas",
            Self::LoadBalancers => "elasticloadbalancing",
        }
    }

    /// The variable that names another address, as the SDKs call it.
    #[must_use]
    pub fn address_variable(self) -> &'static str {
        match self {
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::CloudWatch => "AWS_ENDPOINT_URL_CLOUDWATCH",
            Self::PriceList => "AWS_ENDPOINT_URL_PRICING",
            Self::Quotas => "AWS_ENDPOINT_URL_SERVICE_QUOTAS",
            Self::LoadBalancers => "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
        }
    }

    /// Its protocol.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Ec2 => Protocol::Form { version: "2016-11-15" },
            Self::Sts => Protocol::Form { version: "2011-06-15" },
            Self::LoadBalancers => Protocol::Form { version: "2015-12-01" },
            Self::CloudWatch => Protocol::Json { version: "1.0", target: "GraniteServiceVersion20100801." },
            Self::PriceList => Protocol::Json { version: "1.1", target: "AWSPriceListService." },
            Self::Quotas => Protocol::Json { version: "1.1", target: "ServiceQuotasV20190624." },
        }
    }

    /// The region to ask about `region`: the price list is in three of them only.
    #[must_use]
    pub fn region_for(self, region: &str) -> &str {
        match (self, region.split('-').next()) {
            (Self::PriceList, Some("ap")) => "ap-south-1",
            (Self::PriceList, Some("eu")) => "eu-central-1",
            (Self::PriceList, Some("cn")) => "cn-northwest-1",
            (Self::PriceList, _) => "us-east-1",
            (_, _) => region,
        }
    }

    /// Its host in a region.
    #[must_use]
    pub fn host(self, region: &str) -> String {
        let domain = match region.split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            Some("eusc") => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        let name = if self == Self::PriceList { "api.pricing" } else { self.signing_name() };
        format!("{name}.{}.{domain}", self.region_for(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_the_partition() {
        for (service, region, host) in [
            (AwsService::Ec2, "eu-west-1", "ec2.eu-west-1.amazonaws.com"),
            (AwsService::Sts, "cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
            (AwsService::CloudWatch, "eusc-de-east-1", "monitoring.eusc-de-east-1.amazonaws.eu"),
            (AwsService::PriceList, "eu-west-1", "api.pricing.eu-central-1.amazonaws.com"),
            (AwsService::PriceList, "ap-northeast-2", "api.pricing.ap-south-1.amazonaws.com"),
            (AwsService::PriceList, "cn-north-1", "api.pricing.cn-northwest-1.amazonaws.com.cn"),
            (AwsService::PriceList, "sa-east-1", "api.pricing.us-east-1.amazonaws.com"),
            (AwsService::Quotas, "us-gov-west-1", "servicequotas.us-gov-west-1.amazonaws.com"),
            (AwsService::LoadBalancers, "eu-west-1", "elasticloadbalancing.eu-west-1.amazonaws.com"),
        ] {
            assert_eq!(service.host(region), host);
        }
    }
}
