//! State, blobs, queue and jobs on AWS: a DynamoDB table, an S3 bucket, SQS queues and a CodeBuild
//! project behind the traits of [`ports`].
//!
//! # The table
//!
//! | `pk` | `sk` | what | read by |
//! |---|---|---|---|
//! | `document#PARTITION` | sort key | a document: `revision`, and `value` (JSON) or `blob` (its digest) | get, list |
//! | `outbox#SENDER` | digest | messages that a transaction sends: `envelopes` or `blob`, `created` | [`Table::sweep`] |
//! | `message#SHARD` | id | a message on its way: `attempt`, `due`, `receipt`, and `dead` with `envelope` | receive, acknowledge, release |
//!
//! Every access is by key or by one partition; nothing scans. A transaction's messages are written
//! with it, as one item of the outbox, and sent right after; what a crash leaves there is sent by
//! the next [`Table::sweep`]. SQS may deliver twice and in any order: the message's item, leased
//! under a condition, decides who handles it, and a message without item is done.

mod blobs;
mod bucket;
mod clients;
mod error;
mod items;
mod jobs;
mod outbox;
mod queue;
mod table;

pub use blobs::S3Blobs;
pub use clients::Clients;
pub use ecr::{Address, Ecr, http_client, load};
pub use jobs::{CodeBuildJobs, job_of_source};
pub use queue::{Begun, Queues, SqsQueue, is_unreadable};
pub use table::Table;
