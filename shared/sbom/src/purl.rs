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
