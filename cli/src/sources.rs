//! Where the packages of an image definition in a file come from.

use std::path::Path;

use apk::{Architecture, Keyring, PublicKey};
use recipe::{ImageConfiguration, KeyEntry};
use repositories::{KeySource, Repositories, RepositoryLine, Signatures};
use upstream::Fetcher;

use crate::arguments::RepositoryArguments;
use crate::output::{Failure, OrFail};

/// The repositories and keys that a definition and the command line name.
pub struct Sources {
    lines: Vec<RepositoryLine>,
    keys: Vec<KeySource>,
    ignore_signatures: bool,
}

impl Sources {
    /// Those of a definition that stands in `file`. Relative paths are looked for beside it, and
    /// then in the working folder.
    pub fn of(
        configuration: &ImageConfiguration,
        file: &Path,
        arguments: &RepositoryArguments,
    ) -> Result<Self, Failure> {
        let contents = &configuration.contents;
        let named = contents.build_repositories.iter().chain(&contents.repositories).map(|line| line.value.as_str());
        let beside = file.parent().unwrap_or(Path::new(""));
        let here = Path::new("");
        let parse = |bases: &[&Path], line: &str| RepositoryLine::parse(line, bases).or_bad();
        let mut lines = named.map(|line| parse(&[beside, here], line)).collect::<Result<Vec<_>, _>>()?;
        for line in &arguments.repository_append {
            lines.push(parse(&[here], line)?);
        }
        let keys = contents.keyring.iter().map(|key| match key {
            KeyEntry::Location(location) => KeySource::parse(location, &[beside, here]),
            KeyEntry::Inline(key) => KeySource::Inline { name: key.name.value.clone(), pem: key.content.value.clone() },
        });
        let more = arguments.keyring_append.iter().map(|key| KeySource::parse(key, &[here]));
        Ok(Self { lines, keys: keys.chain(more).collect(), ignore_signatures: arguments.ignore_signatures })
    }

    /// The repository that the home publishes, under the home's key.
    pub fn home(home: &Path, architecture: Architecture) -> Result<Self, Failure> {
        let folder = home.join("apk");
        if !folder.join(architecture.apk()).join("APKINDEX.tar.gz").is_file() {
            return Err(Failure::bad(format!(
                "the file names no repositories, and the home `{}` has no packages for {architecture} yet; name `contents.repositories`, or run `mill cycle`",
                home.display()
            )));
        }
        let line = RepositoryLine::parse(&folder.display().to_string(), &[Path::new("")]).or_bad()?;
        let key = KeySource::Path(home.join("keys/minimill.rsa.pub"));
        Ok(Self { lines: vec![line], keys: vec![key], ignore_signatures: false })
    }

    /// Whether no repository is named.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether all of it is on this machine.
    pub fn is_local(&self) -> bool {
        self.lines.iter().all(RepositoryLine::is_local) && self.keys.iter().all(KeySource::is_local)
    }

    /// Whether indexes are used although nothing says who must sign them.
    pub fn is_unverified(&self) -> bool {
        self.keys.is_empty() && !self.ignore_signatures
    }

    /// Opens the repositories without the network.
    pub fn open_local(&self, architecture: Architecture) -> Result<Repositories, Failure> {
        let keys = if self.ignore_signatures { Vec::new() } else { self.local_keys()? };
        Repositories::open_local(&self.lines, architecture, &self.signatures(keys)).or_bad()
    }

    /// Opens the repositories, fetching what is not on this machine.
    pub async fn open(&self, architecture: Architecture, fetcher: &Fetcher) -> Result<Repositories, Failure> {
        let keys = if self.ignore_signatures { Vec::new() } else { self.keys(fetcher).await? };
        Repositories::open(&self.lines, architecture, &self.signatures(keys), fetcher).await.or_bad()
    }

    /// The keys, wherever they are.
    pub async fn keys(&self, fetcher: &Fetcher) -> Result<Vec<PublicKey>, Failure> {
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            keys.push(key.read(fetcher).await.or_bad()?);
        }
        Ok(keys)
    }

    fn local_keys(&self) -> Result<Vec<PublicKey>, Failure> {
        self.keys.iter().map(KeySource::read_local).collect::<Result<_, _>>().or_bad()
    }

    fn signatures(&self, keys: Vec<PublicKey>) -> Signatures {
        if keys.is_empty() { Signatures::Ignored } else { Signatures::By(Keyring::new(keys)) }
    }
}

/// The architectures that a definition in a file is for: the one asked for, else those under
/// `archs`, else the host's.
pub fn architectures(
    configuration: &ImageConfiguration,
    asked: Option<Architecture>,
) -> Result<Vec<Architecture>, Failure> {
    if let Some(asked) = asked {
        return Ok(vec![asked]);
    }
    if configuration.architectures.iter().any(|name| name.value == "all") {
        return Ok(Architecture::ALL.to_vec());
    }
    let named = configuration.architectures.iter().filter(|name| name.value != "host").map(|name| {
        name.value.parse::<Architecture>().map_err(|_| {
            let line = name.position.line;
            Failure::bad(format!(
                "`archs` has `{name}` on line {line}: images are made for x86_64 and aarch64; take it out"
            ))
        })
    });
    let mut architectures = named.collect::<Result<Vec<_>, _>>()?;
    if configuration.architectures.iter().any(|name| name.value == "host") {
        architectures.extend(Architecture::host());
    }
    architectures.sort();
    architectures.dedup();
    if architectures.is_empty() {
        architectures.push(Architecture::host().unwrap_or(Architecture::X86_64));
    }
    Ok(architectures)
}
