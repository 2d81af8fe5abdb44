//! The lettered lines that indexes and installed databases share.

use std::fmt::Display;
use std::str::FromStr;

use crate::information::{check_value, check_word};
use crate::{Checksum, IndexEntry, Result};

/// Which letters a record had, so that one that comes twice is told.
#[derive(Default)]
pub(crate) struct Letters(u128);

impl Letters {
    pub(crate) fn first(&mut self, letter: u8) -> bool {
        let bit = 1_u128.checked_shl(letter.into()).unwrap_or(0);
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

/// Splits `X:value`.
pub(crate) fn split(line: &str) -> Result<(u8, &str), String> {
    match line.as_bytes() {
        [letter, b':', ..] if letter.is_ascii() => Ok((*letter, line.get(2..).unwrap_or_default())),
        _ => Err(format!(
            "expected a letter, `:` and a value, found `{}`",
            line.chars().take(40).collect::<String>().escape_debug()
        )),
    }
}

/// Sets a field by its letter. Letters that say nothing of the package itself are passed over, as
/// apk-tools does with those it doesn't know.
pub(crate) fn set(entry: &mut IndexEntry, letter: u8, value: &str) -> Result<(), String> {
    let information = &mut entry.information;
    match letter {
        b'C' => {
            value.parse::<Checksum>().map_err(|error| error.to_string())?;
            value.clone_into(&mut entry.checksum);
        }
        b'P' => value.clone_into(&mut information.name),
        b'V' => value.clone_into(&mut information.version),
        b'A' => value.clone_into(&mut information.architecture),
        b'S' => entry.size = number(letter, value)?,
        b'I' => information.installed_size = number(letter, value)?,
        b'T' => value.clone_into(&mut information.description),
        b'U' => value.clone_into(&mut information.url),
        b'L' if !value.is_empty() => information.licenses.push(value.to_owned()),
        b'o' => value.clone_into(&mut information.origin),
        b'm' => value.clone_into(&mut information.maintainer),
        b't' => information.build_date = number(letter, value)?,
        b'c' => value.clone_into(&mut information.commit),
        b'k' => information.provider_priority = number(letter, value)?,
        b'q' => information.replaces_priority = number(letter, value)?,
        b'D' => words(&mut information.depends, value),
        b'p' => words(&mut information.provides, value),
        b'r' => words(&mut information.replaces, value),
        b'i' => words(&mut information.install_if, value),
        _ => {}
    }
    Ok(())
}

fn words(values: &mut Vec<String>, value: &str) {
    values.extend(value.split_ascii_whitespace().map(str::to_owned));
}

fn number<N: FromStr>(letter: u8, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("`{}:` expected a whole number, found `{}`", char::from(letter), value.escape_debug()))
}

/// Appends lines to a record.
pub(crate) struct Lines<'t>(pub(crate) &'t mut String);

impl Lines<'_> {
    /// `X:value`, a value being one line.
    pub(crate) fn always(&mut self, letter: &'static str, value: &str) -> Result<()> {
        check_value(letter, value)?;
        self.push(letter, value);
        Ok(())
    }

    /// The same, unless the value is empty.
    pub(crate) fn text(&mut self, letter: &'static str, value: &str) -> Result<()> {
        if value.is_empty() { Ok(()) } else { self.always(letter, value) }
    }

    /// A number, unless it is 0.
    pub(crate) fn number<N: Display + Default + PartialEq>(&mut self, letter: &'static str, value: N) {
        if value != N::default() {
            self.push(letter, &value.to_string());
        }
    }

    /// Words separated by spaces, unless there are none.
    pub(crate) fn words(&mut self, letter: &'static str, values: &[String]) -> Result<()> {
        for value in values {
            check_word(letter, value)?;
        }
        if !values.is_empty() {
            self.push(letter, &values.join(" "));
        }
        Ok(())
    }

    fn push(&mut self, letter: &str, value: &str) {
        for part in [letter, ":", value, "\n"] {
            self.0.push_str(part);
        }
    }
}
