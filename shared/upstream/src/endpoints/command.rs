//! Asking the standard clients themselves.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Surroundings, cargo};
use crate::error::{Error, Result};

const LONGEST_RUN: Duration = Duration::from_secs(60);

/// Makes cargo set up its built-in index in an empty home. The crate asked about is of no
/// matter; it is one that this crate depends on.
pub(super) async fn cargo_index_update(surroundings: &Surroundings, home: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["info", "--quiet", "semver"]).env("CARGO_HOME", home).current_dir(home);
    output(surroundings, command).await.map_err(cargo::no_endpoint)?;
    Ok(())
}

/// What `npm config get registry` prints.
pub(super) async fn npm_registry(surroundings: &Surroundings) -> Result<String> {
    let mut command = Command::new("npm");
    command.args(["config", "get", "registry"]);
    output(surroundings, command).await.map_err(|reason| Error::Endpoint {
        ecosystem: "npm",
        reason,
        setting: "npm",
        variable: "MINIMILL_NPM_REGISTRY",
    })
}

/// pip's configured index, else the one built into it.
pub(super) async fn pip_index(surroundings: &Surroundings) -> Result<String> {
    let mut configured = Command::new("pip");
    configured.args(["config", "get", "global.index-url"]);
    // pip fails when the key isn't set, which only means that the built-in index is used.
    if let Ok(index) = output(surroundings, configured).await {
        return Ok(index);
    }
    let mut built_in = Command::new("python3");
    built_in.args(["-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]);
    output(surroundings, built_in).await.map_err(|reason| Error::Endpoint {
        ecosystem: "pypi",
        reason,
        setting: "pypi",
        variable: "MINIMILL_PYPI_INDEX",
    })
}

/// Standard output, trimmed; else the reason why there is none.
async fn output(surroundings: &Surroundings, mut command: Command) -> Result<String, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    if !surroundings.run_clients {
        return Err(format!("`{name}` may not be run to ask it"));
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LONGEST_RUN, command.output())
        .await
        .map_err(|_| format!("`{name}` gave no answer in {} s", LONGEST_RUN.as_secs()))?
        .map_err(|error| format!("`{name}` can't be run: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name}` failed: {}", reason.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
