//! The interpreter that a script's first line names.

use std::fs::File;
use std::io::Read as _;

use super::Found;
use crate::tree;
use crate::{Error, Result};

/// Bytes of a script that are looked at, as in melange.
const START: u64 = 80;
/// Interpreters that packages provide as links, which are no `cmd:`, or in several variants.
const PASSED_OVER: [&str; 5] = ["python3", "python", "sh", "awk", "luajit"];
const FOLDERS: [&str; 3] = ["usr/bin/", "usr/local/bin/", "usr/local/sbin/"];

pub(super) fn scan(file: &tree::TreeEntry, found: &mut Found) -> Result<()> {
    if !file.metadata.is_file() || !FOLDERS.iter().any(|folder| file.path.starts_with(folder)) {
        return Ok(());
    }
    let mut start = Vec::new();
    let script = File::open(&file.absolute).map_err(Error::at(&file.absolute))?;
    script.take(START).read_to_end(&mut start).map_err(Error::at(&file.absolute))?;
    match interpreter(&String::from_utf8_lossy(&start)) {
        Ok(Some(name)) => found.depends.push(format!("cmd:{name}")),
        Ok(None) => {}
        Err(problem) => found.warnings.push(format!("{}: {problem}", file.path)),
    }
    Ok(())
}

fn interpreter(start: &str) -> Result<Option<&str>, String> {
    let Some(line) = start.strip_prefix("#!").and_then(|rest| rest.lines().next()) else {
        return Ok(None);
    };
    let mut words = line.split_whitespace();
    let Some(mut program) = words.next() else {
        return Ok(None);
    };
    if program == "/usr/bin/env" {
        let words: Vec<&str> = words.collect();
        program = match words.as_slice() {
            [program] => program,
            ["-S", program, ..] if !program.starts_with('-') => program,
            _ => return Err(format!("can't tell what `#!{}` runs", line.escape_debug())),
        };
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    Ok(Some(name).filter(|name| !name.is_empty() && !PASSED_OVER.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_named_as_melange_names_them() {
        assert_eq!(interpreter("#!/usr/bin/perl -w\nuse"), Ok(Some("perl")));
        assert_eq!(interpreter("#! /usr/bin/env bash\n"), Ok(Some("bash")));
        assert_eq!(interpreter("#!/usr/bin/env -S node --x\n"), Ok(Some("node")));
        for none in ["", "#!", "#!\n", "#!/bin/sh", "#!/usr/bin/env python3\n", "\x7fELF", "# !/bin/x"] {
            assert_eq!(interpreter(none), Ok(None), "{none}");
        }
        assert!(interpreter("#!/usr/bin/env\n").is_err());
        assert!(interpreter("#!/usr/bin/env -i perl\n").is_err());
    }
}
