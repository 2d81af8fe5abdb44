//! Credentials as container clients keep them: `~/.docker/config.json`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::Credentials;
use crate::{Error, Repository, Result};

/// The largest file accepted, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The longest answer of a helper accepted, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long a helper may take.
const HELPER_TIME: Duration = Duration::from_secs(30);

/// A `config.json`: credentials by registry, and the programs that keep further ones.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    credentials: BTreeMap<String, Credentials>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
    search_path: Option<OsString>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl DockerConfig {
    /// Where the file is: in the folder `DOCKER_CONFIG`, else in `.docker` under `HOME`.
    pub fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let named = |name| variable(name).filter(|value| !value.is_empty());
        let folder = named("DOCKER_CONFIG").map(PathBuf::from);
        folder.or_else(|| Some(Path::new(&named("HOME")?).join(".docker"))).map(|folder| folder.join("config.json"))
    }

    /// Reads the file; one that is not there has no credentials.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::CredentialsFile`].
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::CredentialsFile { path: path.into(), reason };
        match fs::metadata(path) {
            Ok(found) if found.len() > MAX_FILE_BYTES => {
                return Err(wrong(format!("{} bytes are more than {MAX_FILE_BYTES}", found.len())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(path, "look up")(error)),
        }
        let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
        let raw: Raw = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut config = Self { store: raw.creds_store.filter(|name| !name.is_empty()), ..Self::default() };
        for (name, entry) in raw.auths {
            let found = entry.credentials().map_err(|reason| wrong(format!("`auths` of `{name}`: {reason}")))?;
            config.credentials.extend(found.map(|found| (place(&name).to_owned(), found)));
        }
        for (name, program) in raw.cred_helpers {
            config.helpers.insert(place(&name).to_owned(), program);
        }
        for program in config.helpers.values().chain(&config.store) {
            if !program.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                return Err(wrong(format!("`{program}` can't be the name of a credential helper")));
            }
        }
        Ok(config)
    }

    /// Looks for helpers in these folders, separated by colons, instead of in those of `PATH`.
    pub fn with_search_path(self, search_path: impl Into<OsString>) -> Self {
        Self { search_path: Some(search_path.into()), ..self }
    }

    /// The credentials for a repository at the registry `address` (`HOST[:PORT]`, a scheme before
    /// it does not matter). An entry for a part of the registry (`HOST/team`) comes before one for
    /// the whole. Programs that keep credentials are run only where `run_helpers` is set.
    ///
    /// # Errors
    /// [`Error::CredentialHelper`].
    pub async fn credentials(
        &self,
        address: &str,
        repository: &Repository,
        run_helpers: bool,
    ) -> Result<Option<Credentials>> {
        let host = place(address);
        let helper = self.helpers.get(host).or(self.store.as_ref());
        if let Some(program) = helper {
            if run_helpers {
                if let Some(found) = self.ask(program, host).await? {
                    return Ok(Some(found));
                }
            } else {
                tracing::warn!(host, program, "a credential helper is configured for this registry and not allowed");
            }
        }
        let whole = format!("{host}/{repository}");
        let mut wanted = whole.as_str();
        loop {
            if let Some(found) = self.credentials.get(wanted) {
                return Ok(Some(found.clone()));
            }
            match wanted.rsplit_once('/') {
                Some((shorter, _)) => wanted = shorter,
                None => return Ok(None),
            }
        }
    }
}

impl DockerConfig {
    /// Asks `docker-credential-PROGRAM get`; none where it has no credentials for the registry.
    async fn ask(&self, program: &str, host: &str) -> Result<Option<Credentials>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            username: String,
            secret: String,
        }
        let program = format!("docker-credential-{program}");
        let failed =
            |reason: String| Error::CredentialHelper { program: program.clone(), registry: host.into(), reason };
        let run = async {
            let mut command = Command::new(&program);
            if let Some(search_path) = &self.search_path {
                command.env("PATH", search_path);
            }
            let mut child = command
                .arg("get")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(host.as_bytes()).await?;
            }
            let mut text = Vec::new();
            if let Some(output) = child.stdout.take() {
                output.take(MAX_ANSWER_BYTES).read_to_end(&mut text).await?;
            }
            Ok::<_, std::io::Error>((child.wait().await?, text))
        };
        let (status, text) = tokio::time::timeout(HELPER_TIME, run)
            .await
            .map_err(|_| failed(format!("no answer within {} s", HELPER_TIME.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            let text = String::from_utf8_lossy(&text);
            if text.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(format!("{status}: {}", text.trim().chars().take(200).collect::<String>())));
        }
        // What the answer holds is secret, so that errors must not quote it.
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| failed("its answer has no `Username` and `Secret`".into()))?;
        Ok(Some(Credentials { user: answer.username, password: answer.secret }))
    }
}

impl Entry {
    fn credentials(self) -> Result<Option<Credentials>, String> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::identity_token(token)));
        }
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Ok(Some(Credentials { user, password }));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let wrong = || "`auth` is not the base64 of `USER:PASSWORD`".to_owned();
        let text = String::from_utf8(STANDARD.decode(auth.trim()).map_err(|_| wrong())?).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

/// The registry that an entry is for: `https://index.example/v1/` is `index.example`.
fn place(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn user(config: &DockerConfig, address: &str, repository: &str) -> Option<(String, String)> {
        let found = config.credentials(address, &repository.parse().unwrap(), false).await.unwrap();
        found.map(|found| (found.user, found.password))
    }

    #[tokio::test]
    async fn entries_are_found_by_registry_and_by_the_longest_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(user(&DockerConfig::read(&path).unwrap(), "a.example", "x").await, None);
        let auth = |text: &str| STANDARD.encode(text);
        let text = serde_json::json!({
            "auths": {
                "https://a.example/v1/": {"auth": auth("ann:p:w")},
                "b.example:5000": {"username": "bob", "password": "pw"},
                "b.example:5000/team": {"auth": auth("team:pw")},
                "c.example": {"auth": "", "identitytoken": "refresh"},
                "d.example": {},
            },
            "HttpHeaders": {"User-Agent": "x"},
        });
        fs::write(&path, text.to_string()).unwrap();
        let config = DockerConfig::read(&path).unwrap();
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(user(&config, "a.example", "x").await, pair("ann", "p:w"));
        assert_eq!(user(&config, "https://a.example", "x").await, pair("ann", "p:w"));
        assert_eq!(user(&config, "b.example:5000", "other/x").await, pair("bob", "pw"));
        assert_eq!(user(&config, "b.example:5000", "team/x/y").await, pair("team", "pw"));
        assert_eq!(user(&config, "b.example", "x").await, None);
        assert_eq!(user(&config, "c.example", "x").await, pair("<token>", "refresh"));
        assert_eq!(user(&config, "d.example", "x").await, None);
        for bad in ["", "3", r#"{"auths":{"a":{"auth":"eHg="}}}"#, r#"{"credHelpers":{"a":"../x"}}"#] {
            fs::write(&path, bad).unwrap();
            let error = DockerConfig::read(&path).unwrap_err().to_string();
            assert!(error.contains("config.json"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn helpers_are_asked_only_where_that_is_allowed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, program) = (folder.path().join("config.json"), folder.path().join("docker-credential-t"));
        fs::write(&path, r#"{"credHelpers":{"a.example":"t","b.example":"t","c.example":"t"}}"#).unwrap();
        let script = r#"#!/bin/sh
read -r host
case "$1 $host" in
"get a.example") echo '{"ServerURL":"a.example","Username":"ann","Secret":"pw"}' ;;
"get b.example") echo "credentials not found in native keychain"; exit 1 ;;
*) echo broken; exit 2 ;;
esac
"#;
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let search_path = format!("{}:/usr/bin:/bin", folder.path().display());
        let config = DockerConfig::read(&path).unwrap().with_search_path(search_path);
        let name = "x".parse().unwrap();
        let found = config.credentials("a.example", &name, true).await.unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("ann", "pw"));
        assert!(config.credentials("a.example", &name, false).await.unwrap().is_none());
        assert!(config.credentials("b.example", &name, true).await.unwrap().is_none());
        let error = config.credentials("c.example", &name, true).await.unwrap_err().to_string();
        assert!(error.contains("docker-credential-t") && error.contains("broken"), "{error}");
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let path = |variables: &[(&str, &str)]| {
            DockerConfig::path(|name| {
                variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(path(&[("HOME", "/h")]), Some("/h/.docker/config.json".into()));
        assert_eq!(path(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), Some("/d/config.json".into()));
        assert_eq!(path(&[]), None);
    }
}
