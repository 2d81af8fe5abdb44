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
pub(crate) fn parse_first(text: &str, file: &str) -> Result<(Node, Option<Position>), Error> {
    let at = |position| Location::new(file, position);
    if text.len() > MAXIMUM_BYTES {
        return Err(Error::Limit { location: at(Position::default()), limit: MAXIMUM_BYTES, what: "bytes" });
    }
    let offsets = Offsets::new(text);
    let mut more = None;
    let mut builder = Builder { file, nodes: 0, open: Vec::new(), anchors: HashMap::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Error::Yaml {
            location: at(offsets.position(error.marker())),
            message: error.info().to_owned(),
        })?;
        let start = offsets.position(&span.start);
        if matches!(event, Event::DocumentStart(_)) && builder.root.as_ref().is_some_and(|root| !root.is_null()) {
            if !is_nothing(text.get(start.offset..).unwrap_or_default()) {
                more = Some(start);
            }
            break;
        }
        builder.event(event, start)?;
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
struct Offsets {
    /// Empty for ASCII text, where the two are one.
    bytes: Vec<usize>,
    length: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let bytes = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(offset, _)| offset).collect() };
        Self { bytes, length: text.len() }
    }

    fn byte(&self, index: usize) -> usize {
        if self.bytes.is_empty() {
            index.min(self.length)
        } else {
            self.bytes.get(index).copied().unwrap_or(self.length)
        }
    }

    fn position(&self, marker: &Marker) -> Position {
        Position { line: marker.line(), column: marker.col() + 1, offset: self.byte(marker.index()) }
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
