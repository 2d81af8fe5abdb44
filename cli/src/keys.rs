//! The home's signing keys: which sign now, and which signed before and are trusted still.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sign::{LocalEcdsaKey, LocalRsaKey, PublicKey, TrustedKeys};

use crate::output::{Failure, OrFail};

const PACKAGE_KEY_BITS: usize = 4096;
const RECORD: &str = "keys.json";
const RETIRED: &str = "retired";
/// The public half of the key in KMS that signs images.
pub const KMS_IMAGE_KEY: &str = "minimill-kms.pub";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Signs images and attestations: ECDSA P-256.
    Image,
    /// Signs packages and indexes: RSA.
    Package,
}

/// A key and the time in which it signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// Name of the private key's file; `NAME.pub` is the public key's.
    pub name: String,
    /// What it is for.
    #[serde(rename = "use")]
    pub used_for: Use,
    /// When it began to sign; none for the home's first key.
    pub from: Option<Timestamp>,
    /// When another took its place; none for the one that signs now.
    pub until: Option<Timestamp>,
}

/// The keys of a home. A home without `keys.json` has one key of each use, made at first use.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    periods: Vec<Period>,
}

impl Keys {
    /// Reads which keys there are.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(RECORD);
        let periods = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::environment(format!("`{}`: {error}", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let first = |name: &str, used_for| Period { name: name.to_owned(), used_for, from: None, until: None };
                vec![first("minimill", Use::Image), first("minimill.rsa", Use::Package)]
            }
            Err(error) => return Err(Failure::environment(format!("read `{}`: {error}", path.display()))),
        };
        let keys = Self { folder: folder.to_owned(), periods };
        for used_for in [Use::Image, Use::Package] {
            keys.current(used_for)?;
        }
        Ok(keys)
    }

    /// All keys, oldest first.
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// The key that signs images, made where there is none.
    pub fn image(&self) -> Result<LocalEcdsaKey, Failure> {
        LocalEcdsaKey::load_or_create(&self.folder.join(self.current(Use::Image)?)).or_environment()
    }

    /// The key that signs packages, made where there is none.
    pub fn package(&self) -> Result<LocalRsaKey, Failure> {
        LocalRsaKey::load_or_create(&self.folder.join(self.current(Use::Package)?), PACKAGE_KEY_BITS).or_environment()
    }

    /// Every key that has signed images here, one that KMS holds among them.
    pub fn trusted(&self) -> Result<TrustedKeys, Failure> {
        let images = self.periods.iter().filter(|period| period.used_for == Use::Image);
        let mut files: Vec<_> = images.map(|period| format!("{}.pub", period.name)).collect();
        files.push(KMS_IMAGE_KEY.to_owned());
        // A home that has signed with one kind of key only lacks the others.
        let there = files.iter().filter(|file| self.folder.join(file).exists());
        let trusted = there.map(|file| self.read(file)).collect::<Result<Vec<_>, _>>()?;
        if trusted.is_empty() {
            return Err(Failure::usage(format!(
                "`{}` holds no public key; name one with `--key`",
                self.folder.display()
            )));
        }
        Ok(TrustedKeys(trusted))
    }

    /// A key's public half.
    pub fn public(&self, period: &Period) -> Result<PublicKey, Failure> {
        self.read(&format!("{}.pub", period.name))
    }

    fn read(&self, file: &str) -> Result<PublicKey, Failure> {
        let path = self.folder.join(file);
        let pem = fs::read_to_string(&path)
            .map_err(|error| Failure::environment(format!("read the key `{}`: {error}", path.display())))?;
        PublicKey::from_pem(&pem).map_err(|error| Failure::environment(format!("`{}`: {error}", path.display())))
    }

    /// Puts the public half of a key that is held elsewhere beside those of this home.
    pub fn publish(&self, file: &str, key: &PublicKey) -> Result<(), Failure> {
        self.replace(file, key.to_pem().as_bytes())
    }

    /// Makes a new key for one use. What is signed from now on is signed with it; the public half
    /// of the one before stays where it is, trusted and published, and its private half goes to
    /// `retired/`. A rotation that was interrupted is taken up by the next.
    pub fn rotate(&mut self, used_for: Use, now: Timestamp) -> Result<Period, Failure> {
        self.retire()?;
        let number = self.periods.iter().filter(|period| period.used_for == used_for).count() + 1;
        let name = match used_for {
            Use::Image => format!("minimill-{number}"),
            Use::Package => format!("minimill-{number}.rsa"),
        };
        let path = self.folder.join(&name);
        match used_for {
            Use::Image => drop(LocalEcdsaKey::load_or_create(&path).or_environment()?),
            Use::Package => drop(LocalRsaKey::load_or_create(&path, PACKAGE_KEY_BITS).or_environment()?),
        }
        for period in &mut self.periods {
            if period.used_for == used_for && period.until.is_none() {
                period.until = Some(now);
            }
        }
        let new = Period { name, used_for, from: Some(now), until: None };
        self.periods.push(new.clone());
        self.write()?;
        self.retire()?;
        Ok(new)
    }

    /// Puts the private keys that sign no more away.
    fn retire(&self) -> Result<(), Failure> {
        let retired = self.folder.join(RETIRED);
        for period in self.periods.iter().filter(|period| period.until.is_some() && is_file_name(&period.name)) {
            let (from, to) = (self.folder.join(&period.name), retired.join(&period.name));
            let moved = fs::create_dir_all(&retired).and_then(|()| match fs::rename(&from, &to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
            moved.map_err(|error| {
                Failure::environment(format!("move the old key `{}` to `{}`: {error}", from.display(), to.display()))
            })?;
        }
        Ok(())
    }

    fn current(&self, used_for: Use) -> Result<&str, Failure> {
        let mut current = self.periods.iter().filter(|period| period.used_for == used_for && period.until.is_none());
        match (current.next(), current.next()) {
            (Some(only), None) if is_file_name(&only.name) => Ok(&only.name),
            _ => {
                let path = self.folder.join(RECORD);
                Err(Failure::environment(format!("`{}` does not name one key for {used_for:?}", path.display())))
            }
        }
    }

    fn write(&self) -> Result<(), Failure> {
        self.replace(RECORD, &serde_json::to_vec_pretty(&self.periods).or_environment()?)
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let (path, partial) = (self.folder.join(name), self.folder.join(format!(".{name}")));
        let write = || {
            let mut file = fs::File::create(&partial)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| Failure::environment(format!("write `{}`: {error}", path.display())))
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use sign::Signer;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_rotated_key_is_trusted_and_signs_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(folder.path()).unwrap();
        let old = keys.image().unwrap().public_key().clone();
        let new = keys.rotate(Use::Image, time("2026-07-01T00:00:00Z")).unwrap();
        assert_eq!(new.name, "minimill-2");
        let keys = Keys::open(folder.path()).unwrap();
        let signing = keys.image().unwrap().public_key().clone();
        assert_ne!(signing, old);
        assert_eq!(keys.trusted().unwrap().0, [old, signing]);
        assert!(folder.path().join("minimill.pub").is_file() && !folder.path().join("minimill").exists());
        assert!(folder.path().join("retired/minimill").is_file());
        let untils: Vec<_> = keys.periods().iter().map(|period| period.until.is_some()).collect();
        assert_eq!(untils, [true, false, false]);
    }

    #[test]
    fn a_record_that_names_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["[]", "{", r#"[{"name":"../x","use":"image"},{"name":"p","use":"package"}]"#] {
            fs::write(folder.path().join(RECORD), text).unwrap();
            assert!(Keys::open(folder.path()).is_err(), "{text}");
        }
    }
}
