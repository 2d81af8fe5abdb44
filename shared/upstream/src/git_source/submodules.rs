//! Submodules: at the commits that the tree names, from the addresses of its `.gitmodules`.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use crate::error::{Error, Result};
use crate::git_source::GitDepth;
use crate::git_source::listing::Listing;
use crate::git_source::repository::Repository;
use crate::monitor::GitAddress;

const MOST_MODULES: usize = 256;
const DEEPEST: usize = 8;

/// A submodule, fetched.
pub(super) struct Module {
    /// Its folder in the whole tree.
    pub(super) path: String,
    /// Its name in its parent's `.gitmodules`.
    pub(super) name: String,
    /// Which of the modules it is part of; none of the top tree's own.
    pub(super) parent: Option<usize>,
    /// Folder of its repository below the top's `.git`.
    pub(super) git_folder: String,
    pub(super) listing: Listing,
}

impl Module {
    /// Path, address and commit.
    pub(super) fn told(&self) -> String {
        format!("{} {} {}", self.path, self.listing.repository.address, self.listing.head)
    }
}

/// Fetches the submodules of a tree, and theirs. Each one's parent comes before it.
pub(super) async fn fetch(top: &Listing, scratch: &Path) -> Result<Vec<Module>> {
    let mut modules: Vec<Module> = Vec::new();
    let mut waiting: VecDeque<(Option<usize>, usize)> = [(None, 0)].into();
    while let Some((parent, depth)) = waiting.pop_front() {
        let owner = parent.and_then(|index| modules.get(index));
        let listing = owner.map_or(top, |module| &module.listing);
        let refuse = |reason: String| Error::GitTree { url: listing.repository.address.to_string(), reason };
        let wanted: Vec<(Vec<u8>, String)> =
            listing.modules().map(|(path, commit)| (path.to_vec(), commit.to_owned())).collect();
        if wanted.is_empty() {
            continue;
        }
        if depth >= DEEPEST || modules.len() + wanted.len() > MOST_MODULES {
            return Err(refuse(format!(
                "more than {MOST_MODULES} submodules, or more than {DEEPEST} within each other"
            )));
        }
        let known = read_list(listing).await?;
        let mut found = Vec::new();
        for (path, commit) in wanted {
            let path = String::from_utf8(path).map_err(|_| refuse("a submodule's path is not UTF-8".to_owned()))?;
            let Some((name, url)) = known.get(&path) else {
                return Err(refuse(format!("`.gitmodules` does not name the submodule `{path}`")));
            };
            let address = resolve(&listing.repository.address, url)?;
            let (outer, git_folder) = owner.map_or((String::new(), String::new()), |module| {
                (format!("{}/", module.path), format!("{}/", module.git_folder))
            });
            found.push((
                format!("{outer}{path}"),
                name.clone(),
                format!("{git_folder}modules/{name}"),
                address,
                commit,
            ));
        }
        let bounds = listing.repository.bounds;
        for (path, name, git_folder, address, commit) in found {
            let folder = scratch.join(format!("module-{}", modules.len()));
            let repository = Repository::create(folder, address, bounds).await?;
            repository.fetch_module(&commit).await?;
            let listing = Listing::read(repository, &commit, GitDepth::Commits(1), &[]).await?;
            waiting.push_back((Some(modules.len()), depth + 1));
            modules.push(Module { path, name, parent, git_folder, listing });
        }
    }
    Ok(modules)
}

/// The submodules of a tree's `.gitmodules`: name and URL by path.
async fn read_list(listing: &Listing) -> Result<BTreeMap<String, (String, String)>> {
    let refuse = |reason: String| Error::GitTree { url: listing.repository.address.to_string(), reason };
    let blob = format!("{}:.gitmodules", listing.head);
    let list = listing.repository.git(&["config", "--blob", &blob, "--null", "--list"]).await;
    let list = list.map_err(|error| refuse(format!("`.gitmodules` can't be read: {error}")))?;
    let mut by_name: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for (key, value) in list.split('\0').filter_map(|setting| setting.split_once('\n')) {
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else { continue };
        if !is_name(name) {
            return Err(refuse(format!("a submodule can't be called `{name}`")));
        }
        match key {
            "path" => by_name.entry(name).or_default().0 = Some(value),
            "url" => by_name.entry(name).or_default().1 = Some(value),
            _ => {}
        }
    }
    let whole = by_name.into_iter().filter_map(|(name, (path, url))| Some((name, path?, url?)));
    Ok(whole.map(|(name, path, url)| (path.to_owned(), (name.to_owned(), url.to_owned()))).collect())
}

/// The name becomes a folder's.
fn is_name(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    !name.starts_with('-') && !name.contains(['"', '\\', '\0', '\n']) && name.split('/').all(part)
}

/// The address of a submodule: whole, or relative to its parent's (`./`, `../`).
fn resolve(base: &GitAddress, url: &str) -> Result<GitAddress> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.parse();
    }
    let mut address = base.as_str().trim_end_matches('/').to_owned();
    let host = address.find("://").map_or(0, |scheme| scheme + "://".len());
    let root = address.get(host..).and_then(|rest| rest.find('/')).map_or(address.len(), |path| host + path);
    let mut rest = url;
    loop {
        if let Some(next) = rest.strip_prefix("./") {
            rest = next;
        } else if let Some(next) = rest.strip_prefix("../") {
            rest = next;
            match address.rfind('/').filter(|end| *end >= root) {
                Some(end) => address.truncate(end),
                // Above the server there is nothing; an address that begins with `..` is refused.
                None => return url.parse(),
            }
        } else {
            break;
        }
    }
    format!("{address}/{rest}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_relative_to_the_parents() {
        let base: GitAddress = "https://localhost/group/project.git".parse().unwrap();
        for (url, expected) in [
            ("../other.git", "https://localhost/group/other.git"),
            ("../../else/x", "https://localhost/else/x"),
            ("./inner", "https://localhost/group/project.git/inner"),
            ("git://127.0.0.1/y", "git://127.0.0.1/y"),
        ] {
            assert_eq!(resolve(&base, url).unwrap().as_str(), expected);
        }
        for url in ["ext::sh -c id", "-u", "../../../../x", "/srv/x", "ssh://localhost/a", "git@localhost:a"] {
            assert!(resolve(&base, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_name_stays_in_its_folder() {
        assert!(is_name("gnulib") && is_name("third_party/x y"));
        for name in ["", "..", "a/../b", "/a", "-x", "a\"b", "a/.git"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
