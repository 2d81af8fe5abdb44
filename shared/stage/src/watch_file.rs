//! `watch/NAME.yaml` of a catalog: what the melange format has no key for.

use std::path::Path;

use serde::Deserialize;
use upstream::{GitLabListing, GitLabProject, Monitored, WebPage};

/// Where the releases of the package definition called as the file are listed, in place of a
/// provider under its `update:`. The other rules of `update:` count as ever. One of:
///
/// ```yaml
/// page: https://example.org/download/    # the first group of the pattern is a version (RE2)
/// pattern: 'hello-([0-9.]+)\.tar\.gz'
/// ```
/// ```yaml
/// gitlab: https://gitlab.com/group/project
/// use-tag: true                          # tags, not releases
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFile {
    /// What is watched.
    pub monitored: Monitored,
    /// Removed from the front of a tag that has it.
    pub strip_prefix: Option<String>,
    /// Removed from the end of a tag that has it.
    pub strip_suffix: Option<String>,
    /// Take only tags that start with this.
    pub filter_prefix: Option<String>,
    /// Take only tags that contain this.
    pub filter_contains: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    page: Option<String>,
    pattern: Option<String>,
    gitlab: Option<String>,
    #[serde(default)]
    use_tag: bool,
    strip_prefix: Option<String>,
    strip_suffix: Option<String>,
    tag_filter_prefix: Option<String>,
    tag_filter_contains: Option<String>,
}

impl WatchFile {
    /// Reads a file's text; `label` names it in errors.
    ///
    /// # Errors
    /// What is wrong, with line and column where they are known.
    pub fn parse(text: &str, label: &Path) -> Result<Self, String> {
        let label = label.display();
        let document: Document = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map(|at| format!("{}:{}: ", at.line(), at.column())).unwrap_or_default();
            let message = error.without_snippet().to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            format!("{label}: {place}{message}")
        })?;
        let failed = |error: upstream::Error| format!("{label}: {}", crate::chain(&error));
        let monitored = match (&document.page, &document.pattern, &document.gitlab) {
            (Some(page), Some(pattern), None) => Monitored::Page(WebPage::new(page, pattern).map_err(failed)?),
            (None, None, Some(gitlab)) => Monitored::GitLab {
                project: GitLabProject::new(gitlab).map_err(failed)?,
                listing: if document.use_tag { GitLabListing::Tags } else { GitLabListing::Releases },
            },
            _ => return Err(format!("{label}: name either `page` and `pattern`, or `gitlab`")),
        };
        Ok(Self {
            monitored,
            strip_prefix: document.strip_prefix,
            strip_suffix: document.strip_suffix,
            filter_prefix: document.tag_filter_prefix,
            filter_contains: document.tag_filter_contains,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_a_page_or_a_project() {
        let parse = |text: &str| WatchFile::parse(text, Path::new("watch/hello.yaml"));
        let page = parse("page: https://localhost/download/\npattern: 'hello-([0-9.]+)'\n").unwrap();
        assert_eq!(page.monitored.to_string(), "page:https://localhost/download/");
        let gitlab = parse("gitlab: https://gitlab.com/a/b\nuse-tag: true\nstrip-prefix: v\n").unwrap();
        assert_eq!(gitlab.monitored.to_string(), "gitlab:https://gitlab.com/a/b (tags)");
        assert_eq!(gitlab.strip_prefix.as_deref(), Some("v"));
        for (text, reason) in [
            ("page: https://localhost/\n", "`pattern`"),
            ("gitlab: https://gitlab.com/a/b\npage: https://localhost/\npattern: a\n", "either"),
            ("gitlab: gitlab.com/a/b\n", "https://HOST/GROUP/PROJECT"),
            ("page: https://localhost/\npattern: '*'\n", "pattern"),
            ("pages: https://localhost/\n", "pages"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("watch/hello.yaml: ") && error.contains(reason), "{error}");
        }
    }
}
