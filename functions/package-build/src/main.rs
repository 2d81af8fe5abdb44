//! Fetches and proves sources, builds and tests packages.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::PackageBuild, stage::Schedule)).await
}
