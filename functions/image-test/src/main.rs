//! Runs the suites of images.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::ImageTest)).await
}
