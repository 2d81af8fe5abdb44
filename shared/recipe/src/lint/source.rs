//! Rules about where sources come from and what they are checked against.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Findings, Placed, Rule, Severity, flat, input, uses};
use crate::package::{PackageDefinition, Step};
use crate::substitute::{Part, parts};
use crate::text::{Position, Text};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "valid-pipeline-fetch-uri",
        severity: Severity::Error,
        what: "every `fetch` and `git-checkout` has an address with a plain lower-case host name",
        why: "a host name in look-alike letters fetches from somebody else",
        check: Check::One(valid_uri),
    },
    Rule {
        id: "uri-mimic",
        severity: Severity::Warning,
        what: "no host that a single definition fetches from is almost one that several fetch from",
        why: "one changed letter or another top-level domain is how a mistyped or planted address looks",
        check: Check::All(uri_mimic),
    },
    Rule {
        id: "valid-pipeline-fetch-digest",
        severity: Severity::Error,
        what: "every `fetch` has an `expected-sha256` or `expected-sha512`",
        why: "without it the build takes whatever the server gives",
        check: Check::One(fetch_digest),
    },
    Rule {
        id: "valid-pipeline-git-checkout-commit",
        severity: Severity::Error,
        what: "every `git-checkout` has an `expected-commit` of 40 hexadecimal digits",
        why: "tags and branches move; a commit does not",
        check: Check::One(checkout_commit),
    },
    Rule {
        id: "valid-pipeline-git-checkout-tag",
        severity: Severity::Error,
        what: "every `git-checkout` has a `tag`",
        why: "an update puts the new version into the tag; a commit alone says nothing about the version",
        check: Check::One(checkout_tag),
    },
    Rule {
        id: "fetch-templating",
        severity: Severity::Warning,
        what: "where upstream is watched, the version stands in addresses and tags as `${{package.version}}`",
        why: "an update changes `package.version` only; a written-out version goes on fetching the old source",
        check: Check::One(fetch_templating),
    },
];

/// The address that a step takes its source from.
fn address(step: &Step) -> Option<&Text> {
    if uses(step, "fetch") {
        input(step, "uri")
    } else if uses(step, "git-checkout") {
        input(step, "repository")
    } else {
        None
    }
}

/// The host of an address, `None` where the address has not the shape of one or the host is templated.
fn host(address: &str) -> Result<Option<&str>, &'static str> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return if address.starts_with("pkg:") { Ok(None) } else { Err("it has no `SCHEME://`") };
    };
    if scheme.contains("${{") {
        return Ok(None);
    }
    if !matches!(scheme, "https" | "http" | "ftp" | "git" | "ssh") {
        return Err("its scheme is none of https, http, ftp, git and ssh");
    }
    if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains("${{")) {
        return Ok(None);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let labels: Vec<&str> = name.split('.').collect();
    let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    if !plain || labels.len() < 2 || labels.iter().any(|label| label.is_empty()) {
        return Err("its host is no name of lower-case letters, digits, `.` and `-`");
    }
    Ok(Some(name))
}

fn valid_uri(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for step in flat(&definition.pipeline) {
        match address(step) {
            Some(address) => {
                if let Err(reason) = host(address) {
                    findings.add(address.position, format!("address `{address}` cannot be fetched from: {reason}"));
                }
            }
            None if uses(step, "fetch") => findings.add(step.position, "`fetch` has no `uri`; add one"),
            None if uses(step, "git-checkout") => {
                findings.add(step.position, "`git-checkout` has no `repository`; add one");
            }
            None => {}
        }
    }
}

/// Hosts that look alike and are different on purpose.
const KNOWN_PAIRS: &[[&str; 2]] = &[["github.com", "gitlab.com"], ["www.libssh.org", "www.libssh2.org"]];

fn uri_mimic(definitions: &[&PackageDefinition], places: &mut Vec<Placed>) {
    let mut users: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut first: BTreeMap<&str, (usize, Position)> = BTreeMap::new();
    for (index, definition) in definitions.iter().enumerate() {
        for address in flat(&definition.pipeline).into_iter().filter_map(address) {
            if let Ok(Some(host)) = host(address) {
                users.entry(host).or_default().insert(index);
                first.entry(host).or_insert((index, address.position));
            }
        }
    }
    let established: Vec<&str> = users.iter().filter(|(_, users)| users.len() > 1).map(|(host, _)| *host).collect();
    for (host, (index, position)) in
        first.iter().filter(|(host, _)| users.get(*host).is_some_and(|users| users.len() == 1))
    {
        let mimicked = established.iter().find(|other| {
            let known = KNOWN_PAIRS.iter().any(|pair| pair.contains(host) && pair.contains(other));
            !known && (strsim::levenshtein(host, other) <= 1 || same_but_top_level(host, other))
        });
        if let Some(other) = mimicked {
            places.push(Placed {
                definition: *index,
                position: *position,
                message: format!(
                    "host `{host}` is almost `{other}`, which other definitions fetch from; check that it is meant"
                ),
            });
        }
    }
}

fn same_but_top_level(left: &str, right: &str) -> bool {
    match (left.rsplit_once('.'), right.rsplit_once('.')) {
        (Some((left, _)), Some((right, _))) => left == right,
        _ => false,
    }
}

fn hexadecimal(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn fetch_digest(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for step in flat(&definition.pipeline).into_iter().filter(|step| uses(step, "fetch")) {
        let mut given = false;
        for (name, length) in [("expected-sha256", 64), ("expected-sha512", 128)] {
            let Some(digest) = input(step, name) else { continue };
            given = true;
            if !digest.contains("${{") && !hexadecimal(digest, length) {
                findings
                    .add(digest.position, format!("`{name}` is `{digest}`; {length} hexadecimal digits are expected"));
            }
        }
        if !given {
            findings.add(step.position, "`fetch` has no `expected-sha256` or `expected-sha512`; add one");
        }
    }
}

fn checkouts(definition: &PackageDefinition) -> impl Iterator<Item = &Step> {
    flat(&definition.pipeline).into_iter().filter(|step| uses(step, "git-checkout"))
}

fn checkout_commit(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for step in checkouts(definition) {
        match input(step, "expected-commit") {
            None => findings.add(step.position, "`git-checkout` has no `expected-commit`; add the tag's commit"),
            Some(commit) if !commit.contains("${{") && !hexadecimal(commit, 40) => findings
                .add(commit.position, format!("`expected-commit` is `{commit}`; 40 hexadecimal digits are expected")),
            Some(_) => {}
        }
    }
}

fn checkout_tag(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    for step in checkouts(definition).filter(|step| input(step, "tag").is_none()) {
        findings.add(step.position, "`git-checkout` has no `tag`; name the tag that holds the commit");
    }
}

fn fetch_templating(definition: &PackageDefinition, findings: &mut Findings<'_>) {
    if definition.update.enabled != Some(true) || definition.update.manual {
        return;
    }
    let steps = flat(&definition.pipeline);
    let branch_follows = steps.iter().filter_map(|step| input(step, "branch")).any(|branch| templated(branch));
    let sources: Vec<&Text> = steps
        .iter()
        .filter_map(|step| if uses(step, "fetch") { input(step, "uri") } else { input(step, "tag") })
        .collect();
    if branch_follows || sources.iter().any(|source| templated(source)) {
        let version = definition.package.version.as_str();
        for source in sources.iter().filter(|source| !templated(source) && holds_version(source, version)) {
            findings.add(
                source.position,
                format!("`{source}` writes out the version {version}; write `${{{{package.version}}}}` or a variable made from it"),
            );
        }
    } else if let Some(source) = sources.first() {
        findings.add(
            source.position,
            format!(
                "`{source}` does not follow the version; write `${{{{package.version}}}}` or a variable made from it"
            ),
        );
    }
}

fn templated(text: &str) -> bool {
    parts(text).iter().any(|part| matches!(part, Part::Variable(..)))
}

/// Whether `version` stands in `text` with no digit, letter or dot around it that would make it another.
fn holds_version(text: &str, version: &str) -> bool {
    let joins = |character: char| character.is_ascii_alphanumeric();
    text.match_indices(version).any(|(start, found)| {
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let after = text.get(start + found.len()..).unwrap_or_default();
        let open = before.is_none_or(|before| before == 'v' || !(joins(before) || before == '.'));
        let more = after.strip_prefix('.').is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()));
        // A version of one number is in too many addresses by chance.
        version.contains('.') && open && !more && !after.starts_with(joins)
    })
}
