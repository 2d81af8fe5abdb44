//! Minimill's own `install-if/NAME.yaml`, which stands beside a definition: the format of definitions
//! has no key for apk's `install_if`.

use crate::decode::Fields;
use crate::error::Error;
use crate::text::Text;
use crate::yaml;

/// Which of a definition's packages install themselves, and beside what.
///
/// ```yaml
/// hello-doc:                          # a package of the definition
///   - hello=${{package.full-version}} # all of these are there
///   - docs
/// ```
///
/// Package managers install such a package once everything on its list is installed.
#[derive(Debug, Clone)]
pub struct InstallIf {
    /// The name that errors give.
    pub(crate) file: String,
    pub(crate) source: String,
    /// By package name, in the order written.
    pub(crate) packages: Vec<(Text, Vec<Text>)>,
}

impl InstallIf {
    /// Reads `install-if/NAME.yaml`.
    ///
    /// # Errors
    ///
    /// What is no map from names to lists, and a package with an empty list.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let node = yaml::parse(text, file)?;
        let fields = Fields::open_any(&node, file, "")?;
        let mut packages = Vec::new();
        for (name, _) in fields.entries() {
            let wants = fields.texts(name)?;
            if wants.is_empty() {
                return Err(fields.missing(name));
            }
            packages.push((name.clone(), wants));
        }
        Ok(Self { file: file.to_owned(), source: text.to_owned(), packages })
    }
}
