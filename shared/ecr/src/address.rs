/// What the address of a registry in ECR says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The account that owns the registry, twelve digits.
    pub account: String,
    /// The region that it is in.
    pub region: String,
}

impl Address {
    /// Reads `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, also as AWS's other partitions and its FIPS and
    /// dual-stack endpoints have it; none where the host is no registry in ECR.
    pub fn of_host(host: &str) -> Option<Self> {
        let parts: Vec<&str> = host.split('.').collect();
        let (account, region) = match parts.as_slice() {
            [account, "dkr", "ecr" | "ecr-fips", region, "amazonaws", "com" | "eu"]
            | [account, "dkr", "ecr" | "ecr-fips", region, "amazonaws", "com", "cn"]
            | [account, "dkr-ecr" | "dkr-ecr-fips", region, "on", "aws"] => (account, region),
            _ => return None,
        };
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_region = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_account && is_region).then(|| Self { account: (*account).to_owned(), region: (*region).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_in_ecr_are_known_by_their_host() {
        for (host, region) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1"),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1"),
        ] {
            let expected = Address { account: "123456789012".into(), region: region.into() };
            assert_eq!(Address::of_host(host), Some(expected), "{host}");
        }
        for host in [
            "public.ecr.aws",
            "registry.example",
            "127.0.0.1:5000",
            "12345.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.example",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.a/b.amazonaws.com",
        ] {
            assert_eq!(Address::of_host(host), None, "{host}");
        }
    }
}
