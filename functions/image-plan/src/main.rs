//! Decides which image versions are due.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::ImagePlan, stage::Schedule)).await
}
