//! The `mill` command: the stages of the factory in one process, with embedded ports.

mod arguments;
mod base_image;
mod command;
mod factory;
mod keys;
mod leftovers;
mod output;
mod progress;
mod registries;
mod signing;
mod sources;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::output::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(3),
            };
        }
    };
    match command::run_without_runtime(&arguments) {
        Ok(None) => {}
        Ok(Some(code)) => return ExitCode::from(code),
        Err(failure) => return failure.report(),
    }
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("MINIMILL_LOG").unwrap_or_else(|_| "error,mill=info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::environment(format!("start the runtime: {error}")).report(),
    };
    match runtime.block_on(command::run(arguments)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
