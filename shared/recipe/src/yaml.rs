//! A YAML tree that knows the position of every node, with bounds for untrusted text.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use crate::error::Error;
use crate::text::{Location, Position, Text};

/// Largest text, in bytes.
pub(crate) const MAXIMUM_BYTES: usize = 2 * 1024 * 1024;
/// Deepest nesting.
pub(crate) const MAXIMUM_DEPTH: usize = 64;
/// Most nodes, those that aliases repeat counted each time.
pub(crate) const MAXIMUM_NODES: usize = 100_000;
/// Most spaces that are put before brackets; the text is read anew for each.
const MAXIMUM_BRACKETS: usize = 50;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar { text: String, plain: bool },
    Sequence(Vec<Node>),
    Mapping(Vec<(Text, Node)>),
}

impl Node {
    /// Whether this is YAML's null: `~`, `null` or nothing at all.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What the node is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, plain } => {
                let mut shown: String = text.chars().take(40).collect();
                if shown.len() < text.len() {
                    shown.push('…');
                }
                let kind = if *plain { "" } else { "string " };
                format!("{kind}`{shown}`")
            }
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::Sequence(items) => items.iter().map(Node::count).sum(),
            Value::Mapping(entries) => entries.iter().map(|(_, node)| 1 + node.count()).sum(),
        }
    }
}

/// Reads the only document; an empty text is a null node.
pub(crate) fn parse(text: &str, file: &str) -> Result<Node, Error> {
    match parse_first(text, file)? {
        (node, None) => Ok(node),
        (_, Some(position)) => Err(Error::Yaml {
            location: Location::new(file, position),
            message: "a second document; a definition is one document".to_owned(),
        }),
    }
}

/// Reads the first document that holds something, and where another one starts. What is written there is not
/// read at all, as melange does not read it.
///
/// A list or mapping in brackets may end at the indentation of its key, as in many files and as other readers take
/// it. The parser wants the bracket further in, and gets it there.
pub(crate) fn parse_first(text: &str, file: &str) -> Result<(Node, Option<Position>), Error> {
    if text.len() > MAXIMUM_BYTES {
        let location = Location::new(file, Position::default());
        return Err(Error::Limit { location, limit: MAXIMUM_BYTES, what: "bytes" });
    }
    let mut indented = text.to_owned();
    let mut added = Vec::new();
    loop {
        let offsets = Offsets::new(&indented, &added);
        let (error, byte) = match read(text, &indented, &offsets, file) {
            Err(Failure::InBrackets(error, byte)) => (error, byte),
            Err(Failure::Other(error)) => return Err(error),
            Ok(read) => return Ok(read),
        };
        let before = indented.get(..byte).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let closes = indented.get(byte..).is_some_and(|rest| rest.starts_with([']', '}']));
        if !closes || !before.chars().all(|character| character == ' ') || added.len() == MAXIMUM_BRACKETS {
            return Err(*error);
        }
        indented.insert(byte, ' ');
        added.push(byte);
    }
}

enum Failure {
    /// The parser's within brackets, and the byte at which it stood.
    InBrackets(Box<Error>, usize),
    Other(Error),
}

/// Reads `indented`, which is `text` with some spaces more.
fn read(text: &str, indented: &str, offsets: &Offsets, file: &str) -> Result<(Node, Option<Position>), Failure> {
    let mut more = None;
    let mut builder = Builder { file, nodes: 0, open: Vec::new(), anchors: HashMap::new(), root: None };
    // Of every list and mapping that is open, whether it is in brackets.
    let mut brackets = Vec::new();
    for event in Parser::new_from_str(indented) {
        let (event, span) = event.map_err(|error| {
            let location = Location::new(file, offsets.position(error.marker()));
            let told = Error::Yaml { location, message: error.info().to_owned() };
            match brackets.last() {
                Some(true) => Failure::InBrackets(Box::new(told), offsets.byte(error.marker().index())),
                _ => Failure::Other(told),
            }
        })?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let rest = indented.get(offsets.byte(span.start.index())..).unwrap_or_default();
                brackets.push(rest.starts_with(['[', '{']));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                brackets.pop();
            }
            _ => {}
        }
        let start = offsets.position(&span.start);
        if matches!(event, Event::DocumentStart(_)) && builder.root.as_ref().is_some_and(|root| !root.is_null()) {
            if !is_nothing(text.get(start.offset..).unwrap_or_default()) {
                more = Some(start);
            }
            break;
        }
        builder.event(event, start).map_err(Failure::Other)?;
    }
    let nothing = Node { position: Position::default(), value: Value::Scalar { text: String::new(), plain: true } };
    Ok((builder.root.unwrap_or(nothing), more))
}

/// Whether a text has marks of documents, blank lines and comments only.
fn is_nothing(text: &str) -> bool {
    let nothing = |line: &str| line.is_empty() || line.starts_with('#') || matches!(line, "---" | "...");
    text.lines().all(|line| nothing(line.trim()))
}

/// From character indexes, which the parser counts in, to bytes.
struct Offsets<'a> {
    /// Empty for ASCII text, where the two are one.
    bytes: Vec<usize>,
    length: usize,
    /// The bytes before which a space was added, those added before counted.
    added: &'a [usize],
}

impl<'a> Offsets<'a> {
    fn new(text: &str, added: &'a [usize]) -> Self {
        let bytes = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(offset, _)| offset).collect() };
        Self { bytes, length: text.len(), added }
    }

    fn byte(&self, index: usize) -> usize {
        if self.bytes.is_empty() {
            index.min(self.length)
        } else {
            self.bytes.get(index).copied().unwrap_or(self.length)
        }
    }

    /// Where that is in the text as it was given.
    fn position(&self, marker: &Marker) -> Position {
        let byte = self.byte(marker.index());
        let start_of_line = byte.saturating_sub(marker.col());
        let added = |from: usize| self.added.iter().filter(|added| (from..byte).contains(*added)).count();
        Position {
            line: marker.line(),
            column: (marker.col() + 1).saturating_sub(added(start_of_line)),
            offset: byte - added(0),
        }
    }
}

enum Open {
    Sequence {
        start: Position,
        anchor: usize,
        items: Vec<Node>,
    },
    Mapping {
        start: Position,
        anchor: usize,
        entries: Vec<(Text, Node)>,
        seen: BTreeMap<String, usize>,
        key: Option<Text>,
        merges: Vec<Node>,
    },
}

struct Builder<'a> {
    file: &'a str,
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, start: Position) -> Result<(), Error> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, start)?;
                // `!!str` keeps a number or null a text; `!!int "1"` makes a quoted one plain again.
                let plain = match tag.as_ref().filter(|tag| tag.is_yaml_core_schema()) {
                    Some(tag) => matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null"),
                    None => style == ScalarStyle::Plain,
                };
                let node = Node { position: start, value: Value::Scalar { text: text.into_owned(), plain } };
                self.place(node, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.yaml(start, "an alias to a node that is not complete; it would hold itself"));
                };
                let node = node.clone();
                self.count(node.count(), start)?;
                self.place(node, 0)
            }
            Event::SequenceStart(anchor, _) => {
                self.enter(start)?;
                self.open.push(Open::Sequence { start, anchor, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(anchor, _) => {
                self.enter(start)?;
                self.open.push(Open::Mapping {
                    start,
                    anchor,
                    entries: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                    merges: Vec::new(),
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
        }
    }

    fn enter(&mut self, start: Position) -> Result<(), Error> {
        self.count(1, start)?;
        if self.open.len() >= MAXIMUM_DEPTH {
            return Err(Error::Limit {
                location: Location::new(self.file, start),
                limit: MAXIMUM_DEPTH,
                what: "levels of nesting",
            });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        match self.open.pop() {
            Some(Open::Sequence { start, anchor, items }) => {
                self.place(Node { position: start, value: Value::Sequence(items) }, anchor)
            }
            Some(Open::Mapping { start, anchor, mut entries, seen, merges, .. }) => {
                for merge in merges {
                    self.merge(merge, &seen, &mut entries)?;
                }
                self.place(Node { position: start, value: Value::Mapping(entries) }, anchor)
            }
            None => Ok(()),
        }
    }

    /// `<<`: the mapping's own keys win, then the first merged mapping that has the key.
    fn merge(&self, merge: Node, seen: &BTreeMap<String, usize>, entries: &mut Vec<(Text, Node)>) -> Result<(), Error> {
        match merge.value {
            Value::Mapping(merged) => {
                for (key, node) in merged {
                    if !seen.contains_key(&key.value) && !entries.iter().any(|(present, _)| *present == key) {
                        entries.push((key, node));
                    }
                }
                Ok(())
            }
            Value::Sequence(items) => items.into_iter().try_for_each(|item| self.merge(item, seen, entries)),
            Value::Scalar { .. } => Err(self.yaml(merge.position, "`<<` merges mappings only")),
        }
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, seen, key, merges, .. }) => match key.take() {
                Some(name) if name.value == "<<" => merges.push(node),
                Some(name) => entries.push((name, node)),
                None => {
                    let Value::Scalar { text, .. } = node.value else {
                        return Err(self.yaml(node.position, "a key must be a plain name"));
                    };
                    if text != "<<"
                        && let Some(first) = seen.insert(text.clone(), node.position.line)
                    {
                        let location = Location::new(self.file, node.position);
                        return Err(Error::DuplicateKey { location, key: text, first });
                    }
                    *key = Some(Text { value: text, position: node.position });
                }
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, start: Position) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAXIMUM_NODES {
            return Err(Error::Limit {
                location: Location::new(self.file, start),
                limit: MAXIMUM_NODES,
                what: "nodes (aliases counted each time they are used)",
            });
        }
        Ok(())
    }

    fn yaml(&self, position: Position, message: &str) -> Error {
        Error::Yaml { location: Location::new(self.file, position), message: message.to_owned() }
    }
}
