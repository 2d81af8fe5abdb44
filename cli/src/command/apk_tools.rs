use std::cmp::Ordering;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use apk::{FileEntry, Index, Keyring, Package, PrivateKey, PublicKey, Report};
use lint::{Contents, Level, Subject};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Apk, Global};
use crate::output::{self, Failure, Format, OrFail};

const MAXIMUM_INPUT_BYTES: u64 = 64 << 20;

pub fn run(global: &Global, command: Apk) -> Result<u8, Failure> {
    match command {
        Apk::Compare => compare(global.format),
        Apk::Verify { file, key } => verify(global.format, &file, &key),
        Apk::Show { file } => show(global.format, &file),
        Apk::Lint { files, with, without } => lint(global.format, &files, &with, &without),
        Apk::Index { folder, key } => index(global.format, &folder, &key),
    }
}

fn compare(format: Format) -> Result<u8, Failure> {
    let mut answers = Vec::new();
    for (number, line) in std::io::stdin().lock().take(MAXIMUM_INPUT_BYTES).lines().enumerate() {
        let line = line.or_environment()?;
        let mut words = line.split_whitespace();
        let (Some(left), Some(right), None) = (words.next(), words.next(), words.next()) else {
            return Err(Failure::usage(format!("line {}: two versions are expected, found `{line}`", number + 1)));
        };
        answers.push(match apk::compare_versions(left, right) {
            Some(Ordering::Less) => "<",
            Some(Ordering::Equal) => "=",
            Some(Ordering::Greater) => ">",
            None => "invalid",
        });
    }
    match format {
        Format::Json => output::json(&answers)?,
        Format::Text if answers.is_empty() => {}
        Format::Text => output::text(answers.join("\n"))?,
    }
    Ok(0)
}

fn verify(format: Format, file: &Path, keys: &[PathBuf]) -> Result<u8, Failure> {
    let keys = keys.iter().map(|path| PublicKey::open(path)).collect::<apk::Result<Vec<_>>>().or_bad()?;
    let report = apk::verify_file(file, &Keyring::new(keys)).or_bad()?;
    match format {
        Format::Json => output::json(&report)?,
        Format::Text => output::text(format!("{}: {}", file.display(), sentence(&report)))?,
    }
    Ok(0)
}

fn sentence(report: &Report) -> String {
    match report {
        Report::Package { name, version, architecture, signed_by, checksum, files, .. } => {
            format!("package {name} {version} for {architecture}, {files} files, {checksum}, signed by {signed_by}")
        }
        Report::Index { signed_by, packages, .. } => format!("index of {packages} packages, signed by {signed_by}"),
    }
}

#[derive(Serialize)]
struct File {
    path: String,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
}

fn show(format: Format, file: &Path) -> Result<u8, Failure> {
    let mut package = Package::open(file).or_bad()?;
    let files: Vec<File> = package
        .files()
        .or_bad()?
        .into_iter()
        .map(|FileEntry { path, mode, uid, gid, size, .. }| File { path, mode: format!("{mode:04o}"), uid, gid, size })
        .collect();
    let entry = package.index_entry();
    let signatures: Vec<String> = package.signatures().iter().map(apk::Signature::entry_name).collect();
    match format {
        Format::Json => output::json(&json!({
            "information": package.information(),
            "checksum": entry.checksum,
            "size": entry.size,
            "signatures": signatures,
            "files": files,
        }))?,
        Format::Text => {
            let text = package.information().write(&[]).or_bad()?;
            let files: Vec<String> = files
                .iter()
                .map(|file| format!("{} {}:{} {:>10} {}", file.mode, file.uid, file.gid, file.size, file.path))
                .collect();
            output::text(format!(
                "{text}checksum = {}\nsigned = {}\n\n{}",
                entry.checksum,
                signatures.join(" "),
                files.join("\n")
            ))?;
        }
    }
    Ok(0)
}

fn lint(format: Format, files: &[PathBuf], with: &[String], without: &[String]) -> Result<u8, Failure> {
    let mut reports = Vec::new();
    let mut refused = false;
    for file in files {
        let mut package = Package::open(file).or_bad()?;
        let contents = Contents::of_package(&mut package).or_bad()?;
        let subject =
            Subject { name: &package.information().name, disabled: without, enabled: with, ..Subject::default() };
        let findings = lint::lint(&contents, &subject);
        refused |= findings.iter().any(|finding| finding.level == Level::Require);
        reports.push((file, findings));
    }
    match format {
        Format::Json => {
            let rows = reports.iter().map(|(file, findings)| json!({ "file": file, "findings": findings }));
            output::json(&rows.collect::<Vec<_>>())?;
        }
        Format::Text => {
            for (file, findings) in &reports {
                if findings.is_empty() {
                    output::text(format!("{}: nothing found", file.display()))?;
                }
                for finding in findings {
                    let level = if finding.level == Level::Require { "refused" } else { "warning" };
                    output::text(format!("{}: {level}: {finding}", file.display()))?;
                }
            }
        }
    }
    Ok(u8::from(refused))
}

fn index(format: Format, folder: &Path, key: &Path) -> Result<u8, Failure> {
    let entries = apk::index_directory(folder).or_bad()?;
    let private = PrivateKey::open(key).or_bad()?;
    let name = key.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mtime = entries.iter().map(|entry| entry.information.build_date).max().unwrap_or(0);
    let mtime = u64::try_from(mtime).unwrap_or(0);
    let count = entries.len();
    let unsigned = Index { description: String::new(), entries }.write(mtime).or_bad()?;
    let digest = sign::Digest::of(&unsigned);
    let signature = private.sign_sha256_digest(digest.as_bytes()).or_bad()?;
    let mut archive = apk::signature_member(&format!("{name}.pub"), &signature, mtime).or_bad()?;
    archive.extend_from_slice(&unsigned);
    let target = folder.join("APKINDEX.tar.gz");
    ports::local::write_atomically(&target, &archive).or_environment()?;
    match format {
        Format::Json => output::json(&json!({ "file": target, "packages": count }))?,
        Format::Text => output::text(format!("{}: {count} packages", target.display()))?,
    }
    Ok(0)
}
