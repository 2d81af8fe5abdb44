use async_trait::async_trait;
use jiff::Timestamp;
use ports::Transaction;
use serde::{Deserialize, Serialize};

use crate::elsewhere::wake_overdue;
use crate::packages::ask_for_due;
use crate::worker::Summary;
use crate::{Context, Outcome, Stage, StageError, UpstreamCheck, VulnerabilityScan, cycle, streams};

/// Messages in one run: more are left to a message of their own, so that no run takes long.
const PAGE: usize = 500;

/// Messages in one transaction.
const CHUNK: usize = 50;

/// What a schedule starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A check of every upstream.
    UpstreamCheck,
    /// Builds of the packages that are due, failed ones among them.
    PackageBuild,
    /// A plan of every stream of every image.
    ImagePlan,
    /// A scan of every published version.
    VulnerabilityScan,
    /// A look at the jobs on other machines of which nothing was heard in time.
    Jobs,
}

/// Starts the work of a schedule, a page at a time: where it ends, a message goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What to start.
    pub work: Work,
    /// The time that the schedule is for. Started twice for the same time is started once.
    pub time: Timestamp,
    /// The subject after which this page starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[async_trait]
impl Stage for Schedule {
    const NAME: &'static str = "schedule";

    fn subject(&self) -> String {
        match &self.after {
            None => format!("{:?} of {}", self.work, self.time),
            Some(after) => format!("{:?} of {} after {after}", self.work, self.time),
        }
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let messages = match self.work {
            Work::UpstreamCheck => page(
                context.catalog.packages.keys().map(|name| (name.clone(), UpstreamCheck { package: name.clone() })),
                self.after.as_deref(),
            )?,
            Work::ImagePlan => {
                if self.after.is_none() {
                    streams::propose(context).await?;
                }
                let plans = cycle::image_plans(context);
                page(plans.into_iter().map(|plan| (plan.subject(), plan)), self.after.as_deref())?
            }
            Work::VulnerabilityScan => {
                if self.after.is_none() {
                    let mut imported = Summary::default();
                    cycle::import_catalog_feed(context, &mut imported).await?;
                    for rejected in imported.failed {
                        tracing::error!(
                            record = rejected.subject,
                            "the catalog's record is refused: {}",
                            rejected.text
                        );
                    }
                }
                let scans = cycle::scans(context).await?;
                let named = scans.into_iter().map(|scan| (format!("{}@{}", scan.image, scan.digest), scan));
                page::<VulnerabilityScan>(named, self.after.as_deref())?
            }
            Work::Jobs => {
                return Ok(match wake_overdue(context).await? {
                    0 => Outcome::Skipped("every job is in time".to_owned()),
                    sent => Outcome::Done(format!("{sent} overdue jobs are looked at")),
                });
            }
            Work::PackageBuild => {
                ask_for_due(context).await?;
                return Ok(Outcome::Done("the builds that are due".to_owned()));
            }
        };
        let sent = messages.envelopes.len();
        let mut chunks = messages.envelopes.chunks(CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            let mut transaction = Transaction { messages: chunk.to_vec(), ..Transaction::default() };
            if chunks.peek().is_none()
                && let Some(after) = &messages.last
            {
                transaction.send(Self { after: Some(after.clone()), ..self.clone() }.envelope()?);
            }
            context.state.commit(transaction).await?;
        }
        Ok(match (sent, messages.last) {
            (0, _) => Outcome::Skipped("there is nothing to start".to_owned()),
            (sent, None) => Outcome::Done(format!("{sent} started")),
            (sent, Some(after)) => Outcome::Done(format!("{sent} started, to `{after}`")),
        })
    }
}

struct Page {
    envelopes: Vec<ports::Envelope>,
    /// The last subject, when more follow.
    last: Option<String>,
}

/// The next messages in the order of their subjects.
fn page<S: Stage>(messages: impl Iterator<Item = (String, S)>, after: Option<&str>) -> Result<Page, StageError> {
    let mut messages: Vec<(String, S)> =
        messages.filter(|(subject, _)| after.is_none_or(|after| subject.as_str() > after)).collect();
    messages.sort_by(|a, b| a.0.cmp(&b.0));
    let more = messages.len() > PAGE;
    messages.truncate(PAGE);
    let last = messages.last().map(|(subject, _)| subject.clone()).filter(|_| more);
    let envelopes = messages.iter().map(|(_, message)| message.envelope()).collect::<Result<_, _>>()?;
    Ok(Page { envelopes, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let names: Vec<String> = (0..1_203).map(|number| format!("package-{number}")).collect();
        let checks = || names.iter().map(|name| (name.clone(), UpstreamCheck { package: name.clone() }));
        let (mut after, mut seen, mut sizes) = (None, std::collections::BTreeSet::new(), Vec::new());
        loop {
            let page = page(checks(), after.as_deref()).unwrap();
            sizes.push(page.envelopes.len());
            for envelope in page.envelopes {
                assert!(seen.insert(envelope.body["package"].as_str().unwrap().to_owned()));
            }
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((sizes, seen.len()), (vec![500, 500, 203], 1_203));
    }
}
