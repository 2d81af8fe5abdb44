use async_trait::async_trait;
use ports::{Condition, Key, Transaction};
use serde::{Deserialize, Serialize};

use crate::record::{self, Event, Upstream};
use crate::{Context, Outcome, Stage, StageError, watch};

/// Looks for a newer release of a package's upstream, and verifies its source.
///
/// The newer version takes effect through the state: the next build plan uses the catalog's
/// definition with the new version and checksum in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCheck {
    /// Name of the package definition.
    pub package: String,
}

#[async_trait]
impl Stage for UpstreamCheck {
    const NAME: &'static str = "upstream-check";

    fn subject(&self) -> String {
        self.package.clone()
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let source = context.catalog.packages.get(&self.package);
        let Some(definition) = source.map(|source| &source.definition) else {
            return Err(StageError::Rejected(format!("the catalog has no package `{}`", self.package)));
        };
        if definition.update.enabled != Some(true) {
            return Ok(Outcome::Skipped("its definition does not ask for updates".to_owned()));
        }
        let key = Key::new(record::package(&self.package), "upstream");
        let stored = context.state.get(&key).await?;
        let known = stored.as_ref().map(ports::Document::decode::<Upstream>).transpose()?;
        let current = match &known {
            Some(known)
                if apk::compare_versions(&known.version, &definition.package.version.value)
                    == Some(std::cmp::Ordering::Greater) =>
            {
                known.version.clone()
            }
            _ => definition.package.version.value.clone(),
        };
        let decision = match watch::newest(context, definition, &current).await {
            Ok(decision) => decision,
            // Upstream has been asked several times by now; the next check asks again.
            Err(error @ StageError::Environment { .. }) => return Ok(Outcome::Failed(error.to_string())),
            Err(error) => return Err(error),
        };
        let Some(version) = decision.chosen.map(|chosen| chosen.version) else {
            return Ok(Outcome::Skipped(format!("{current} is the newest release")));
        };
        if !watch::proves_versions(context, definition)? {
            return Ok(Outcome::Skipped(format!(
                "{version} follows {current}, but its source proves nothing; state the new version and its digest in \
                 the definition"
            )));
        }
        let fetched = match watch::fetch(context, definition, &version).await {
            Ok(fetched) => fetched,
            Err(StageError::Rejected(reason)) => {
                return Ok(Outcome::Failed(format!("{version} is not authentic: {reason}")));
            }
            Err(StageError::Environment { reason, .. }) => {
                return Ok(Outcome::Skipped(format!(
                    "{version} follows {current}, but its source can't be fetched now: {reason}"
                )));
            }
            Err(error) => return Err(error),
        };
        let now = context.clock.now();
        let upstream =
            Upstream { version: version.clone(), sha256: fetched.sha256, found: now, evidence: fetched.evidence };
        let event = Event {
            time: now,
            kind: "upstream.released".to_owned(),
            subject: self.package.clone(),
            text: format!("{} {version} follows {current}", self.package),
        };
        let mut transaction = Transaction::default();
        let condition = stored.map_or(Condition::Absent, |document| Condition::Revision(document.revision));
        transaction.put(key, condition, &upstream)?;
        transaction.put(event.key(), Condition::Any, &event)?;
        context.state.commit(transaction).await?;
        Ok(Outcome::Done(format!("{version} follows {current}")))
    }
}
