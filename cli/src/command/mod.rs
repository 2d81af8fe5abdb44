mod apk_tools;
mod catalog;
mod cycle;
mod image;
mod image_build;
mod image_lock;
mod image_solve;
mod image_test;
mod job;
mod key;
mod package;
mod run;
mod serve;
mod upstream;
mod verify;
mod vulnerability;

use crate::arguments::{Arguments, Command, Image};
use crate::output::Failure;

/// Runs a command that needs no runtime; `None` for any other.
pub fn run_without_runtime(arguments: &Arguments) -> Result<Option<u8>, Failure> {
    match &arguments.command {
        Command::Image(Image::Solve(solve)) => image_solve::run_local(&arguments.global, solve),
        _ => Ok(None),
    }
}

/// Runs a command; the answer is the exit code.
pub async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Cycle => cycle::run(&global).await,
        Command::Run { listen } => run::run(&global, listen).await,
        Command::Serve { listen, writable } => serve::run(&global, listen, writable).await,
        Command::Catalog(command) => catalog::run(&global, command),
        Command::Upstream(command) => upstream::run(&global, command).await,
        Command::Package(command) => package::run(&global, command).await,
        Command::Apk(command) => apk_tools::run(&global, command),
        Command::Image(Image::Solve(solve)) => image_solve::run(&global, &solve).await,
        Command::Image(command) => image::run(&global, command).await,
        Command::Feed(command) => vulnerability::feed(&global, command).await,
        Command::Scan { image } => vulnerability::scan(&global, image.as_deref()).await,
        Command::Verify(arguments) => verify::run(&global, &arguments).await,
        Command::Job(command) => job::run(&global, command).await,
        Command::Key(command) => key::run(&global, &command),
    }
}
