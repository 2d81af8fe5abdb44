use recipe::rules;

use crate::Error;
use crate::system::{make_directory, write_mode};
use crate::tree::Tree;

/// Writes the supervision tree of s6: for each service its `/sv/NAME/run`.
///
/// `s6-svscan` keeps its own files beside `run`, so that the directories are open to whatever user
/// the container runs as.
pub(crate) fn write(tree: &mut Tree, services: &[(String, String)], mtime: u64) -> Result<(), Error> {
    for (name, command) in services {
        rules::file_name(name).map_err(|problem| Error::Setting {
            setting: "entrypoint.services",
            value: name.clone(),
            problem: problem.to_owned(),
        })?;
        make_directory(tree, &format!("sv/{name}"), 0o777, mtime)?;
        let script = format!("#!/bin/execlineb\n{command}\n");
        write_mode(tree, &format!("sv/{name}/run"), script.into_bytes(), 0o755, mtime)?;
    }
    Ok(())
}
