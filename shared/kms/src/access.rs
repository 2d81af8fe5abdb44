//! Who asks, and how that is proved: AWS Signature Version 4.

use hmac::{Hmac, KeyInit, Mac};
use jiff::{Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

const SERVICE: &str = "kms";
/// What is signed beside the body, in the order of the names.
const TOKEN_HEADER: &str = "x-amz-security-token";

/// Where KMS is and who asks.
#[derive(Clone)]
pub struct Access {
    /// The region, `eu-central-1`.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// Another address than the region's own, for emulators.
    pub endpoint: Option<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Access").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Access {
    /// What the environment says, by the names that Lambda, CodeBuild and the AWS tools use.
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable that is missing.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let named = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str| named(name).ok_or(Error::Environment { variable: name });
        Ok(Self {
            region: match named("AWS_DEFAULT_REGION") {
                Some(region) => named("AWS_REGION").unwrap_or(region),
                None => needed("AWS_REGION")?,
            },
            access_key_id: needed("AWS_ACCESS_KEY_ID")?,
            secret_access_key: needed("AWS_SECRET_ACCESS_KEY")?,
            session_token: named("AWS_SESSION_TOKEN"),
            endpoint: named("AWS_ENDPOINT_URL_KMS").or_else(|| named("AWS_ENDPOINT_URL")),
        })
    }

    /// The headers of a call: those that are signed, then the signature itself.
    pub(crate) fn headers(&self, host: &str, target: &str, body: &[u8], now: Timestamp) -> Vec<(&'static str, String)> {
        let time = now.to_zoned_datetime(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = time.get(..8).unwrap_or_default().to_owned();
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("host", host.to_owned()),
            ("x-amz-date", time.clone()),
        ];
        headers.extend(self.session_token.clone().map(|token| (TOKEN_HEADER, token)));
        headers.push(("x-amz-target", target.to_owned()));
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hex::encode(Sha256::digest(body)));
        let scope = format!("{day}/{}/{SERVICE}/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let key = signing_key(&self.secret_access_key, &day, &self.region, SERVICE);
        let signature = hex::encode(mac(&key, text.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key_id
        );
        headers.push(("authorization", authorization));
        headers
    }
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> [u8; 32] {
    let parts = [day, region, service, "aws4_request"];
    let mut key = format!("AWS4{secret}").into_bytes();
    let mut derived = [0; 32];
    for part in parts {
        derived = mac(&key, part.as_bytes());
        key = derived.to_vec();
    }
    derived
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // Keys longer than a block are hashed first (RFC 2104, 2).
    let mut block = [0_u8; 64];
    let hashed = Sha256::digest(key);
    let key = if key.len() > block.len() { hashed.as_slice() } else { key };
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_who_asks_and_where() {
        let access = |variables: &[(&str, &str)]| {
            Access::from_environment(|name| {
                variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let found = access(&[&keys[..], &[("AWS_DEFAULT_REGION", "r"), ("AWS_ENDPOINT_URL", "http://e")]].concat());
        let found = found.unwrap();
        assert_eq!((found.region.as_str(), found.endpoint.as_deref()), ("r", Some("http://e")));
        assert!(!format!("{found:?}").contains("secret"));
        let error = access(&keys).unwrap_err().to_string();
        assert!(error.contains("AWS_REGION"), "{error}");
        assert!(access(&[("AWS_REGION", "r")]).is_err());
    }

    #[test]
    fn the_key_is_derived_as_in_the_example_of_the_documentation() {
        // AWS, "Signature Version 4", example of a derived key.
        let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam");
        assert_eq!(hex::encode(key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn a_call_is_signed_as_botocore_signs_it() {
        let access = Access {
            region: "eu-central-1".into(),
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: Some("session".into()),
            endpoint: None,
        };
        let now = "2026-07-01T12:34:56Z".parse().unwrap();
        let headers = access.headers("kms.eu-central-1.amazonaws.com", "TrentService.Sign", b"{}", now);
        let (_, authorization) = headers.last().unwrap();
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260701/eu-central-1/kms/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=f177a694a5adcc3707450002af3d99769cc4555261e485195f7c9b6ef2a317b7"
        );
    }
}
