use std::path::Path;

use ports::local::Home;
use registry::{Expectations, Layouts, Reference, Registry, Remote, RemoteOptions, Repository, verify_image};
use sign::PublicKey;

use crate::arguments::Global;
use crate::output::{self, Failure, Format, OrFail};

/// An image's place: a registry's address (none for this home), repository and reference.
struct Place {
    address: Option<String>,
    repository: Repository,
    reference: Reference,
}

pub async fn run(global: &Global, image: &str, key: Option<&Path>) -> Result<u8, Failure> {
    let place = parse(image)?;
    let home = global.home.join("keys/minimill.pub");
    let key = key.unwrap_or(&home);
    let pem = std::fs::read_to_string(key)
        .map_err(|error| Failure::usage(format!("read the key `{}`: {error}", key.display())))?;
    let key = PublicKey::from_pem(&pem).or_bad()?;
    let registry: Box<dyn Registry> = match &place.address {
        Some(address) => Box::new(Remote::new(address, RemoteOptions::default()).or_environment()?),
        None => Box::new(Layouts::new(Home::open(&global.home).or_environment()?.path("registry"))),
    };
    let report = verify_image(registry.as_ref(), &place.repository, &place.reference, &key, &Expectations::default())
        .await
        .or_bad()?;
    let problems = report.problems();
    match global.format {
        Format::Json => output::json(&report)?,
        Format::Text => {
            let mut lines = vec![format!("{} {}", report.image, report.digest)];
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

/// `[ADDRESS/]NAME[:TAG|@DIGEST]`. As with container clients, the first part is an address when
/// it has a dot or a colon, or is `localhost`.
fn parse(image: &str) -> Result<Place, Failure> {
    let (address, rest) = match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first.to_owned()), rest),
        _ => (None, image),
    };
    let (name, reference) = match rest.split_once('@') {
        Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
        None => rest.split_once(':').unwrap_or((rest, "latest")),
    };
    Ok(Place {
        address,
        repository: name.parse().map_err(|error: registry::Error| Failure::usage(stage::chain(&error)))?,
        reference: reference.parse().map_err(|error: registry::Error| Failure::usage(stage::chain(&error)))?,
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
        for (text, address, repository, reference) in cases {
            let place = parse(text).unwrap();
            assert_eq!(place.address.as_deref(), address, "{text}");
            assert_eq!(
                (place.repository.to_string(), place.reference.to_string()),
                (repository.to_owned(), reference.to_owned())
            );
        }
        assert!(parse("Redis").is_err());
    }
}
