use aws_config::SdkConfig;

/// The SDK's clients, made once per process.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The table.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// The bucket.
    pub s3: aws_sdk_s3::Client,
    /// The queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Jobs.
    pub codebuild: aws_sdk_codebuild::Client,
}

impl Clients {
    /// Clients that share one configuration and one pool of connections.
    pub fn new(config: &SdkConfig) -> Self {
        // Only AWS serves a bucket as a host of its own; where the endpoint is set, it is a path.
        let s3 = aws_sdk_s3::config::Builder::from(config).force_path_style(config.endpoint_url().is_some());
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sqs: aws_sdk_sqs::Client::new(config),
            codebuild: aws_sdk_codebuild::Client::new(config),
        }
    }
}
