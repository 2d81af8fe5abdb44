//! Who may have published, by the certificate that the signature was made with.

use sigstore_verify::crypto::CertificateInfo;

use crate::error::{Error, Result};

const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
const GITHUB: &str = "https://github.com";
const GITLAB: &str = "https://gitlab.com";
const GOOGLE_ISSUER: &str = "https://accounts.google.com";

/// A publisher that a policy pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publisher {
    /// A workflow of a GitHub repository.
    GitHub {
        /// `OWNER/NAME`.
        repository: String,
        /// File name below `.github/workflows`; any workflow of the repository when absent.
        workflow: Option<String>,
        /// Deployment environment; any when absent.
        environment: Option<String>,
    },
    /// A pipeline of a GitLab project.
    GitLab {
        /// `GROUP/NAME`.
        repository: String,
        /// Path of the pipeline's file; any of the project when absent.
        workflow: Option<String>,
    },
    /// A Google account, of a person or a service.
    Google {
        /// Its e-mail address.
        email: String,
    },
    /// Any other identity.
    Identity {
        /// The certificate's subject, exactly.
        identity: String,
        /// Who vouches for it, exactly.
        issuer: String,
    },
}

impl Publisher {
    /// Checks the certificate's claims, which its authority signed.
    pub(super) fn check(&self, certificate: &CertificateInfo) -> Result<()> {
        let identity = certificate.identity.as_ref().map(|identity| identity.as_str()).unwrap_or_default();
        let issuer = certificate.issuer.as_deref().unwrap_or_default();
        let repository = certificate.ci_claims.source_repository_uri.as_deref().unwrap_or_default();
        match self {
            Self::GitHub { repository: wanted, workflow, environment } => {
                equal("issuer", GITHUB_ISSUER, issuer)?;
                same("repository", &format!("{GITHUB}/{wanted}"), repository)?;
                let folder = format!("{GITHUB}/{wanted}/.github/workflows/");
                starts("workflow", &folder, workflow.as_deref(), identity)?;
                match environment {
                    None => Ok(()),
                    Some(wanted) => {
                        let found = certificate.ci_claims.deployment_environment.as_deref().unwrap_or_default();
                        same("environment", wanted, found)
                    }
                }
            }
            Self::GitLab { repository: wanted, workflow } => {
                equal("issuer", GITLAB, issuer)?;
                same("repository", &format!("{GITLAB}/{wanted}"), repository)?;
                starts("workflow", &format!("{GITLAB}/{wanted}//"), workflow.as_deref(), identity)
            }
            Self::Google { email } => {
                equal("issuer", GOOGLE_ISSUER, issuer)?;
                equal("identity", email, identity)
            }
            Self::Identity { identity: wanted, issuer: by } => {
                equal("issuer", by, issuer)?;
                equal("identity", wanted, identity)
            }
        }
    }
}

fn equal(field: &'static str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Publisher { field, expected: expected.to_owned(), found: found.to_owned() })
}

/// Equal but for case, which hosts don't tell apart in the names of repositories.
fn same(field: &'static str, expected: &str, found: &str) -> Result<()> {
    equal(field, &expected.to_ascii_lowercase(), &found.to_ascii_lowercase())
}

/// The identity must be `FOLDER` + `FILE` + `@` + a ref.
fn starts(field: &'static str, folder: &str, file: Option<&str>, identity: &str) -> Result<()> {
    let (path, reference) = identity.split_once('@').unwrap_or((identity, ""));
    let head = path.get(..folder.len()).unwrap_or_default();
    let rest = path.get(folder.len()..).unwrap_or_default();
    let fits = head.eq_ignore_ascii_case(folder)
        && !rest.is_empty()
        && !reference.is_empty()
        && file.is_none_or(|file| file == rest);
    if fits {
        return Ok(());
    }
    let expected = format!("{folder}{}@...", file.unwrap_or("..."));
    Err(Error::Publisher { field, expected, found: identity.to_owned() })
}
