use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ports::local::Home;
use registry::{
    Digest, Expectations, Finding, Layout, Layouts, ManifestReport, Reference, Registry, Remote, Repository, Tag,
    verify_image,
};
use serde::Deserialize;
use sign::predicate::{OPENVEX, OPENVEX_UNVERSIONED};
use sign::{PublicKey, Trust, TrustedKeys};
use vulnerability::vex::{Document, DocumentStatement};

use crate::arguments::{Global, Verify};
use crate::factory::configuration;
use crate::keys::Keys;
use crate::output::{self, Failure, Format, OrFail};
use crate::signing::identity_trust;

/// Where an image is.
enum Place {
    /// Where this factory publishes, or at a registry's address.
    Registry { address: Option<String>, repository: Repository, reference: Reference },
    /// In an OCI image layout.
    Layout { folder: PathBuf, reference: Option<Reference> },
}

pub async fn run(global: &Global, arguments: &Verify) -> Result<u8, Failure> {
    let trust = trust(global, arguments)?;
    let (registry, repository, reference): (Arc<dyn Registry>, _, _) = match parse(&arguments.image)? {
        Place::Registry { address: None, repository, reference } => {
            let home = Home::open(&global.home).or_environment()?;
            (configuration(&global.home)?.registry.published(&home).await?, repository, reference)
        }
        Place::Registry { address: Some(address), repository, reference } => {
            let settings = configuration(&global.home)?.registry;
            let options = settings.options(&address, &repository).await?;
            (Arc::new(Remote::new(&address, options).or_environment()?), repository, reference)
        }
        Place::Layout { folder, reference } => {
            let reference = match reference {
                Some(reference) => reference,
                None => only_entry(&folder)?,
            };
            let repository = "layout".parse::<Repository>().or_environment()?;
            (Arc::new(Layouts::single(folder)), repository, reference)
        }
    };
    let expectations = Expectations::default();
    let report =
        verify_image(registry.as_ref(), &repository, &reference, trust.as_ref(), &expectations).await.or_bad()?;
    let problems = report.problems();
    match global.format {
        Format::Json => output::json(&report)?,
        Format::Text => {
            let mut lines = vec![format!("{} {}", arguments.image, report.digest)];
            for manifest in &report.manifests {
                let statements =
                    manifest.statements.iter().map(|finding| finding.predicate_type.as_str()).collect::<Vec<_>>();
                lines.push(format!(
                    "  {} {}: {} contents, {}",
                    manifest.name,
                    manifest.digest,
                    manifest.content.len(),
                    statements.join(", ")
                ));
                lines.extend(vex_lines(manifest)?);
            }
            lines.push(if problems.is_empty() {
                "verified".to_owned()
            } else {
                format!("not verified:\n  {}", problems.join("\n  "))
            });
            output::text(lines.join("\n"))?;
        }
    }
    Ok(u8::from(!problems.is_empty()))
}

/// What the newest VEX document about a manifest states, one line each. The same document is attested under two
/// types.
fn vex_lines(manifest: &ManifestReport) -> Result<Vec<String>, Failure> {
    let of_vex = |finding: &&Finding| [OPENVEX, OPENVEX_UNVERSIONED].contains(&finding.predicate_type.as_str());
    let mut newest: Option<Document> = None;
    for predicate in manifest.statements.iter().filter(of_vex).flat_map(|finding| &finding.predicates) {
        let document = Document::deserialize(predicate)
            .map_err(|error| Failure::bad(format!("the OpenVEX document about {}: {error}", manifest.digest)))?;
        let is_newer = |held: &Document| {
            let rank = |document: &Document| (document.version, document.last_updated.unwrap_or(document.timestamp));
            rank(held) < rank(&document)
        };
        if newest.as_ref().is_none_or(is_newer) {
            newest = Some(document);
        }
    }
    let statements = newest.into_iter().flat_map(|document| document.statements);
    let lines = statements.map(|statement| {
        let components = statement.products.iter().flat_map(|product| &product.subcomponents);
        let components = components.filter_map(|component| {
            let purl = component.identifiers.as_ref().and_then(|identifiers| identifiers.purl.as_deref());
            let name = purl.or(component.id.as_deref())?;
            Some(name.split('?').next().unwrap_or(name).to_owned())
        });
        let components = components.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ");
        let DocumentStatement { vulnerability, status, .. } = &statement;
        let about = if components.is_empty() { String::new() } else { format!(" in {components}") };
        format!("    vex: {} {status}{about}: {}", vulnerability.name, statement.reason())
    });
    Ok(lines.collect())
}

/// Whom the arguments trust; by default whoever signs in this home, or did.
fn trust(global: &Global, arguments: &Verify) -> Result<Box<dyn Trust>, Failure> {
    if let (Some(identity), Some(issuer), Some(root)) =
        (&arguments.identity, &arguments.issuer, &arguments.trusted_root)
    {
        return identity_trust(root, identity, issuer);
    }
    if arguments.key.is_empty() {
        let keys = Keys::open(&global.home.join("keys"))?;
        return configuration(&global.home)?.signing.trust(&keys);
    }
    let keys = arguments.key.iter().map(|path| public_key(path));
    Ok(Box::new(TrustedKeys(keys.collect::<Result<_, _>>()?)))
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let pem = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("read the key `{}`: {error}", path.display())))?;
    PublicKey::from_pem(&pem).or_bad()
}

/// The one image of a layout that holds one.
fn only_entry(folder: &Path) -> Result<Reference, Failure> {
    let layout = Layout::open(folder).or_bad()?;
    let layout = layout.ok_or_else(|| Failure::bad(format!("`{}` is no OCI image layout", folder.display())))?;
    let entries = layout.entries().or_bad()?;
    let images: Vec<&(Option<Tag>, Digest)> =
        entries.iter().filter(|(tag, _)| tag.as_ref().is_none_or(|tag| !tag.is_of_referrers())).collect();
    let tagged: Vec<_> = images.iter().filter_map(|(tag, _)| tag.as_ref()).collect();
    match (images.as_slice(), tagged.as_slice()) {
        ([(_, digest)], _) => Ok((*digest).into()),
        (_, [tag]) => Ok((*tag).clone().into()),
        _ => {
            let tags = tagged.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Failure::usage(format!("`{}` holds several images; name one of its tags: {tags}", folder.display())))
        }
    }
}

/// `oci:FOLDER[:TAG|@DIGEST]`, or `[ADDRESS/]NAME[:TAG|@DIGEST]`. As with container clients, the
/// first part of the latter is an address when it has a dot or a colon, or is `localhost`.
fn parse(image: &str) -> Result<Place, Failure> {
    let reference = |text: &str| text.parse().map_err(|error: registry::Error| Failure::usage(stage::chain(&error)));
    if let Some(rest) = image.strip_prefix("oci:") {
        // A folder's name may have a colon too.
        if Path::new(rest).is_dir() {
            return Ok(Place::Layout { folder: rest.into(), reference: None });
        }
        let (folder, name) = match rest.split_once("@sha256:") {
            Some((folder, digest)) => (folder, Some(format!("sha256:{digest}"))),
            None => match rest.rsplit_once(':') {
                Some((folder, tag)) => (folder, Some(tag.to_owned())),
                None => (rest, None),
            },
        };
        return Ok(Place::Layout { folder: folder.into(), reference: name.as_deref().map(reference).transpose()? });
    }
    let (address, rest) = match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.to_owned()), rest),
        _ => (None, image),
    };
    let (name, named) = match rest.split_once('@') {
        Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
        None => rest.split_once(':').unwrap_or((rest, "latest")),
    };
    Ok(Place::Registry {
        address,
        repository: name.parse().map_err(|error: registry::Error| Failure::usage(stage::chain(&error)))?,
        reference: reference(named)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_as_container_clients_do() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let cases = [
            ("redis", None, "redis", "latest"),
            ("team/redis:8.2", None, "team/redis", "8.2"),
            ("localhost:5000/redis:8", Some("localhost:5000"), "redis", "8"),
            ("localhost/redis", Some("localhost"), "redis", "latest"),
            ("example.org/a/b:1", Some("example.org"), "a/b", "1"),
            (&format!("redis:8@{digest}"), None, "redis", digest.as_str()),
        ];
        for (text, expected, name, tag) in cases {
            let Place::Registry { address, repository, reference } = parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(address.as_deref(), expected, "{text}");
            assert_eq!((repository.to_string(), reference.to_string()), (name.to_owned(), tag.to_owned()));
        }
        assert!(parse("Redis").is_err());
        for (text, path, name) in [
            ("oci:a/b", "a/b", None),
            ("oci:/a/b:8.2", "/a/b", Some("8.2")),
            (&format!("oci:a@{digest}"), "a", Some(digest.as_str())),
        ] {
            let Place::Layout { folder, reference } = parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(
                (folder.to_str().unwrap(), reference.map(|found| found.to_string())),
                (path, name.map(str::to_owned))
            );
        }
    }
}
