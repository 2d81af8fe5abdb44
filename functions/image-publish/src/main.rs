//! Signs, attests and tags images, and says what is known of their vulnerabilities.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::ImagePublish, stage::ImageVex)).await
}
