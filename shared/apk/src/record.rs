//! The lettered lines that indexes and installed databases share.

use std::fmt::Display;
use std::str::FromStr;

use crate::information::{check_name, check_value, check_word};
use crate::{Checksum, Error, IndexEntry, Result, limits};

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

    /// Refuses a letter that the record has had.
    pub(crate) fn once(&mut self, letter: u8) -> Result<(), String> {
        if self.first(letter) {
            return Ok(());
        }
        Err(format!("`{}:` comes twice in one record; a blank line ends a record", char::from(letter)))
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

/// What the lines of a record fill.
pub(crate) trait Fields<'t>: Default {
    /// Sets a field by its letter. Letters that say nothing of the package itself are passed over, as
    /// apk-tools does with those it doesn't know.
    fn set(&mut self, letter: u8, value: &'t str) -> Result<(), String>;

    fn name_and_version(&self) -> (&str, &str);
}

/// A record that is read line by line.
pub(crate) trait Record<'t>: Default {
    type Finished;

    fn line(&mut self, line: &'t str) -> Result<(), String>;

    /// Whether it has no line yet.
    fn is_empty(&self) -> bool;

    fn finish(self) -> Result<Self::Finished, String>;
}

/// Reads records: lines, and a blank line after each record, which the last may lack. `file` names
/// the text in errors, and `what` says what it is.
pub(crate) fn read<'t, R: Record<'t>>(file: &str, what: &str, text: &'t str) -> Result<Vec<R::Finished>> {
    let mut records = Vec::new();
    let mut record = R::default();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        last = number;
        if line.len() > limits::LINE_BYTES {
            return Err(Error::limit(file, format_args!("line {number} in bytes"), limits::LINE_BYTES as u64));
        }
        if !line.is_empty() {
            record.line(line).map_err(|problem| Error::line(file, number, problem))?;
        } else if !record.is_empty() {
            records.push(finished(file, number, std::mem::take(&mut record))?);
            if records.len() > limits::RECORDS {
                return Err(Error::limit(file, format_args!("{what} in records"), limits::RECORDS as u64));
            }
        }
    }
    if !record.is_empty() {
        records.push(finished(file, last, record)?);
    }
    Ok(records)
}

fn finished<'t, R: Record<'t>>(file: &str, line: usize, record: R) -> Result<R::Finished> {
    record.finish().map_err(|problem| Error::line(file, line, format_args!("the record that ends here: {problem}")))
}

/// A record whose every line is `X:value`.
#[derive(Default)]
struct Lettered<F> {
    fields: F,
    letters: Letters,
}

impl<'t, F: Fields<'t>> Record<'t> for Lettered<F> {
    type Finished = F;

    fn line(&mut self, line: &'t str) -> Result<(), String> {
        let (letter, value) = split(line)?;
        self.letters.once(letter)?;
        self.fields.set(letter, value)
    }

    fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn finish(self) -> Result<F, String> {
        named(&self.fields)?;
        Ok(self.fields)
    }
}

/// Reads the records of an index: lines `X:value`.
pub(crate) fn parse<'t, F: Fields<'t>>(file: &str, text: &'t str) -> Result<Vec<F>> {
    read::<Lettered<F>>(file, "the index", text)
}

/// Refuses a record without a proper name or version.
pub(crate) fn named<'t>(record: &impl Fields<'t>) -> Result<(), String> {
    let (name, version) = record.name_and_version();
    for (letter, value) in [("P", name), ("V", version)] {
        check_name(letter, value).map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl Fields<'_> for IndexEntry {
    fn set(&mut self, letter: u8, value: &str) -> Result<(), String> {
        set(self, letter, value)
    }

    fn name_and_version(&self) -> (&str, &str) {
        (&self.information.name, &self.information.version)
    }
}

pub(crate) fn valid_checksum(value: &str) -> Result<(), String> {
    value.parse::<Checksum>().map(|_| ()).map_err(|error| error.to_string())
}

/// Sets a field of an entry; see [`Fields::set`].
pub(crate) fn set(entry: &mut IndexEntry, letter: u8, value: &str) -> Result<(), String> {
    let information = &mut entry.information;
    match letter {
        b'C' => {
            valid_checksum(value)?;
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

pub(crate) fn number<N: FromStr>(letter: u8, value: &str) -> Result<N, String> {
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
