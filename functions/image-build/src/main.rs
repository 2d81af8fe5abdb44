//! Composes images, each twice.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::ImageBuild)).await
}
