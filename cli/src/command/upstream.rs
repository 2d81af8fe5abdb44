use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use stage::{Basis, Checked, Checks, Proposal, StageError};
use upstream::Verdict;

use crate::arguments::{Global, Upstream};
use crate::factory::Factory;
use crate::output::{self, Failure, Format, OrFail};

/// Packages asked about at once; hosts have a limit of their own.
const AT_ONCE: usize = 64;

pub async fn run(global: &Global, command: Upstream) -> Result<u8, Failure> {
    let factory = Factory::open(global).await?;
    match command {
        Upstream::Check { names } => check(global, &factory, names).await,
        Upstream::Update { name, write } => update(global, &factory, &name, write).await,
        Upstream::Accept { name, version } => {
            let (release, taken) = stage::accept(&factory.context, &name, &version).await.map_err(Failure::of_stage)?;
            match global.format {
                Format::Json => output::json(&json!({ "package": name, "release": release, "taken": taken }))?,
                Format::Text => {
                    output::text(format!("{name} {} ({release}) is taken as `{}`", taken.version, taken.now))?
                }
            }
            Ok(0)
        }
    }
}

/// What a check of many packages came to.
#[derive(Debug, Default, Serialize)]
struct Summary {
    packages: usize,
    checked: usize,
    newer: usize,
    unchanged: usize,
    republished: usize,
    manual: usize,
    skipped_by_schedule: usize,
    not_watched: usize,
    failed: usize,
    /// Reasons of failures, what differs between packages left out, with how many each had.
    reasons: BTreeMap<String, usize>,
    seconds: f64,
}

async fn check(global: &Global, factory: &Factory, names: Vec<String>) -> Result<u8, Failure> {
    let catalog = &factory.context.catalog;
    if let Some(unknown) = names.iter().find(|name| !catalog.packages.contains_key(*name)) {
        return Err(Failure::usage(format!("the catalog has no package `{unknown}`")));
    }
    let checks = if names.is_empty() { Checks::Scheduled } else { Checks::All };
    let wanted = |name: &&String| names.is_empty() || names.contains(*name);
    let chosen: Vec<String> = catalog.packages.keys().filter(wanted).cloned().collect();
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut results = std::pin::pin!(stage::check_all(&factory.context, chosen, checks, AT_ONCE));
    let mut written = 0_usize;
    // Each answer is written when it comes, so that thousands need no memory.
    while let Some((name, result)) = results.next().await {
        let source = catalog.packages.get(&name);
        let (is_manual, is_shared) =
            source.map_or((false, false), |source| (source.definition.update.manual, source.definition.update.shared));
        summary.add(is_manual, &result);
        match global.format {
            Format::Json => {
                let mut row = document(&name, &result);
                if let Some(row) = row.as_object_mut() {
                    let current = source.map(|source| source.definition.package.version.value.clone());
                    row.entry("current").or_insert(json!(current));
                    row.extend([("manual".to_owned(), json!(is_manual)), ("shared".to_owned(), json!(is_shared))]);
                }
                let start = if written == 0 { "{\"packages\":[\n" } else { ",\n" };
                write(format_args!("{start}{row}"))?;
            }
            Format::Text => output::text(text(&name, &result, !names.is_empty()))?,
        }
        written += 1;
    }
    summary.seconds = started.elapsed().as_secs_f64();
    match global.format {
        Format::Json => {
            let start = if written == 0 { "{\"packages\":[" } else { "" };
            write(format_args!("{start}],\n\"summary\":{}}}\n", json!(summary)))?;
        }
        Format::Text if names.len() != 1 => output::text(summary.text())?,
        Format::Text => {}
    }
    Ok(u8::from(summary.failed > 0 || summary.republished > 0))
}

fn write(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    io::stdout().lock().write_fmt(text).or_environment()
}

type Outcome = Result<Checked, StageError>;

impl Summary {
    fn add(&mut self, is_manual: bool, result: &Outcome) {
        self.packages += 1;
        match result {
            Ok(Checked::Not(_)) => self.not_watched += 1,
            Ok(Checked::Later(_)) => self.skipped_by_schedule += 1,
            Err(error) => {
                self.failed += 1;
                *self.reasons.entry(generalised(&error.to_string())).or_default() += 1;
            }
            Ok(Checked::Asked(answer)) => {
                self.checked += 1;
                self.republished += usize::from(answer.republished().next().is_some());
                match answer.decision.chosen {
                    Some(_) if is_manual => self.manual += 1,
                    Some(_) => self.newer += 1,
                    None => self.unchanged += 1,
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "\n{} packages in {:.1} s: {} checked ({} newer, {} newer by hand, {} unchanged, {} republished), {} skipped by \
             schedule, {} not watched, {} failed",
            self.packages,
            self.seconds,
            self.checked,
            self.newer,
            self.manual,
            self.unchanged,
            self.republished,
            self.skipped_by_schedule,
            self.not_watched,
            self.failed
        );
        for (reason, count) in &self.reasons {
            text.push_str(&format!("\n  {count} × {reason}"));
        }
        text
    }
}

/// A reason without what differs from package to package: names in backquotes, paths of addresses,
/// numbers.
fn generalised(reason: &str) -> String {
    let mut text = String::new();
    for (number, part) in reason.split('`').enumerate() {
        text.push_str(if number % 2 == 1 { "`…`" } else { part });
    }
    let words = text.split(' ').map(|word| {
        let Some((scheme, rest)) = word.split_once("://") else {
            // A file and its line, and what is watched.
            let is_place = word.contains(".yaml:") || word.split_once(':').is_some_and(|(_, name)| name.contains('/'));
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            return if is_place || is_number { "…".to_owned() } else { word.to_owned() };
        };
        let scheme = scheme.rsplit(':').next().unwrap_or(scheme);
        let colon = if word.ends_with(':') { ":" } else { "" };
        format!("{scheme}://{}/…{colon}", rest.split('/').next().unwrap_or_default().trim_end_matches(':'))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn document(name: &str, result: &Outcome) -> Value {
    match result {
        Ok(Checked::Not(reason)) => json!({ "package": name, "watched": false, "reason": reason }),
        Ok(Checked::Later(reason)) => json!({ "package": name, "watched": true, "asked": false, "reason": reason }),
        Err(error) => json!({ "package": name, "watched": true, "error": error.to_string() }),
        Ok(Checked::Asked(answer)) => json!({
            "package": name,
            "current": answer.current,
            "watched": true,
            "asked": true,
            "provider": answer.watched.watch.monitored.to_string(),
            "newest": answer.decision.chosen.as_ref().map(|chosen| &chosen.version),
            "chosen": answer.decision.chosen,
            "considered": answer.decision.considered,
        }),
    }
}

fn text(name: &str, result: &Outcome, with_candidates: bool) -> String {
    match result {
        Ok(Checked::Not(reason)) => format!("{name}: not watched: {reason}"),
        Ok(Checked::Later(reason)) => format!("{name}: not asked: {reason}"),
        Err(error) => format!("{name}: {error}"),
        Ok(Checked::Asked(answer)) => {
            let current = &answer.current;
            let head = match &answer.decision.chosen {
                Some(chosen) => format!("{name} {current}: {} is newer", chosen.version),
                None => format!("{name} {current}: newest"),
            };
            let all = &answer.decision.considered;
            let lines =
                all.iter().filter(|one| with_candidates || one.verdict == Verdict::Republished).map(|considered| {
                    let mark = match considered.verdict {
                        Verdict::Taken => "taken",
                        Verdict::Current => "current",
                        Verdict::PassedOver => "passed over",
                        Verdict::Republished => "ALARM",
                    };
                    format!("  {} {mark}: {}", considered.version, considered.reason)
                });
            std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
        }
    }
}

async fn update(global: &Global, factory: &Factory, name: &str, write: bool) -> Result<u8, Failure> {
    let context = &factory.context;
    let Some(source) = context.catalog.packages.get(name) else {
        return Err(Failure::usage(format!("the catalog has no package `{name}`")));
    };
    let definition = &source.definition;
    let answer = match stage::check(context, name, Checks::All).await.map_err(Failure::of_stage)? {
        Checked::Asked(answer) => answer,
        Checked::Not(reason) | Checked::Later(reason) => return Err(Failure::bad(format!("{name}: {reason}"))),
    };
    // A newer version may have been found before; the catalog is behind it all the same.
    let own = &definition.package.version.value;
    let decision = upstream::Watch { current: Some(own.clone()), ..answer.watched.watch.clone() };
    let decision =
        if answer.current == *own { answer.decision } else { context.upstreams.check(&decision).await.or_bad()? };
    let Some(chosen) = decision.chosen else {
        return Err(Failure::bad(format!("{name} {own}: nothing is newer")));
    };
    let proposal =
        stage::proposed_update(context, definition, &answer.watched, &chosen).await.map_err(Failure::of_stage)?;
    let (text, basis, checksum, authenticity, further) = match proposal {
        Proposal::Unproved(reason) => return Err(Failure::bad(format!("{name} {}: {reason}", chosen.version))),
        Proposal::Ready { text, basis, checksum, authenticity, further, .. } => {
            (text, basis, stage::record::StatedChecksum::from(&checksum), authenticity, further)
        }
    };
    let file = context.catalog.definition_file(definition);
    if write {
        replace(&file, &text).or_environment()?;
    }
    let note = match basis {
        Basis::Proved => authenticity.as_ref().map(stage::Verdict::sentence).unwrap_or_default(),
        Basis::TagOnFirstUse => "the commit is what the tag points to now: trust on first use".to_owned(),
        Basis::AddressOnFirstUse => {
            "the checksum is computed from what the address gave, not proved: trust on first use; compare it with \
             upstream's"
                .to_owned()
        }
    };
    match global.format {
        Format::Json => output::json(&json!({
            "package": name, "from": own, "to": chosen.version, "release": chosen.upstream, "checksum": checksum,
            "basis": basis, "note": note, "file": file, "written": write, "text": text,
            "authenticity": authenticity, "further": further,
        }))?,
        Format::Text if write => {
            output::text(format!("{name} {own} -> {}: {}: {note}", chosen.version, file.display()))?
        }
        Format::Text => {
            write_note(name, &chosen.version, &note)?;
            io::stdout().lock().write_all(text.as_bytes()).or_environment()?;
        }
    }
    Ok(0)
}

fn write_note(name: &str, version: &str, note: &str) -> Result<(), Failure> {
    writeln!(io::stderr().lock(), "{name} {version}: {note}").or_environment()
}

/// Replaces a file's content, keeping its permissions; a reader sees the old or the new.
fn replace(path: &std::path::Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::metadata(path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_grouped_by_what_they_have_in_common() {
        let one = "ask upstream, git:https://localhost:1/a.git: https://localhost:1/a.git: not asked, because its host gave no answer before: `git ls-remote` failed";
        let other = one.replace("a.git", "b.git");
        assert_eq!(generalised(one), generalised(&other));
        assert!(generalised(one).contains("https://localhost:1/…"), "{}", generalised(one));
        assert_eq!(
            generalised("packages/a.yaml:3:4: update rule `x`: `*ignore_me`: bad"),
            generalised("packages/b.yaml:9:4: update rule `x`: `*other`: bad")
        );
        assert_eq!(
            generalised("ask upstream, github:a/b: no package `a/b` in https://localhost/repos/a/b"),
            generalised("ask upstream, github:c/d: no package `c/d` in https://localhost/repos/c/d")
        );
    }
}
