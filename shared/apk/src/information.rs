//! `.PKGINFO`: what a package says of itself.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::{Error, Result};

/// What a package says of itself: the content of `.PKGINFO`.
///
/// Foreign packages are of any architecture, so `architecture` is text here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageInformation {
    /// `pkgname`.
    pub name: String,
    /// `pkgver`, with its `-rN`.
    pub version: String,
    /// `arch`: `x86_64`, `aarch64`, `noarch`, ...
    pub architecture: String,
    /// `size`: bytes once installed.
    pub installed_size: u64,
    /// `origin`: the definition that this package was built from; empty when not stated.
    pub origin: String,
    /// `pkgdesc`.
    pub description: String,
    /// `url` of the upstream project.
    pub url: String,
    /// `commit` of the definition.
    pub commit: String,
    /// `maintainer`.
    pub maintainer: String,
    /// `builddate`: seconds since 1970-01-01 UTC; 0 when not stated.
    pub build_date: i64,
    /// `license`, one SPDX expression per line of `.PKGINFO`.
    pub licenses: Vec<String>,
    /// `depend`.
    pub depends: Vec<String>,
    /// `provides`.
    pub provides: Vec<String>,
    /// `replaces`.
    pub replaces: Vec<String>,
    /// `install_if`.
    pub install_if: Vec<String>,
    /// `provider_priority`; 0 when not stated.
    pub provider_priority: u64,
    /// `replaces_priority`; 0 when not stated.
    pub replaces_priority: u64,
    /// `triggers`: the watched paths.
    pub triggers: Vec<String>,
    /// `datahash`: lowercase hexadecimal SHA-256 of the compressed data member.
    pub data_hash: String,
}

/// One record of an `APKINDEX`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// `C:` the `Q1...` checksum: base64 of the SHA-1 of the compressed control member.
    pub checksum: String,
    /// `S:` size of the `.apk` file in bytes.
    pub size: u64,
    /// The other fields, which repeat the package's own. `replaces`, `triggers` and `data_hash`
    /// have no letter in an index and stay empty.
    pub information: PackageInformation,
}

impl PackageInformation {
    /// Reads the text of a `.PKGINFO`: `key = value` lines, `#` comments, blank lines.
    ///
    /// Unknown keys are tolerated, since every builder adds its own. `file` names the text in
    /// errors.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut information = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.len() > limits::LINE_BYTES {
                return Err(Error::limit(file, format_args!("line {number} in bytes"), limits::LINE_BYTES as u64));
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| {
                Error::line(file, number, format_args!("expected `key = value`, found `{}`", line.escape_debug()))
            })?;
            information
                .set(key.trim_end(), value.trim_start())
                .map_err(|problem| Error::line(file, number, problem))?;
        }
        for (key, value) in [("pkgname", &information.name), ("pkgver", &information.version)] {
            if value.is_empty() {
                return Err(Error::missing(file, format_args!("`{key}`")));
            }
        }
        Ok(information)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let text = match key {
            "pkgname" => {
                check_name("pkgname", value).map_err(|error| error.to_string())?;
                &mut self.name
            }
            "pkgver" => {
                check_name("pkgver", value).map_err(|error| error.to_string())?;
                &mut self.version
            }
            "arch" => {
                if !value.is_empty() {
                    check_name("arch", value).map_err(|error| error.to_string())?;
                }
                &mut self.architecture
            }
            "origin" => &mut self.origin,
            "pkgdesc" => &mut self.description,
            "url" => &mut self.url,
            "commit" => &mut self.commit,
            "maintainer" => &mut self.maintainer,
            "datahash" => {
                if value.len() != 64 || !value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(format!(
                        "`datahash`: expected 64 lowercase hexadecimal digits, found `{}`",
                        value.escape_debug()
                    ));
                }
                &mut self.data_hash
            }
            "size" => return number(key, value, &mut self.installed_size),
            "builddate" => return number(key, value, &mut self.build_date),
            "provider_priority" => return number(key, value, &mut self.provider_priority),
            "replaces_priority" => return number(key, value, &mut self.replaces_priority),
            "license" => {
                if !value.is_empty() {
                    self.licenses.push(value.to_owned());
                }
                return Ok(());
            }
            "depend" => return words(&mut self.depends, value),
            "provides" => return words(&mut self.provides, value),
            "replaces" => return words(&mut self.replaces, value),
            "install_if" => return words(&mut self.install_if, value),
            "triggers" => return words(&mut self.triggers, value),
            _ => return Ok(()),
        };
        if !text.is_empty() {
            return Err(format!("`{key}` is stated twice: `{text}` and `{}`", value.escape_debug()));
        }
        value.clone_into(text);
        Ok(())
    }

    /// Writes `.PKGINFO` with keys in the order that melange writes them.
    ///
    /// `vendored` are the provides that are bundled privately; they become comments and affect no
    /// resolution. A value that would break a line is refused.
    pub fn write(&self, vendored: &[String]) -> Result<String> {
        check_name("pkgname", &self.name)?;
        check_name("pkgver", &self.version)?;
        let mut text = String::from("# Generated by minimill\n");
        let mut line = |key: &'static str, value: &str| -> Result<()> {
            check_value(key, value)?;
            text.push_str(key);
            text.push_str(" = ");
            text.push_str(value);
            text.push('\n');
            Ok(())
        };
        line("pkgname", &self.name)?;
        line("pkgver", &self.version)?;
        line("arch", &self.architecture)?;
        line("size", &self.installed_size.to_string())?;
        line("origin", &self.origin)?;
        line("pkgdesc", &self.description)?;
        line("url", &self.url)?;
        line("commit", &self.commit)?;
        if !self.maintainer.is_empty() {
            line("maintainer", &self.maintainer)?;
        }
        if self.build_date != 0 {
            line("builddate", &self.build_date.to_string())?;
        }
        for license in &self.licenses {
            line("license", license)?;
        }
        for (key, values) in [
            ("depend", self.depends.as_slice()),
            ("provides", self.provides.as_slice()),
            ("replaces", self.replaces.as_slice()),
            ("# vendored", vendored),
        ] {
            for value in values {
                check_word(key, value)?;
                line(key, value)?;
            }
        }
        if self.provider_priority != 0 {
            line("provider_priority", &self.provider_priority.to_string())?;
        }
        if self.replaces_priority != 0 {
            line("replaces_priority", &self.replaces_priority.to_string())?;
        }
        for (key, values) in [("install_if", &self.install_if), ("triggers", &self.triggers)] {
            for value in values {
                check_word(key, value)?;
            }
            if !values.is_empty() {
                line(key, &values.join(" "))?;
            }
        }
        line("datahash", &self.data_hash)?;
        Ok(text)
    }

    /// The file name `NAME-VERSION.apk`.
    pub fn file_name(&self) -> String {
        file_name(&self.name, &self.version)
    }
}

fn number<N: FromStr>(key: &str, value: &str, slot: &mut N) -> Result<(), String> {
    *slot = value.parse().map_err(|_| format!("`{key}`: expected a whole number, found `{}`", value.escape_debug()))?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the arms of `set` return alike")]
fn words(values: &mut Vec<String>, value: &str) -> Result<(), String> {
    values.extend(value.split_whitespace().map(str::to_owned));
    Ok(())
}

pub(crate) fn file_name(name: &str, version: &str) -> String {
    format!("{name}-{version}.apk")
}

/// Names, versions and architectures become parts of file names, so they hold no separators,
/// spaces or control characters and don't begin like an option or a hidden file.
pub(crate) fn check_name(field: &'static str, value: &str) -> Result<()> {
    let problem = if value.is_empty() {
        "it must not be empty"
    } else if value.len() > limits::COMPONENT_BYTES {
        "it is longer than 255 bytes"
    } else if value.starts_with(['.', '-']) {
        "it must not begin with `.` or `-`"
    } else if value.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
        "it must not hold `/`, spaces or control characters"
    } else {
        return Ok(());
    };
    Err(Error::Value { field, value: value.escape_debug().to_string(), problem })
}

/// One line of text: no control characters.
pub(crate) fn check_value(field: &'static str, value: &str) -> Result<()> {
    if value.chars().any(char::is_control) {
        return Err(Error::Value {
            field,
            value: value.escape_debug().to_string(),
            problem: "it must be one line without control characters",
        });
    }
    Ok(())
}

/// One word of a list that is separated by spaces.
pub(crate) fn check_word(field: &'static str, value: &str) -> Result<()> {
    if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::Value {
            field,
            value: value.escape_debug().to_string(),
            problem: "it must be one word without spaces",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PackageInformation {
        PackageInformation {
            name: "redis".into(),
            version: "8.2.1-r0".into(),
            architecture: "x86_64".into(),
            installed_size: 123,
            origin: "redis".into(),
            description: "a = b".into(),
            url: "https://redis.io".into(),
            commit: "abc".into(),
            maintainer: "who".into(),
            build_date: 7,
            licenses: vec!["MIT".into(), "BSD-2-Clause".into()],
            depends: vec!["so:libc.musl-x86_64.so.1".into(), "!bad".into()],
            provides: vec!["cmd:redis-server=8.2.1-r0".into()],
            replaces: vec!["old<1".into()],
            install_if: vec!["a".into(), "b=1".into()],
            provider_priority: 5,
            replaces_priority: 6,
            triggers: vec!["/usr/lib/*".into(), "/etc".into()],
            data_hash: "0".repeat(64),
        }
    }

    #[test]
    fn keys_are_written_in_melange_order() {
        insta::assert_snapshot!(full().write(&["so:libz.so.1=1".into()]).unwrap(), @r"
        # Generated by minimill
        pkgname = redis
        pkgver = 8.2.1-r0
        arch = x86_64
        size = 123
        origin = redis
        pkgdesc = a = b
        url = https://redis.io
        commit = abc
        maintainer = who
        builddate = 7
        license = MIT
        license = BSD-2-Clause
        depend = so:libc.musl-x86_64.so.1
        depend = !bad
        provides = cmd:redis-server=8.2.1-r0
        replaces = old<1
        # vendored = so:libz.so.1=1
        provider_priority = 5
        replaces_priority = 6
        install_if = a b=1
        triggers = /usr/lib/* /etc
        datahash = 0000000000000000000000000000000000000000000000000000000000000000
        ");
    }

    #[test]
    fn written_text_reads_back() {
        let text = full().write(&[]).unwrap();
        assert_eq!(PackageInformation::parse("x", &text).unwrap(), full());
    }

    #[test]
    fn foreign_keys_and_comments_are_tolerated() {
        let text = "# abuild\npkgname = a\npkgver = 1-r0\npackager = someone\nurl = \n\nsize = 3\n";
        let information = PackageInformation::parse("x", text).unwrap();
        assert_eq!((information.name.as_str(), information.installed_size), ("a", 3));
    }

    #[test]
    fn errors_name_the_line() {
        let problem = |text: &str| PackageInformation::parse("p", text).unwrap_err().to_string();
        assert_eq!(problem("pkgname = a\nsize = x\n"), "p:2: `size`: expected a whole number, found `x`");
        assert_eq!(problem("pkgname = a\npkgname = b\n"), "p:2: `pkgname` is stated twice: `a` and `b`");
        assert_eq!(problem("pkgname\n"), "p:1: expected `key = value`, found `pkgname`");
        assert_eq!(problem("pkgver = 1\n"), "p: has no `pkgname`");
        assert!(problem("pkgname = ../a\n").contains("p:1:"));
        assert!(problem("datahash = AB\n").contains("64 lowercase"));
    }

    #[test]
    fn values_that_break_lines_are_refused() {
        let mut information = full();
        information.description = "a\ndepend = evil".into();
        assert!(matches!(information.write(&[]), Err(Error::Value { field: "pkgdesc", .. })));
        let mut information = full();
        information.triggers = vec!["/a b".into()];
        assert!(matches!(information.write(&[]), Err(Error::Value { field: "triggers", .. })));
    }
}
