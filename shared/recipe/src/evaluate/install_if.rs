//! What is said beside a definition of packages that install themselves.

use super::Evaluator;
use crate::error::Error;
use crate::substitute::{Origin, Scope, substitute};
use crate::text::{Location, Text};

impl Evaluator<'_> {
    /// What a package installs itself beside.
    pub(super) fn install_if(&self, package: &str, scope: &Scope<'_>) -> Result<Vec<String>, Error> {
        let Some(file) = self.options.install_if else { return Ok(Vec::new()) };
        let origin = Origin { file: &file.file, source: &file.source };
        let wants = file.packages.iter().filter(|(name, _)| *name == package).flat_map(|(_, wants)| wants);
        wants.map(|want| substitute(want, origin, scope)).collect()
    }

    /// Refuses what is said of a package that the definition does not make.
    pub(super) fn refuse_unknown_install_if(&self, scope: &Scope<'_>) -> Result<(), Error> {
        let Some(file) = self.options.install_if else { return Ok(()) };
        let known = |name: &Text| scope.get(&format!("targets.package.{name}")).is_some();
        match file.packages.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => Err(Error::Invalid {
                location: Location::new(&file.file, name.position),
                field: "install-if".to_owned(),
                value: name.value.clone(),
                reason: "the definition makes no package of this name".to_owned(),
            }),
            None => Ok(()),
        }
    }
}
