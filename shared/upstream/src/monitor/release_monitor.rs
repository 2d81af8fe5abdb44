//! The release-monitoring service: Anitya's API, version 2.

use std::collections::HashSet;

use reqwest::Url;
use serde::Deserialize;

use super::pages;
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const LONGEST_LIST: u64 = 8 * 1024 * 1024;

/// Versions of projects that the service knows by number.
pub(crate) struct ReleaseMonitor {
    context: Context,
}

/// `GET /api/v2/versions/?project_id=NUMBER`.
#[derive(Deserialize)]
struct Versions {
    versions: Vec<String>,
    stable_versions: Vec<String>,
}

impl ReleaseMonitor {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Every version of a project.
    pub(crate) async fn candidates(&self, project: u64) -> Result<Vec<Candidate>> {
        let base = self.context.endpoints.release_monitor()?;
        let address = format!("{base}/api/v2/versions/?project_id={project}");
        let url = Url::parse(&address).map_err(|error| Error::Configuration {
            origin: "release-monitor endpoint".to_owned(),
            reason: format!("`{address}`: {error}"),
        })?;
        let document = self.context.fetcher.document(url.as_str(), LONGEST_LIST).await;
        let document = document.map_err(|error| match error {
            Error::Status { url, status: 404, .. } => {
                Error::UnknownPackage { package: project.to_string(), place: url }
            }
            other => other,
        })?;
        let list: Versions = pages::json(&url, &document.bytes)?;
        let stable: HashSet<&str> = list.stable_versions.iter().map(String::as_str).collect();
        Ok(list
            .versions
            .iter()
            .map(|version| Candidate {
                prerelease: (!stable.contains(version.as_str()))
                    .then(|| "not among the project's stable versions".to_owned()),
                ..Candidate::new(version.as_str())
            })
            .collect())
    }
}
