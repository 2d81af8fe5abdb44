//! apk's own table of versions, from the corpus.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::cmp::Ordering;
use std::path::PathBuf;

use apk::{Operator, compare_versions, is_version};

fn corpus() -> PathBuf {
    std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").into(), PathBuf::from)
}

/// `None` when the line holds, otherwise what was found instead.
fn check(line: &str) -> Option<String> {
    if let Some(invalid) = line.strip_prefix('!') {
        return is_version(invalid).then(|| "a valid version".to_owned());
    }
    let (pair, note) = line.split_once('#').unwrap_or((line, ""));
    let words: Vec<&str> = pair.split_whitespace().collect();
    let [left, operator, right] = words.as_slice() else {
        let [only] = words.as_slice() else {
            return Some("neither a pair nor one version".to_owned());
        };
        return (!is_version(only)).then(|| "an invalid version".to_owned());
    };
    if note.contains("invalid") {
        return compare_versions(left, right).map(|found| format!("{found:?}, not invalid"));
    }
    let expected = match *operator {
        "<" => Ordering::Less,
        "=" => Ordering::Equal,
        ">" => Ordering::Greater,
        fuzzy => {
            let (negated, operator) = match fuzzy.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, fuzzy),
            };
            let operator = match operator {
                "~" => Operator::Fuzzy,
                "<~" => Operator::LessOrFuzzy,
                ">~" => Operator::GreaterOrFuzzy,
                "<=" => Operator::LessOrEqual,
                ">=" => Operator::GreaterOrEqual,
                "<" => Operator::Less,
                "=" => Operator::Equal,
                ">" => Operator::Greater,
                other => return Some(format!("an unknown operator `{other}`")),
            };
            let found = operator.accepts(left, right) != negated;
            return (!found).then(|| format!("{operator} is {}", !negated));
        }
    };
    let found = compare_versions(left, right);
    let backwards = compare_versions(right, left);
    (found != Some(expected) || backwards != Some(expected.reverse()))
        .then(|| format!("{found:?}, and {backwards:?} the other way round"))
}

#[test]
fn orders_versions_as_apk_does() {
    let folder = corpus().join("apk-version");
    let Ok(listing) = std::fs::read_dir(&folder) else {
        println!("not run: no corpus at {}", folder.display());
        return;
    };
    let (mut lines, mut wrong) = (0, Vec::new());
    for file in listing {
        let path = file.unwrap().path();
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            lines += 1;
            if let Some(found) = check(line) {
                wrong.push(format!("{}:{}: `{line}`: found {found}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines > 0, "no lines in {}", folder.display());
    println!("{lines} lines hold");
}
