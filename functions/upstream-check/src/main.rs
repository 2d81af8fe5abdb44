//! Asks upstreams for releases, and proves new sources.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::UpstreamCheck, stage::Schedule)).await
}
