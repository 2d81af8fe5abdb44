//! Registries in Amazon ECR: what they want done through AWS's interface instead of the
//! distribution spec.
//!
//! [`Ecr`] is a [`registry::Provider`]: it gives the tokens that stand for passwords, fetched anew
//! before they run out; makes a repository before the first push to it, with timestamp tags
//! immutable; lists repositories; and removes images.

mod address;
mod configuration;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub use address::Address;
use async_trait::async_trait;
use aws_config::{Region, SdkConfig, timeout::TimeoutConfig};
use aws_sdk_ecr::types::{
    ImageFailureCode, ImageIdentifier, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType,
};
use base64::{Engine, engine::general_purpose::STANDARD};
pub use configuration::{http_client, load};
use registry::{Credentials, Error, Provider, Reference, Repository, Result};

/// How long one try of a call may take.
const CALL: Duration = Duration::from_secs(30);
/// How long before they run out tokens are fetched anew.
const AHEAD: Duration = Duration::from_secs(600);
/// Timestamp tags, in the wildcards of ECR's filters, which have none for a digit.
const TIMESTAMP_TAGS: &str = "*-20*";

/// Registries in ECR, of one account and region.
#[derive(Debug)]
pub struct Ecr {
    client: aws_sdk_ecr::Client,
    account: Option<String>,
    token: tokio::sync::Mutex<Option<Token>>,
    made: Mutex<BTreeSet<Repository>>,
}

#[derive(Debug)]
struct Token {
    credentials: Credentials,
    expires: SystemTime,
}

impl Token {
    fn is_good(&self, now: SystemTime) -> bool {
        now.checked_add(AHEAD).is_some_and(|soon| soon < self.expires)
    }
}

/// The error of a call, with its causes.
fn failed<E: std::error::Error + 'static>(action: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Provider { provider: "ECR", action, reason: sign::chain(&error) }
}

impl Ecr {
    /// The registry at `address`, else the one of the configuration's account and region.
    pub fn new(config: &SdkConfig, address: Option<Address>) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(CALL).build();
        let mut own = aws_sdk_ecr::config::Builder::from(config).timeout_config(timeouts);
        if let Some(address) = &address {
            own.set_region(Some(Region::new(address.region.clone())));
        }
        Self {
            client: aws_sdk_ecr::Client::from_conf(own.build()),
            account: address.map(|address| address.account),
            token: tokio::sync::Mutex::default(),
            made: Mutex::default(),
        }
    }

    async fn token(&self) -> Result<Token> {
        const ACTION: &str = "GetAuthorizationToken";
        let answer = self.client.get_authorization_token().send().await.map_err(failed(ACTION))?;
        let wrong = |reason: &str| Error::Provider { provider: "ECR", action: ACTION, reason: reason.to_owned() };
        let data = answer.authorization_data().first().ok_or_else(|| wrong("the answer has no token"))?;
        let expires = data.expires_at().and_then(|time| SystemTime::try_from(*time).ok());
        let expires = expires.ok_or_else(|| wrong("the answer does not say when the token runs out"))?;
        // The answer is secret, so that errors must not quote it.
        let text = STANDARD.decode(data.authorization_token().unwrap_or_default()).ok();
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = text
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| wrong("the token is not the base64 of `USER:PASSWORD`"))?;
        Ok(Token { credentials: Credentials { user: user.to_owned(), password: password.to_owned() }, expires })
    }

    async fn is_there(&self, repository: &Repository) -> Result<bool> {
        let call = self.client.describe_repositories().set_registry_id(self.account.clone());
        match call.repository_names(repository.as_str()).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_repository_not_found_exception()) => {
                Ok(false)
            }
            Err(error) => Err(failed("DescribeRepositories")(error)),
        }
    }

    /// Makes a repository whose tags move, but for timestamp tags. Another may have made it meanwhile.
    async fn create(&self, repository: &Repository) -> Result<()> {
        let filter = ImageTagMutabilityExclusionFilter::builder()
            .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
            .filter(TIMESTAMP_TAGS)
            .build()
            .map_err(failed("CreateRepository"))?;
        let call = self.client.create_repository().set_registry_id(self.account.clone());
        let call = call
            .repository_name(repository.as_str())
            .image_tag_mutability(ImageTagMutability::MutableWithExclusion)
            .image_tag_mutability_exclusion_filters(filter);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_repository_already_exists_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(failed("CreateRepository")(error)),
        }
    }
}

#[async_trait]
impl Provider for Ecr {
    async fn credentials(&self) -> Result<Credentials> {
        let mut token = self.token.lock().await;
        match &*token {
            Some(token) if token.is_good(SystemTime::now()) => Ok(token.credentials.clone()),
            _ => Ok(token.insert(self.token().await?).credentials.clone()),
        }
    }

    async fn make_repository(&self, repository: &Repository) -> Result<()> {
        if self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(repository) {
            return Ok(());
        }
        if !self.is_there(repository).await? {
            self.create(repository).await?;
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone());
        Ok(())
    }

    async fn repositories(&self) -> Result<Vec<Repository>> {
        let call = self.client.describe_repositories().set_registry_id(self.account.clone());
        let mut pages = call.into_paginator().items().send();
        let mut repositories = Vec::new();
        while let Some(found) = pages.try_next().await.map_err(failed("DescribeRepositories"))? {
            repositories.push(found.repository_name().unwrap_or_default().parse()?);
        }
        Ok(repositories)
    }

    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool> {
        const ACTION: &str = "BatchDeleteImage";
        let image = match reference {
            Reference::Digest(digest) => ImageIdentifier::builder().image_digest(digest.to_string()),
            Reference::Tag(tag) => ImageIdentifier::builder().image_tag(tag.as_str()),
        };
        let call = self.client.batch_delete_image().set_registry_id(self.account.clone());
        let answer = match call.repository_name(repository.as_str()).image_ids(image.build()).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_repository_not_found_exception()) => {
                return Ok(false);
            }
            Err(error) => return Err(failed(ACTION)(error)),
        };
        match answer.failures().first() {
            None => Ok(true),
            Some(failure) if failure.failure_code() == Some(&ImageFailureCode::ImageNotFound) => Ok(false),
            Some(failure) => {
                let code = failure.failure_code().map_or("no code", ImageFailureCode::as_str);
                let reason = format!("`{repository}` {reference}: {code}: {}", failure.failure_reason().unwrap_or("?"));
                Err(Error::Provider { provider: "ECR", action: ACTION, reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_ahead_of_their_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let token = |left: Duration| Token {
            credentials: Credentials { user: "AWS".into(), password: "secret".into() },
            expires: now + left,
        };
        assert!(token(AHEAD + Duration::from_secs(1)).is_good(now));
        assert!(!token(AHEAD).is_good(now));
        assert!(!token(Duration::ZERO).is_good(now));
        assert!(!format!("{:?}", token(AHEAD)).contains("secret"));
    }
}
