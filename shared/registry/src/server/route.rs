//! What an address under `/v2/` stands for.

use axum::http::StatusCode;
use sign::Digest;

use super::answer::{Code, Failure};
use crate::{Reference, Repository};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(Repository),
    Referrers(Repository, Digest),
    Manifest(Repository, Reference),
    Blob(Repository, Digest),
    Uploads(Repository),
    Upload(Repository, String),
}

impl Route {
    /// Reads a path, without `/v2/`. Names hold slashes, so it is read from its end.
    pub(super) fn parse(path: &str) -> Result<Self, Failure> {
        match path {
            "" => return Ok(Self::Base),
            "_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            let name = repository(name)?;
            return Ok(match last {
                "" => Self::Uploads(name),
                id => Self::Upload(name, id.to_owned()),
            });
        }
        let (name, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
        match kind {
            "blobs" if last == "uploads" => Ok(Self::Uploads(repository(name)?)),
            "blobs" => Ok(Self::Blob(repository(name)?, digest(last)?)),
            "manifests" => {
                let name = repository(name)?;
                let code = if last.contains(':') { Code::DigestInvalid } else { Code::ManifestInvalid };
                let reference = last.parse().map_err(|error| Failure::new(StatusCode::BAD_REQUEST, code, error))?;
                Ok(Self::Manifest(name, reference))
            }
            "referrers" => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            "tags" if last == "list" => Ok(Self::Tags(repository(name)?)),
            _ => Err(unknown()),
        }
    }
}

fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, Code::Unsupported, "no such address")
}

fn repository(name: &str) -> Result<Repository, Failure> {
    name.parse().map_err(|error| Failure::new(StatusCode::BAD_REQUEST, Code::NameInvalid, error))
}

pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error| Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, error))
}

/// The parameters of a query, decoded.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let escaped = match byte {
            b'%' => ahead.next().zip(ahead.next()).and_then(|(high, low)| Some(hex(high)? << 4 | hex(low)?)),
            _ => None,
        };
        match escaped {
            Some(escaped) => {
                decoded.push(escaped);
                bytes = ahead;
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let digest = Digest::of(b"");
        let name = || "a/b".parse::<Repository>().unwrap();
        let cases = [
            (String::new(), Route::Base),
            ("_catalog".into(), Route::Catalog),
            ("a/b/tags/list".into(), Route::Tags(name())),
            (format!("a/b/referrers/{digest}"), Route::Referrers(name(), digest)),
            ("a/b/manifests/x".into(), Route::Manifest(name(), "x".parse().unwrap())),
            (format!("a/b/manifests/{digest}"), Route::Manifest(name(), digest.into())),
            (format!("a/b/blobs/{digest}"), Route::Blob(name(), digest)),
            ("a/b/blobs/uploads".into(), Route::Uploads(name())),
            ("a/b/blobs/uploads/".into(), Route::Uploads(name())),
            ("a/b/blobs/uploads/1".into(), Route::Upload(name(), "1".into())),
            (
                "manifests/manifests/manifests".into(),
                Route::Manifest("manifests".parse().unwrap(), "manifests".parse().unwrap()),
            ),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
        for bad in [
            "a",
            "a/",
            "a/b",
            "A/manifests/x",
            "../manifests/x",
            "a/../b/manifests/x",
            "a/manifests/.x",
            "a/manifests/sha256:00",
            "a/blobs/x",
            "/manifests/x",
            "a/tags/lists",
            "a//b/tags/list",
        ] {
            assert!(Route::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query("digest=sha256%3Aab&artifactType=application/vnd.x+json&n&x=%zz%4"),
            [
                pair("digest", "sha256:ab"),
                pair("artifactType", "application/vnd.x+json"),
                pair("n", ""),
                pair("x", "%zz%4")
            ]
        );
    }
}
