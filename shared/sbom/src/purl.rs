use apk::PackageInformation;

/// The package URL of an image or index in a registry: `pkg:oci/NAME@sha256:HEX`, without what scanners write
/// differently, so that it stands for it wherever it lies.
#[must_use]
pub fn image_purl(repository: &str, digest: &str) -> String {
    oci(repository, digest, &[])
}

/// The package URLs of an apk package in an image of `distribution`: as the image's document has it, and without
/// the distribution, which not every scanner writes.
#[must_use]
pub fn package_purls(information: &PackageInformation, distribution: &str) -> (String, String) {
    let PackageInformation { name, version, architecture, .. } = information;
    let full = apk(distribution, name, version, architecture, distribution);
    let general = full.split("&distro=").next().unwrap_or(&full).to_owned();
    (full, general)
}

/// `pkg:apk/NAMESPACE/NAME@VERSION?arch=ARCH&distro=DISTRO`.
pub(crate) fn apk(namespace: &str, name: &str, version: &str, architecture: &str, distribution: &str) -> String {
    format!(
        "pkg:apk/{}/{}@{}?arch={}&distro={}",
        encoded(&namespace.to_lowercase()),
        encoded(&name.to_lowercase()),
        encoded(version),
        encoded(architecture),
        encoded(distribution)
    )
}

/// `pkg:oci/NAME@sha256:HEX` with its qualifiers, of which empty ones are left out. `repository`
/// is a registry path whose last part is the package's name.
pub(crate) fn oci(repository: &str, digest: &str, qualifiers: &[(&str, &str)]) -> String {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let mut purl = format!("pkg:oci/{}@{}", encoded(&name.to_lowercase()), encoded(digest));
    let mut separator = '?';
    for (key, value) in qualifiers {
        if !value.is_empty() {
            purl.push(separator);
            purl.push_str(key);
            purl.push('=');
            purl.push_str(&encoded(value));
            separator = '&';
        }
    }
    purl
}

/// The package URL of a git repository at a commit: `pkg:github/OWNER/NAME@VERSION` and the like
/// for `gitlab.com` and `bitbucket.org`, else `pkg:generic/NAME@VERSION?vcs_url=git+URL@COMMIT`.
/// `version` is the tag, or the commit where there is none.
#[must_use]
pub fn git_source(url: &str, version: &str, commit: &str) -> String {
    let path = url.trim_end_matches('/').trim_end_matches(".git");
    let name = path.rsplit('/').next().unwrap_or_default();
    for (kind, host) in [("github", "github.com"), ("gitlab", "gitlab.com"), ("bitbucket", "bitbucket.org")] {
        let owner = path.strip_prefix("https://").and_then(|rest| rest.strip_prefix(host));
        let owner = owner.and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.strip_suffix(name));
        if let Some(owner) = owner.map(|owner| owner.trim_end_matches('/')).filter(|owner| !owner.is_empty()) {
            let owner: Vec<String> = owner.to_lowercase().split('/').map(encoded).collect();
            return format!("pkg:{kind}/{}/{}@{}", owner.join("/"), encoded(&name.to_lowercase()), encoded(version));
        }
    }
    format!("pkg:generic/{}@{}?vcs_url={}", encoded(name), encoded(version), encoded(&format!("git+{url}@{commit}")))
}

/// The package URL of a file at an address: `pkg:generic/NAME@VERSION` with its SHA-256.
#[must_use]
pub fn file_source(name: &str, version: &str, url: &str, sha256: &str) -> String {
    let checksum = encoded(&format!("sha256:{sha256}"));
    let place = if url.is_empty() { String::new() } else { format!("&download_url={}", encoded(url)) };
    format!("pkg:generic/{}@{}?checksum={checksum}{place}", encoded(name), encoded(version))
}

/// Percent-encodes what a package URL doesn't hold as it is; `:` is left as the specification says.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_by_their_host_where_it_has_a_kind() {
        let commit = "1".repeat(40);
        assert_eq!(git_source("https://github.com/Foo/Bar.git", "v1.0", &commit), "pkg:github/foo/bar@v1.0");
        assert_eq!(git_source("https://gitlab.com/a/b/c", "1+2", &commit), "pkg:gitlab/a/b/c@1%2B2");
        assert_eq!(
            git_source("https://example.org/x.git", &commit, &commit),
            format!("pkg:generic/x@{commit}?vcs_url=git%2Bhttps:%2F%2Fexample.org%2Fx.git%40{commit}")
        );
        assert_eq!(
            file_source("x", "1.0", "https://example.org/x-1.0.tar.gz", "ab"),
            "pkg:generic/x@1.0?checksum=sha256:ab&download_url=https:%2F%2Fexample.org%2Fx-1.0.tar.gz"
        );
    }

    #[test]
    fn special_characters_are_percent_encoded() {
        assert_eq!(
            apk("minimill", "libstdc++", "1.0_p1-r0", "x86_64", "minimill"),
            "pkg:apk/minimill/libstdc%2B%2B@1.0_p1-r0?arch=x86_64&distro=minimill"
        );
        assert_eq!(
            oci("library/redis", "sha256:00", &[("arch", "amd64"), ("tag", "")]),
            "pkg:oci/redis@sha256:00?arch=amd64"
        );
    }
}
