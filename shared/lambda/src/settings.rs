use std::path::PathBuf;

use apk::Architecture;
use aws::Queues;

use crate::Error;

/// A function's environment, as template.yaml sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The function's name, which its outbox has: `MINIMILL_FUNCTION`.
    pub function: String,
    /// The table: `MINIMILL_TABLE`.
    pub table: String,
    /// The bucket of blobs and jobs: `MINIMILL_BUCKET`.
    pub bucket: String,
    /// The bucket of the apk repository: `MINIMILL_REPOSITORY_BUCKET`.
    pub repository_bucket: String,
    /// The registry's address: `MINIMILL_REGISTRY`.
    pub registry: String,
    /// What the names of the registry's repositories begin with, before a `/`: `MINIMILL_REGISTRY_PREFIX`.
    pub registry_prefix: String,
    /// The folder of the catalog: `MINIMILL_CATALOG`.
    pub catalog: PathBuf,
    /// Architectures of packages and images: `MINIMILL_ARCHITECTURES`.
    pub architectures: Vec<Architecture>,
    /// The queues that the function reads and sends to: `MINIMILL_QUEUE_STAGE` and
    /// `MINIMILL_DEAD_STAGE`, a stage's `-` being `_`.
    pub queues: Queues,
    /// The KMS key that signs packages, where the function may: `MINIMILL_PACKAGE_KEY`.
    pub package_key: Option<String>,
    /// The KMS key that signs images, where the function may: `MINIMILL_IMAGE_KEY`.
    pub image_key: Option<String>,
    /// The CodeBuild project that runs jobs, where the function starts any: `MINIMILL_BUILD_PROJECT`.
    pub build_project: Option<String>,
    /// Scratch space: `/tmp`, or `MINIMILL_WORK`.
    pub work: PathBuf,
    /// Whether the function's own machine runs builds and containers, which Lambda's does not:
    /// `MINIMILL_JOBS` is `local`.
    pub local_jobs: bool,
}

impl Settings {
    /// Reads the environment, given as its variables.
    ///
    /// # Errors
    /// [`Error::Variable`] names what is missing or wrong.
    pub fn read(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut queues = Queues::default();
        let mut plain = std::collections::BTreeMap::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("MINIMILL_") else { continue };
            let stage = |name: &str| name.to_lowercase().replace('_', "-");
            if let Some(name) = rest.strip_prefix("QUEUE_") {
                queues.stages.insert(stage(name), value);
            } else if let Some(name) = rest.strip_prefix("DEAD_") {
                queues.dead.insert(stage(name), value);
            } else if !value.is_empty() {
                plain.insert(rest.to_owned(), value);
            }
        }
        let optional = |name: &str| plain.get(name).cloned();
        let needed = |name: &str| {
            optional(name).ok_or_else(|| Error::Variable {
                variable: format!("MINIMILL_{name}"),
                reason: "is not set; template.yaml sets it".to_owned(),
            })
        };
        let architectures = needed("ARCHITECTURES")?
            .split([',', ' '])
            .filter(|name| !name.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<Architecture>, _>>()
            .map_err(|error| Error::Variable {
                variable: "MINIMILL_ARCHITECTURES".to_owned(),
                reason: error.to_string(),
            })?;
        let local_jobs = match optional("JOBS").as_deref() {
            None => false,
            Some("local") => true,
            Some(other) => {
                let reason = format!("`{other}`, expected `local` or nothing");
                return Err(Error::Variable { variable: "MINIMILL_JOBS".to_owned(), reason });
            }
        };
        Ok(Self {
            function: needed("FUNCTION")?,
            table: needed("TABLE")?,
            bucket: needed("BUCKET")?,
            repository_bucket: needed("REPOSITORY_BUCKET")?,
            registry: needed("REGISTRY")?,
            registry_prefix: needed("REGISTRY_PREFIX")?,
            catalog: needed("CATALOG")?.into(),
            architectures,
            queues,
            package_key: optional("PACKAGE_KEY"),
            image_key: optional("IMAGE_KEY"),
            build_project: optional("BUILD_PROJECT"),
            work: optional("WORK").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
            local_jobs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<(String, String)> {
        let pairs = [
            ("MINIMILL_FUNCTION", "package-build"),
            ("MINIMILL_TABLE", "t"),
            ("MINIMILL_BUCKET", "b"),
            ("MINIMILL_REPOSITORY_BUCKET", "r"),
            ("MINIMILL_REGISTRY", "registry.example"),
            ("MINIMILL_REGISTRY_PREFIX", "minimill"),
            ("MINIMILL_CATALOG", "/opt"),
            ("MINIMILL_ARCHITECTURES", "x86_64,aarch64"),
            ("MINIMILL_QUEUE_PACKAGE_PUBLISH", "https://sqs/publish.fifo"),
            ("MINIMILL_DEAD_PACKAGE_PUBLISH", "https://sqs/dead"),
            ("MINIMILL_IMAGE_KEY", ""),
            ("PATH", "/bin"),
        ];
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn queues_are_named_by_their_stage() {
        let settings = Settings::read(variables()).unwrap();
        assert_eq!(settings.queues.stages["package-publish"], "https://sqs/publish.fifo");
        assert_eq!(settings.queues.dead["package-publish"], "https://sqs/dead");
        assert_eq!(settings.architectures.len(), 2);
        assert_eq!((settings.image_key, settings.work), (None, PathBuf::from("/tmp")));
        assert!(!settings.local_jobs);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let without = |name: &str| variables().into_iter().filter(|(found, _)| found != name).collect::<Vec<_>>();
        let error = Settings::read(without("MINIMILL_TABLE")).unwrap_err();
        assert_eq!(error.to_string(), "`MINIMILL_TABLE`: is not set; template.yaml sets it");
        let mut wrong = variables();
        wrong.push(("MINIMILL_JOBS".to_owned(), "elsewhere".to_owned()));
        let error = Settings::read(wrong).unwrap_err().to_string();
        assert_eq!(error, "`MINIMILL_JOBS`: `elsewhere`, expected `local` or nothing");
        let mut wrong = without("MINIMILL_ARCHITECTURES");
        wrong.push(("MINIMILL_ARCHITECTURES".to_owned(), "x86_64,vax".to_owned()));
        let error = Settings::read(wrong).unwrap_err().to_string();
        assert!(error.starts_with("`MINIMILL_ARCHITECTURES`: ") && error.contains("vax"), "{error}");
    }
}
