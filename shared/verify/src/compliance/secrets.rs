//! Secrets by their own form: few kinds, each with a prefix or length that nothing else has. Private
//! keys are found by `integrity/keys`.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexSet};

use crate::files::Kind;
use crate::report::{Complaint, Finding};
use crate::{Error, Image};

/// Larger files are looked at in their first part only.
const MAXIMUM_FILE: u64 = 1 << 30;

/// What a secret is, and how it looks.
const FORMS: [(&str, &str); 19] = [
    ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("the key of a Google service account", r#""private_key_id"\s*:\s*"[0-9a-f]{40}""#),
    ("the key of an Azure storage account", r"\bAccountKey=[A-Za-z0-9+/]{86}=="),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    ("a GitHub token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20}\b"),
    ("a Slack token", r"\bxox[abpr]-[0-9]{10,13}-[0-9]{10,13}-[A-Za-z0-9-]{20,64}"),
    ("a Slack webhook", r"\bhooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}\b"),
    ("a Stripe key", r"\b[sr]k_live_[A-Za-z0-9]{24,99}\b"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a registry token of npm", r"(?m)^//[^\s:]+(?::[0-9]+)?[^\s:]*:_authToken=[A-Za-z0-9_-]{16,}"),
    ("a PyPI token", r"\bpypi-AgE[A-Za-z0-9_-]{70,}"),
    ("a Docker Hub token", r"\bdckr_pat_[A-Za-z0-9_-]{27}\b"),
    ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    ("a Vault token", r"\bhvs\.[A-Za-z0-9_-]{90,}"),
    ("a DigitalOcean token", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    ("an Anthropic key", r"\bsk-ant-api03-[A-Za-z0-9_-]{80,}"),
    ("an age secret key", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
];

static SET: LazyLock<Result<(RegexSet, Vec<Regex>), String>> = LazyLock::new(|| {
    let ascii = FORMS.map(|(_, form)| format!("(?-u){form}"));
    let set = RegexSet::new(&ascii).map_err(|error| error.to_string())?;
    let each =
        ascii.iter().map(|form| Regex::new(form)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((set, each))
});

/// Names of variables that hold secrets, when they have a value.
static NAME: LazyLock<Result<regex::Regex, String>> = LazyLock::new(|| {
    regex::Regex::new(
        r"(?i)(^|_)(password|passwd|passphrase|secret|token|api_?key|access_?key|secret_?key|private_?key)$",
    )
    .map_err(|error| error.to_string())
});

/// What secrets the bytes hold.
fn found(set: &RegexSet, each: &[Regex], bytes: &[u8]) -> Vec<&'static str> {
    let mut found: Vec<&str> = set
        .matches(bytes)
        .into_iter()
        .filter_map(|number| each.get(number).zip(FORMS.get(number)))
        .filter(|(form, _)| form.find_iter(bytes).any(|found| !is_placeholder(found.as_bytes())))
        .map(|(_, (what, _))| *what)
        .collect();
    found.dedup();
    found
}

/// Whether it only stands for a secret, as in documentation and tests.
fn is_placeholder(secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(secret).to_ascii_lowercase();
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    letters.len() < 10
        || ["example", "xxxx", "0000", "12345678", "abcdefgh", "your"].iter().any(|part| text.contains(part))
}

/// Looks through every file.
pub(super) fn files(image: &Image) -> Result<Finding, Error> {
    let (set, each) = match &*SET {
        Ok(forms) => forms,
        Err(error) => return Ok(Finding::not_run(format!("the forms of secrets can't be used: {error}"))),
    };
    let mut complaints = Vec::new();
    let mut read = 0;
    for (path, entry) in image.files().iter().filter(|(_, entry)| matches!(entry.kind, Kind::Regular(_))) {
        if matches!(entry.kind, Kind::Regular(0)) {
            continue;
        }
        let Some(bytes) = image.read(path, MAXIMUM_FILE)? else { continue };
        read += 1;
        for what in found(set, each, &bytes) {
            let message = format!("`/{path}` holds {what}; remove it, and revoke it, since it may have been seen");
            complaints.push(Complaint::at(path, message));
        }
    }
    Ok(Finding::listing(complaints, format!("no secret in {read} files")))
}

/// Looks through the configuration: environment, labels and history (CIS Docker 4.10).
pub(super) fn configuration(image: &Image) -> Finding {
    let ((set, each), name) = match (&*SET, &*NAME) {
        (Ok(forms), Ok(name)) => (forms, name),
        (Err(error), _) | (_, Err(error)) => {
            return Finding::not_run(format!("the forms of secrets can't be used: {error}"));
        }
    };
    let config = image.configuration().config().clone().unwrap_or_default();
    let mut complaints = Vec::new();
    let mut look = |place: String, text: &str| {
        for what in found(set, each, text.as_bytes()) {
            complaints.push(Complaint::from(format!("{place} holds {what}; give it where the container is started")));
        }
    };
    for (variable, value) in config.env().iter().flatten().filter_map(|line| line.split_once('=')) {
        look(format!("the environment variable `{variable}`"), value);
    }
    for (label, value) in config.labels().iter().flatten() {
        look(format!("the label `{label}`"), value);
    }
    for command in image.configuration().history().iter().flatten().filter_map(|entry| entry.created_by().as_ref()) {
        look("the history".to_owned(), command);
    }
    for (variable, value) in config.env().iter().flatten().filter_map(|line| line.split_once('=')) {
        if !value.is_empty() && !value.starts_with('/') && name.is_match(variable) {
            complaints.push(Complaint::from(format!(
                "the environment variable `{variable}` gives everybody a secret; give it where the container is started"
            )));
        }
    }
    Finding::listing(complaints, "no secret in environment, labels and history")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_finds_its_secret_and_no_placeholder() {
        let (set, each) = SET.as_ref().unwrap();
        // Made of parts, so that no scanner takes this file for a leak.
        let random = "q7Wd2kZp9RfLx4TnVb8sJm3HcYg6QaEu5oNiKtXw";
        let secret = |prefix: &str, length: usize| {
            format!("{prefix}{}", random.chars().cycle().take(length).collect::<String>())
        };
        for (what, text) in [
            ("an AWS access key", format!("{}{}", "AKIA", "QYLPMN5HHHFPZAM2")),
            ("a GitHub token", secret("ghp_", 36)),
            ("a GitLab token", secret("glpat-", 20)),
            ("an npm token", secret("npm_", 36)),
            ("a Google API key", secret("AIza", 35)),
            ("a Stripe key", secret("sk_live_", 30)),
        ] {
            assert_eq!(found(set, each, format!("x = \"{text}\"\n").as_bytes()), [what], "{text}");
        }
        for innocent in
            ["AKIAIOSFODNN7EXAMPLE", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "AKIAAAAAAAAAAAAAAAAA", "npm_config"]
        {
            assert!(found(set, each, innocent.as_bytes()).is_empty(), "{innocent}");
        }
    }
}
