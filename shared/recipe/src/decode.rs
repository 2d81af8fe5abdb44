//! Typed reading of a YAML tree: every key is known, every value has its type, every error has its place.

use crate::error::{Error, nearest};
use crate::text::{Location, Position, Text};
use crate::yaml::{Node, Value};

/// One mapping being read.
pub(crate) struct Fields<'a> {
    file: &'a str,
    section: String,
    position: Position,
    entries: &'a [(Text, Node)],
}

impl<'a> Fields<'a> {
    /// Opens a mapping (null is an empty one) and refuses keys that are not in `known`.
    pub(crate) fn open(node: &'a Node, file: &'a str, section: &str, known: &[&str]) -> Result<Self, Error> {
        let fields = Self::open_any(node, file, section)?;
        for (key, _) in fields.entries {
            if !known.contains(&key.as_str()) {
                return Err(Error::UnknownKey {
                    location: Location::new(file, key.position),
                    key: key.value.clone(),
                    section: fields.section_name(),
                    nearest: nearest(key, known.iter().copied()),
                });
            }
        }
        Ok(fields)
    }

    /// The section for messages.
    fn section_name(&self) -> String {
        if self.section.is_empty() { "the definition".to_owned() } else { format!("`{}`", self.section) }
    }

    /// Opens a mapping with free keys.
    pub(crate) fn open_any(node: &'a Node, file: &'a str, section: &str) -> Result<Self, Error> {
        let entries: &[(Text, Node)] = match &node.value {
            Value::Mapping(entries) => entries,
            _ if node.is_null() => &[],
            _ => return Err(wrong(file, node, section, "a mapping")),
        };
        Ok(Self { file, section: section.to_owned(), position: node.position, entries })
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn entries(&self) -> &'a [(Text, Node)] {
        self.entries
    }

    /// The value of `key`; null is as good as absent.
    pub(crate) fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    pub(crate) fn path(&self, key: &str) -> String {
        if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<Text>, Error> {
        self.node(key).map(|node| text(node, self.file, &self.path(key))).transpose()
    }

    pub(crate) fn required_text(&self, key: &str) -> Result<Text, Error> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.missing(key)),
        }
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::Missing {
            location: Location::new(self.file, self.position),
            section: self.section_name(),
            field: key.to_owned(),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<Text>, Error> {
        self.list(key, |node, path| text(node, self.file, path))
    }

    /// A list, or one value standing for a list of one.
    pub(crate) fn text_or_texts(&self, key: &str) -> Result<Vec<Text>, Error> {
        match self.node(key) {
            Some(Node { value: Value::Scalar { .. }, .. }) => Ok(self.text(key)?.into_iter().collect()),
            _ => self.texts(key),
        }
    }

    pub(crate) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&'a Node, &str) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let Some(node) = self.node(key) else {
            return Ok(Vec::new());
        };
        let path = self.path(key);
        match &node.value {
            // An item with nothing in it is as good as absent.
            Value::Sequence(items) => {
                let items = items.iter().enumerate().filter(|(_, item)| !item.is_null());
                items.map(|(index, item)| read(item, &format!("{path}[{index}]"))).collect()
            }
            _ => Err(wrong(self.file, node, &path, "a list")),
        }
    }

    /// A mapping of free names to texts, in file order.
    pub(crate) fn texts_by_name(&self, key: &str) -> Result<Vec<(Text, Text)>, Error> {
        let Some(node) = self.node(key) else {
            return Ok(Vec::new());
        };
        let path = self.path(key);
        let inner = Self::open_any(node, self.file, &path)?;
        inner
            .entries
            .iter()
            .map(|(name, node)| Ok((name.clone(), text(node, self.file, &format!("{path}.{name}"))?)))
            .collect()
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        if let Value::Scalar { text, plain } = &node.value {
            // YAML 1.2's spellings, and the four pairs of 1.1 that melange's reader still takes, in quotes too.
            match text.as_str() {
                "true" | "True" | "TRUE" if *plain => return Ok(Some(true)),
                "false" | "False" | "FALSE" if *plain => return Ok(Some(false)),
                "y" | "Y" | "yes" | "on" => return Ok(Some(true)),
                "n" | "N" | "no" | "off" => return Ok(Some(false)),
                _ => {}
            }
        }
        Err(wrong(self.file, node, &self.path(key), "`true` or `false`"))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool, Error> {
        Ok(self.boolean(key)?.unwrap_or(false))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<u64>, Error> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        if let Value::Scalar { text, plain: true } = &node.value
            && let Some(number) = unsigned(text)
        {
            return Ok(Some(number));
        }
        Err(wrong(self.file, node, &self.path(key), "a whole number of 0 or more"))
    }

    pub(crate) fn integer32(&self, key: &str) -> Result<Option<u32>, Error> {
        let Some(number) = self.integer(key)? else {
            return Ok(None);
        };
        match (u32::try_from(number), self.node(key)) {
            (Ok(number), _) => Ok(Some(number)),
            (Err(_), Some(node)) => Err(wrong(self.file, node, &self.path(key), "a number below 4294967296")),
            (Err(_), None) => Ok(None),
        }
    }

    pub(crate) fn invalid(&self, field: &str, value: &Text, reason: impl Into<String>) -> Error {
        Error::Invalid {
            location: Location::new(self.file, value.position),
            field: self.path(field),
            value: value.value.clone(),
            reason: reason.into(),
        }
    }
}

pub(crate) fn text(node: &Node, file: &str, path: &str) -> Result<Text, Error> {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => Ok(Text { value: String::new(), position: node.position }),
        Value::Scalar { text, .. } => Ok(Text { value: text.clone(), position: node.position }),
        _ => Err(wrong(file, node, path, "text")),
    }
}

pub(crate) fn wrong(file: &str, node: &Node, path: &str, expected: &'static str) -> Error {
    Error::WrongType {
        location: Location::new(file, node.position),
        field: if path.is_empty() { "the definition".to_owned() } else { path.to_owned() },
        expected,
        found: node.describe(),
    }
}

/// A float without a fraction, such as `1.0` or `2e3`, which YAML readers take for a number of its value.
fn whole(digits: &str) -> Option<u64> {
    let number = digits.parse::<f64>().ok().filter(|_| digits.starts_with(|first: char| first.is_ascii_digit()))?;
    // Up to 2^53 floats count exactly.
    let exact = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    exact.then_some(number as u64)
}

/// Numbers as YAML 1.2 writes them (`12`, `0o14`, `0xc`), and 1.1's leading zero for octal, which
/// file modes are still written in.
fn unsigned(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let (digits, radix) = if let Some(rest) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        (rest, 16)
    } else if let Some(rest) = digits.strip_prefix("0o").or_else(|| digits.strip_prefix("0O")) {
        (rest, 8)
    } else if let Some(rest) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
        (rest, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (digits, 8)
    } else {
        (digits, 10)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().or_else(|| whole(digits))
}
