use serde::Deserialize;
use stage::Work;

/// What a function is invoked with.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// A batch of messages.
    Sqs {
        /// The messages.
        #[serde(rename = "Records")]
        records: Vec<SqsRecord>,
    },
    /// A schedule is due.
    Schedule(ScheduleEvent),
    /// A build of CodeBuild has changed its state.
    Build(BuildEvent),
}

/// A message as SQS delivers it to Lambda.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsRecord {
    /// SQS's id of the message, which a partial batch response names.
    pub message_id: String,
    /// What deletes or hides the message.
    pub receipt_handle: String,
    /// The content.
    pub body: String,
    /// The queue's ARN.
    #[serde(rename = "eventSourceARN")]
    pub event_source_arn: String,
}

/// An event of CodeBuild, as EventBridge hands it on: a *CodeBuild Build State Change*.
#[derive(Clone, Debug, Deserialize)]
pub struct BuildEvent {
    /// What happened.
    pub detail: BuildDetail,
}

/// What an event of CodeBuild says of a build.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuildDetail {
    /// `IN_PROGRESS`, or how it has ended.
    pub build_status: String,
    /// The build.
    pub build_id: String,
    /// More of it.
    pub additional_information: BuildInformation,
}

/// More of a build.
#[derive(Clone, Debug, Deserialize)]
pub struct BuildInformation {
    /// Where its source lies.
    pub source: BuildSource,
}

/// Where a build's source lies.
#[derive(Clone, Debug, Deserialize)]
pub struct BuildSource {
    /// In S3 `BUCKET/FOLDER/`.
    #[serde(default)]
    pub location: String,
}

/// The input of a schedule, as template.yaml writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEvent {
    /// What to start.
    pub schedule: Work,
    /// The time that it is due, `<aws.scheduler.scheduled-time>`.
    pub time: jiff::Timestamp,
}
