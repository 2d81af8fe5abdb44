//! `include`: configurations under configurations.

use super::validate::{BESIDE_BASE, beside_base};
use super::{Contents, Entrypoint, ImageConfiguration};
use crate::error::Error;
use crate::text::{Location, Text};

/// How deep configurations may include each other.
const MAXIMUM_DEPTH: usize = 16;

/// A configuration with what it includes merged in.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The whole; its `include` is gone.
    pub configuration: ImageConfiguration,
    /// The text of each file, the configuration's own first, then that of each include in turn: what
    /// a lock's checksum is over.
    pub sources: Vec<String>,
}

impl ImageConfiguration {
    /// Reads an apko file and the files that it includes. `read` returns the text of an include by the
    /// name that the file gives it, or why there is none; `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// As [`ImageConfiguration::parse`] for every file; an include that can't be read, includes itself
    /// again, or names a file of a remote repository.
    pub fn load(
        text: &str,
        file: &str,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<LoadedImage, Error> {
        let mut loaded = LoadedImage { configuration: Self::parse(text, file)?, sources: vec![text.to_owned()] };
        let mut names = vec![file.to_owned()];
        let mut within = file.to_owned();
        while let Some(include) = loaded.configuration.include.take().filter(|include| !include.is_empty()) {
            let refuse = |reason: String| Error::Invalid {
                location: Location::new(&within, include.position),
                field: "include".to_owned(),
                value: include.value.clone(),
                reason,
            };
            if names.contains(&include.value) {
                return Err(refuse("it includes itself".to_owned()));
            }
            if names.len() > MAXIMUM_DEPTH {
                return Err(refuse(format!("more than {MAXIMUM_DEPTH} files include each other")));
            }
            if is_remote(&include) {
                let reason = "files of remote repositories are not fetched; keep a copy beside this file";
                return Err(refuse(reason.to_owned()));
            }
            let text = read(&include).map_err(refuse)?;
            let included = Self::parse(&text, &include)?;
            loaded.configuration.merge(included);
            if let Some((field, _)) = beside_base(&loaded.configuration) {
                return Err(refuse(format!("with it the image has `{field}` and a base: {BESIDE_BASE}")));
            }
            loaded.sources.push(text);
            within.clone_from(&include.value);
            names.push(include.value);
        }
        Ok(loaded)
    }

    /// Merges an included configuration under this one: what this one says wins, lists of both are
    /// joined with the included one's first.
    fn merge(&mut self, included: Self) {
        if self.entrypoint.is_empty() {
            self.entrypoint = included.entrypoint;
        }
        fill(&mut self.command, included.command);
        fill(&mut self.stop_signal, included.stop_signal);
        fill(&mut self.working_directory, included.working_directory);
        fill(&mut self.vcs_url, included.vcs_url);
        fill(&mut self.format, included.format);
        fill(&mut self.accounts.run_as, included.accounts.run_as);
        if self.architectures.is_empty() {
            self.architectures = included.architectures;
        }
        self.layering = self.layering.take().or(included.layering);
        self.os_release = self.os_release.take().or(included.os_release);
        prepend(&mut self.accounts.users, included.accounts.users);
        prepend(&mut self.accounts.groups, included.accounts.groups);
        prepend(&mut self.paths, included.paths);
        prepend(&mut self.volumes, included.volumes);
        if self.certificates.additional.is_empty() && self.certificates.providers.is_empty() {
            self.certificates = included.certificates;
        }
        fill_pairs(&mut self.environment, included.environment);
        fill_pairs(&mut self.annotations, included.annotations);
        self.contents.merge(included.contents);
        self.include = included.include;
    }
}

impl Contents {
    fn merge(&mut self, included: Self) {
        prepend(&mut self.build_repositories, included.build_repositories);
        prepend(&mut self.runtime_repositories, included.runtime_repositories);
        prepend(&mut self.repositories, included.repositories);
        prepend(&mut self.keyring, included.keyring);
        prepend(&mut self.runtime_keyring, included.runtime_keyring);
        prepend(&mut self.packages, included.packages);
        self.base_image = self.base_image.take().or(included.base_image);
        prepend(&mut self.ecosystems, included.ecosystems);
    }
}

impl Entrypoint {
    fn is_empty(&self) -> bool {
        self.kind.is_none() && self.command.is_none() && self.shell_fragment.is_none() && self.services.is_empty()
    }
}

/// Whether an include is of apko's remote form, `HOST/ORGANISATION/REPOSITORY/PATH@REFERENCE`.
fn is_remote(include: &str) -> bool {
    let host = include.split('/').next().unwrap_or_default();
    include.contains("://")
        || (include.contains('@') && host.contains('.') && !matches!(host, "." | "..") && include.contains('/'))
}

fn fill(value: &mut Option<Text>, included: Option<Text>) {
    if value.as_ref().is_none_or(|value| value.is_empty()) {
        *value = included;
    }
}

fn prepend<T>(values: &mut Vec<T>, mut included: Vec<T>) {
    included.append(values);
    *values = included;
}

fn fill_pairs(pairs: &mut Vec<(Text, Text)>, included: Vec<(Text, Text)>) {
    for (name, value) in included {
        if !pairs.iter().any(|(known, _)| known.value == name.value) {
            pairs.push((name, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, files: &[(&str, &str)]) -> Result<LoadedImage, Error> {
        ImageConfiguration::load(text, "apko.yaml", &mut |name| {
            let found = files.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
        })
    }

    fn texts(values: &[Text]) -> Vec<&str> {
        values.iter().map(|text| text.as_str()).collect()
    }

    #[test]
    fn what_is_included_lies_under_the_file() {
        let top = "include: middle.yaml\ncmd: own\ncontents: {packages: [a], repositories: [x]}\n\
                   environment: {A: own}\n";
        let middle = "include: base/base.yaml\ncmd: theirs\nwork-dir: /m\ncontents: {packages: [b]}\n\
                      environment: {A: theirs, B: theirs}\n";
        let base = "contents: {packages: [c], repositories: [y]}\naccounts: {run-as: app}\nwork-dir: /b\n\
                    entrypoint: {type: service-bundle, services: {web: run}}\n";
        let files = [("middle.yaml", middle), ("base/base.yaml", base)];
        let LoadedImage { configuration, sources } = load(top, &files).unwrap();
        assert_eq!(sources, [top, middle, base]);
        assert_eq!(texts(&configuration.contents.packages), ["c", "s6", "b", "a"]);
        assert_eq!(texts(&configuration.contents.repositories), ["y", "x"]);
        assert_eq!(configuration.command.unwrap().as_str(), "own");
        assert_eq!(configuration.working_directory.unwrap().as_str(), "/m");
        assert_eq!(configuration.accounts.run_as.unwrap().as_str(), "app");
        assert_eq!(configuration.entrypoint.command.unwrap().as_str(), "/bin/s6-svscan /sv");
        let environment: Vec<_> =
            configuration.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(environment, [("A", "own"), ("B", "theirs")]);
        assert!(configuration.include.is_none());
    }

    #[test]
    fn what_a_base_says_is_not_said_by_an_include_either() {
        let base = "contents: {baseimage: {image: ./layout, apkindex: ./index}}\n";
        for (top, included) in
            [("include: a.yaml\ncmd: own\n", base), (&format!("include: a.yaml\n{base}"), "cmd: own\n")]
        {
            let error = load(top, &[("a.yaml", included)]).unwrap_err().to_string();
            assert!(
                error.starts_with("apko.yaml:1:10: `include` is `a.yaml`: with it the image has `cmd` and a base"),
                "{error}"
            );
        }
        let loaded = load("include: a.yaml\ncontents: {packages: [b]}\n", &[("a.yaml", base)]).unwrap();
        assert_eq!(loaded.configuration.contents.base_image.unwrap().apk_index.as_str(), "./index");
    }

    #[test]
    fn an_include_that_cannot_be_says_where_and_why() {
        for (files, expected) in [
            (vec![], "apko.yaml:1:10: `include` is `a.yaml`: no such file"),
            (vec![("a.yaml", "include: a.yaml")], "includes itself"),
            (vec![("a.yaml", "include: b.yaml"), ("b.yaml", "include: a.yaml")], "includes itself"),
            (vec![("a.yaml", "include: code.example/org/images/base.yaml@main")], "remote"),
            (vec![("a.yaml", "conents: {}")], "contents"),
        ] {
            let error = load("include: a.yaml", &files).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
