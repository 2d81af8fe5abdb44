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
pub(crate) fn read<'t, R: Record<'t>>(
    file: &str,
    what: &'static str,
    text: &'t str,
    found: impl FnMut(R::Finished),
) -> Result<()> {
    Pieces::new(file.to_owned(), what).read::<R>(text, found)
}

/// A text of records that comes in pieces, each of whole records.
pub(crate) struct Pieces {
    file: String,
    what: &'static str,
    lines: usize,
    records: usize,
}

impl Pieces {
    /// See [`read`].
    pub(crate) fn new(file: String, what: &'static str) -> Self {
        Self { file, what, lines: 0, records: 0 }
    }

    /// Reads the records of the next piece.
    pub(crate) fn read<'t, R: Record<'t>>(&mut self, text: &'t str, mut found: impl FnMut(R::Finished)) -> Result<()> {
        let mut record = R::default();
        for line in lines(text) {
            self.lines += 1;
            let number = self.lines;
            if line.len() > limits::LINE_BYTES {
                let what = format_args!("line {number} in bytes");
                return Err(Error::limit(&self.file, what, limits::LINE_BYTES as u64));
            }
            if !line.is_empty() {
                record.line(line).map_err(|problem| Error::line(&self.file, number, problem))?;
            } else if !record.is_empty() {
                found(self.finished(std::mem::take(&mut record))?);
                self.records += 1;
                if self.records > limits::RECORDS {
                    let what = format_args!("{} in records", self.what);
                    return Err(Error::limit(&self.file, what, limits::RECORDS as u64));
                }
            }
        }
        if !record.is_empty() {
            found(self.finished(record)?);
        }
        Ok(())
    }

    /// Reads the records of the next piece of an index: lines `X:value`.
    pub(crate) fn parse<'t, F: Fields<'t>>(&mut self, text: &'t str, found: impl FnMut(F)) -> Result<()> {
        self.read::<Lettered<F>>(text, found)
    }

    fn finished<'t, R: Record<'t>>(&self, record: R) -> Result<R::Finished> {
        let told = |problem| Error::line(&self.file, self.lines, format_args!("the record that ends here: {problem}"));
        record.finish().map_err(told)
    }
}

/// The lines of a text, as [`str::lines`] gives them, several times as fast where they are short.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    ends.filter_map(move |end| {
        let line = text.get(std::mem::replace(&mut start, end + 1)..end)?;
        let is_line = end < text.len() || !line.is_empty();
        is_line.then(|| if end < text.len() { line.strip_suffix('\r').unwrap_or(line) } else { line })
    })
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

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_are_those_of_the_standard_library() {
        for text in ["", "a", "a\n", "a\r\n\r\nb\r", "\n\n", "ä\nö", "\r", "a\n\n"] {
            assert_eq!(lines(text).collect::<Vec<_>>(), text.lines().collect::<Vec<_>>(), "{text:?}");
        }
    }
}
