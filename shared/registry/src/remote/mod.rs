//! A registry reached over HTTP (distribution spec 1.1).

mod auth;
mod docker_config;
mod download;
mod names;
mod provider;
mod request;
mod upload;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use oci_spec::image::Descriptor;
use reqwest::{Method, StatusCode, Url, header};
use serde::Deserialize;
use sign::Digest;

pub use auth::Credentials;
pub use docker_config::DockerConfig;
pub use provider::Provider;
pub use request::Retry;

use crate::{
    Blob, ByteStream, Error, Manifest, Reference, Registry, Repository, Result, Tag, TagRule, canonical_json,
    layout::new_index, manifest::MAX_MANIFEST_BYTES,
};

/// The most pages read of a list.
const MAX_PAGES: usize = 1000;
/// The largest page of a list accepted, in bytes.
const MAX_PAGE_BYTES: u64 = 16 << 20;
/// What manifests are asked for as.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How a [`Remote`] behaves.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// User and password, given only to this registry and to its token service.
    pub credentials: Option<Credentials>,
    /// Who is asked for credentials and for what the registry does not do, where it has a provider
    /// with an interface of its own.
    pub provider: Option<Arc<dyn Provider>>,
    /// Whether plain http is accepted beyond loopback.
    pub allow_http: bool,
    /// Certificates (PEM, any number) of authorities trusted beside the system's.
    pub certificates: Vec<u8>,
    /// Blobs up to this size go in one request, larger ones in pieces of this size; bytes. Two
    /// pieces are in memory: one being sent, one being read.
    pub piece: usize,
    /// When and how often failed requests are repeated.
    pub retry: Retry,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the other side may be silent.
    pub read_timeout: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            provider: None,
            allow_http: false,
            certificates: Vec::new(),
            piece: 16 << 20,
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// A registry reached over HTTP. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Remote {
    client: reqwest::Client,
    base: Url,
    /// What the names of all repositories begin with, before a `/`.
    prefix: Option<Repository>,
    options: RemoteOptions,
    tokens: Arc<auth::Tokens>,
}

impl Remote {
    /// The registry at `endpoint`: `https://HOST[:PORT]`, or `http://` for a loopback address.
    /// `HOST[:PORT]` alone is one or the other by the same rule.
    ///
    /// # Errors
    /// [`Error::Endpoint`] or [`Error::Insecure`].
    pub fn new(endpoint: &str, options: RemoteOptions) -> Result<Self> {
        let invalid = |reason: String| Error::Endpoint { url: endpoint.chars().take(300).collect(), reason };
        let text = if endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            let plain = format!("http://{endpoint}");
            let is_loopback = Url::parse(&plain).is_ok_and(|url| request::check_scheme(&url, false).is_ok());
            if is_loopback { plain } else { format!("https://{endpoint}") }
        };
        let mut base = Url::parse(&text).map_err(|error| invalid(error.to_string()))?;
        if base.host().is_none() {
            return Err(invalid("expected `https://HOST[:PORT]`".into()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            let url = base.host_str().unwrap_or_default().to_owned();
            let reason = "user and password belong in the options, not in the address".into();
            return Err(Error::Endpoint { url, reason });
        }
        base.set_query(None);
        base.set_fragment(None);
        base.set_path("/v2/");
        request::check_scheme(&base, options.allow_http)?;
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allow_http = options.allow_http;
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > 5 {
                attempt.error("more than 5 redirects")
            } else if request::check_scheme(attempt.url(), allow_http).is_err() {
                attempt.error("a redirect to plain http")
            } else {
                attempt.follow()
            }
        });
        let certificates = reqwest::Certificate::from_pem_bundle(&options.certificates)
            .map_err(|error| invalid(format!("the certificates given for it: {error}")))?;
        let mut builder = reqwest::Client::builder();
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder
            .user_agent(concat!("minimill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .redirect(redirects)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { client, base, prefix: None, options, tokens: Arc::default() })
    }

    /// Whether the registry answers as one, with these credentials.
    ///
    /// # Errors
    /// [`Error::Http`] or [`Error::Status`].
    pub async fn ping(&self) -> Result<()> {
        self.send(Method::GET, self.base.clone(), "", |request| request).await?.expect(&[200]).await?;
        Ok(())
    }

    /// Makes a repository where its registry wants that before anything is put there.
    async fn prepare(&self, repository: &Repository) -> Result<()> {
        match &self.options.provider {
            Some(provider) => provider.make_repository(&self.name(repository)?).await,
            None => Ok(()),
        }
    }

    async fn pages<T: for<'de> Deserialize<'de>>(
        &self,
        first: Url,
        scope: &str,
        mut add: impl FnMut(T),
    ) -> Result<bool> {
        let mut next = Some(first);
        for page in 0.. {
            let Some(url) = next.take() else { break };
            if page == MAX_PAGES {
                let reason = format!("a list of more than {MAX_PAGES} pages");
                return Err(Error::Answer { url: url.to_string(), reason });
            }
            let Some((bytes, headers)) = self.read(&url, scope, MAX_PAGE_BYTES, |request| request).await? else {
                if page == 0 {
                    return Ok(false);
                }
                let reason = "the next page of a list is not there".into();
                return Err(Error::Answer { url: url.to_string(), reason });
            };
            let link = headers.get(header::LINK).and_then(|link| link.to_str().ok());
            next = match link.and_then(next_link) {
                Some(link) => {
                    let link = url.join(link).map_err(|error| Error::Answer {
                        url: url.to_string(),
                        reason: format!("`Link` header: {error}"),
                    })?;
                    // The token must not go elsewhere.
                    if link.origin() != self.base.origin() {
                        return Err(Error::Answer {
                            url: url.to_string(),
                            reason: "its `Link` header leads to another host".into(),
                        });
                    }
                    Some(link)
                }
                None => None,
            };
            let value = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Answer { url: url.to_string(), reason: error.to_string() })?;
            add(value);
        }
        Ok(true)
    }

    /// Adds to the list of referrers under its tag, for registries without the referrers API.
    async fn add_referrer(&self, repository: &Repository, manifest: &Manifest, subject: Digest) -> Result<()> {
        let tag = Tag::of_referrers(subject);
        let mut list = match self.manifest(repository, &tag.clone().into()).await? {
            Some(list) => list.facts()?.manifests,
            None => Vec::new(),
        };
        let referrer = manifest.facts()?.as_referrer(manifest.digest, manifest.bytes.len() as u64)?;
        if list.iter().any(|found| found.digest() == referrer.digest()) {
            return Ok(());
        }
        list.push(referrer);
        list.sort_by(|one, other| one.digest().as_ref().cmp(other.digest().as_ref()));
        let list = Manifest::new(canonical_json(&new_index(list)?)?)?;
        self.push_manifest(repository, &list, &tag.into()).await?;
        Ok(())
    }

    /// Whether the registry has taken note of the manifest's subject.
    async fn push_manifest(&self, repository: &Repository, manifest: &Manifest, reference: &Reference) -> Result<bool> {
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let answer = self
            .send(Method::PUT, url, &self.push_scope(repository)?, |request| {
                request.header(header::CONTENT_TYPE, &manifest.media_type).body(manifest.bytes.clone())
            })
            .await?
            .expect(&[201])
            .await?;
        Ok(answer.header("oci-subject").is_some())
    }
}

/// The target of a `Link: <TARGET>; rel="next"` header.
fn next_link(header: &str) -> Option<&str> {
    let (target, parameters) = header.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| matches!(parameter.trim(), r#"rel="next""# | "rel=next"));
    is_next.then_some(target)
}

#[async_trait]
impl Registry for Remote {
    async fn blob_size(&self, repository: &Repository, digest: Digest) -> Result<Option<u64>> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let answer = self.send(Method::HEAD, url, &self.pull_scope(repository)?, |request| request).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.expect(&[200]).await?;
        answer.length().map(Some)
    }

    async fn blob(&self, repository: &Repository, digest: Digest) -> Result<Option<Blob>> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let scope = self.pull_scope(repository)?;
        let answer = self.send(Method::GET, url.clone(), &scope, |request| request).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.expect(&[200]).await?;
        let size = answer.length()?;
        Ok(Some(Blob { size, stream: self.download(answer, url, &scope, digest, size) }))
    }

    async fn put_blob(&self, repository: &Repository, digest: Digest, size: u64, stream: ByteStream) -> Result<()> {
        if self.blob_size(repository, digest).await?.is_some() {
            return Ok(());
        }
        self.prepare(repository).await?;
        self.upload(repository, digest, size, stream).await
    }

    async fn mount_blob(&self, repository: &Repository, digest: Digest, from: &Repository) -> Result<bool> {
        self.prepare(repository).await?;
        let mut url = self.url(repository, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", self.name(from)?.as_str());
        let scope = format!("{} {}", self.push_scope(repository)?, self.pull_scope(from)?);
        let answer = self
            .send(Method::POST, url, &scope, |request| request.header(header::CONTENT_LENGTH, 0))
            .await?
            .expect(&[201, 202, 401, 403, 404, 405])
            .await?;
        match answer.status() {
            StatusCode::CREATED => return Ok(true),
            StatusCode::ACCEPTED => {}
            // The other repository is not there or not to be read, or nothing is mounted here. Should the reason
            // lie in this one, putting the blob fails with it.
            refused => {
                tracing::debug!(%repository, %digest, %from, %refused, "a mount was refused, the blob is sent");
                return Ok(false);
            }
        }
        // An upload was begun instead; the blob is put later, in one of its own.
        self.cancel(&answer, &self.push_scope(repository)?).await?;
        Ok(false)
    }

    async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>> {
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let answer = self
            .send(Method::HEAD, url.clone(), &self.pull_scope(repository)?, |request| {
                request.header(header::ACCEPT, ACCEPT)
            })
            .await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.expect(&[200]).await?;
        match (reference, answer.header("docker-content-digest")) {
            (Reference::Digest(digest), _) => Ok(Some(*digest)),
            (_, Some(digest)) => digest.parse().map(Some).map_err(|error| Error::Answer {
                url: url.to_string(),
                reason: format!("`Docker-Content-Digest` header: {error}"),
            }),
            (_, None) => {
                let manifest = self.manifest(repository, reference).await?;
                Ok(manifest.map(|manifest| manifest.digest))
            }
        }
    }

    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<Manifest>> {
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let scope = self.pull_scope(repository)?;
        let read = self.read(&url, &scope, MAX_MANIFEST_BYTES, |request| request.header(header::ACCEPT, ACCEPT));
        let Some((bytes, _)) = read.await? else { return Ok(None) };
        let found = Digest::of(&bytes);
        if let Reference::Digest(expected) = reference
            && found != *expected
        {
            return Err(Error::Corrupt { what: url.to_string(), expected: *expected, found });
        }
        Manifest::new(bytes).map(Some)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tag: Option<&Tag>,
        rule: TagRule,
    ) -> Result<()> {
        let reference = match tag {
            Some(tag) => tag.clone().into(),
            None => manifest.digest.into(),
        };
        if let (Some(tag), TagRule::Immutable) = (tag, rule) {
            match self.resolve(repository, &reference).await? {
                Some(found) if found == manifest.digest => return Ok(()),
                Some(found) => {
                    let tag = tag.to_string();
                    return Err(Error::TagConflict { tag, found, wanted: manifest.digest });
                }
                None => {}
            }
        }
        self.prepare(repository).await?;
        let noted = self.push_manifest(repository, manifest, &reference).await?;
        match manifest.facts()?.subject_digest() {
            Some(subject) if !noted => self.add_referrer(repository, manifest, subject).await,
            _ => Ok(()),
        }
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<Tag>>,
        }
        let mut tags = Vec::new();
        let url = self.url(repository, "tags/list")?;
        self.pages(url, &self.pull_scope(repository)?, |page: Page| {
            tags.extend(page.tags.unwrap_or_default());
        })
        .await?;
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    async fn repositories(&self) -> Result<Vec<Repository>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<Repository>>,
        }
        if let Some(provider) = &self.options.provider {
            return self.named_here(provider.repositories().await?);
        }
        let mut repositories = Vec::new();
        let url = self.join("_catalog")?;
        self.pages(url, "registry:catalog:*", |page: Page| {
            repositories.extend(page.repositories.unwrap_or_default());
        })
        .await?;
        self.named_here(repositories)
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        #[derive(Deserialize)]
        struct Page {
            manifests: Option<Vec<Descriptor>>,
        }
        let mut url = self.url(repository, &format!("referrers/{subject}"))?;
        if let Some(wanted) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", wanted);
        }
        let mut referrers = Vec::new();
        let has_api = self
            .pages(url, &self.pull_scope(repository)?, |page: Page| {
                referrers.extend(page.manifests.unwrap_or_default());
            })
            .await?;
        if !has_api {
            let tag = Tag::of_referrers(subject).into();
            if let Some(list) = self.manifest(repository, &tag).await? {
                referrers = list.facts()?.manifests;
            }
        }
        // A registry need not filter.
        if let Some(wanted) = artifact_type {
            referrers.retain(|found| found.artifact_type().as_ref().is_some_and(|found| found.as_ref() == wanted));
        }
        Ok(referrers)
    }

    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool> {
        if let Some(provider) = &self.options.provider {
            return provider.delete_manifest(&self.name(repository)?, reference).await;
        }
        let url = self.url(repository, &format!("manifests/{reference}"))?;
        let answer = self.send(Method::DELETE, url, &self.delete_scope(repository)?, |request| request).await?;
        let answer = answer.expect(&[200, 202, 204, 404]).await?;
        Ok(answer.status() != StatusCode::NOT_FOUND)
    }

    async fn delete_blob(&self, repository: &Repository, digest: Digest) -> Result<bool> {
        if self.options.provider.is_some() {
            return Ok(false);
        }
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let answer = self.send(Method::DELETE, url, &self.delete_scope(repository)?, |request| request).await?;
        let answer = answer.expect(&[200, 202, 204, 404]).await?;
        Ok(answer.status() != StatusCode::NOT_FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_in_the_clear_are_refused_beyond_loopback() {
        let new = |endpoint: &str| Remote::new(endpoint, RemoteOptions::default());
        for good in ["https://registry.example", "http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:1"] {
            assert!(new(good).is_ok(), "{good}");
        }
        for bad in ["http://registry.example", "http://127.0.0.1.example", "http://10.0.0.1"] {
            assert!(matches!(new(bad), Err(Error::Insecure { .. })), "{bad}");
        }
        for (short, whole) in [
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("127.0.0.1", "http://127.0.0.1/v2/"),
            ("registry.example:5000", "https://registry.example:5000/v2/"),
        ] {
            assert_eq!(new(short).unwrap().base.as_str(), whole);
        }
        for bad in ["https://user:secret@registry.example", "user:secret@registry.example", "", "file:///x"] {
            let error = new(bad).unwrap_err();
            assert!(matches!(error, Error::Endpoint { .. }), "{bad}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let options = RemoteOptions { allow_http: true, ..RemoteOptions::default() };
        assert!(Remote::new("http://registry.example", options).is_ok());
    }

    #[test]
    fn link_headers_are_read() {
        assert_eq!(next_link(r#"</v2/a/tags/list?n=1&last=b>; rel="next""#), Some("/v2/a/tags/list?n=1&last=b"));
        assert_eq!(next_link("<x>; rel=next"), Some("x"));
        assert_eq!(next_link(r#"<x>; rel="prev""#), None);
        assert_eq!(next_link("x"), None);
    }
}
