//! Signs packages, writes their index, and runs tests that could not run before.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::run(lambda::stages!(stage::PackagePublish, stage::PackageIndex, stage::PackageTest)).await
}
