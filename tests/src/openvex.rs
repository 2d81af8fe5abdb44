//! The rules of OpenVEX's own JSON schema, version 0.2.0, as checks.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const DOCUMENT: [&str; 9] =
    ["@context", "@id", "author", "role", "timestamp", "last_updated", "version", "tooling", "statements"];
const STATEMENT: [&str; 13] = [
    "@id",
    "version",
    "vulnerability",
    "timestamp",
    "last_updated",
    "products",
    "status",
    "supplier",
    "status_notes",
    "justification",
    "impact_statement",
    "action_statement",
    "action_statement_timestamp",
];
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];
const HASHES: [&str; 12] = [
    "md5",
    "sha1",
    "sha-256",
    "sha-384",
    "sha-512",
    "sha3-224",
    "sha3-256",
    "sha3-384",
    "sha3-512",
    "blake2s-256",
    "blake2b-256",
    "blake2b-512",
];

/// Which rules a document breaks, with the place of each; none for a valid one.
pub fn problems(document: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut rules = Rules { problems: &mut problems };
    rules.document(document);
    problems
}

struct Rules<'p> {
    problems: &'p mut Vec<String>,
}

impl Rules<'_> {
    fn wrong(&mut self, place: &str, what: &str) {
        self.problems.push(format!("{place}: {what}"));
    }

    /// An object with no keys but these.
    fn object<'v>(&mut self, value: &'v Value, place: &str, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.wrong(place, "no object");
            return None;
        };
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            self.wrong(place, &format!("unknown key `{key}`"));
        }
        Some(object)
    }

    fn required(&mut self, object: &Map<String, Value>, place: &str, keys: &[&str]) {
        for key in keys.iter().filter(|key| !object.contains_key(**key)) {
            self.wrong(place, &format!("`{key}` is missing"));
        }
    }

    fn texts(&mut self, object: &Map<String, Value>, place: &str, keys: &[&str]) {
        for key in keys {
            if object.get(*key).is_some_and(|value| !value.is_string()) {
                self.wrong(place, &format!("`{key}` is no text"));
            }
        }
    }

    fn iris(&mut self, object: &Map<String, Value>, place: &str, keys: &[&str]) {
        self.texts(object, place, keys);
        for key in keys {
            let Some(iri) = object.get(*key).and_then(Value::as_str) else { continue };
            let scheme = iri.split_once(':').map_or("", |(scheme, _)| scheme);
            let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.chars().all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character));
            if !is_scheme || iri.contains([' ', '<', '>', '"', '{', '}', '\\', '^', '`', '|']) {
                self.wrong(place, &format!("`{key}` is no IRI: `{iri}`"));
            }
        }
    }

    fn times(&mut self, object: &Map<String, Value>, place: &str, keys: &[&str]) {
        self.texts(object, place, keys);
        for key in keys {
            let Some(time) = object.get(*key).and_then(Value::as_str) else { continue };
            if time.parse::<jiff::Timestamp>().is_err() {
                self.wrong(place, &format!("`{key}` is no time: `{time}`"));
            }
        }
    }

    fn version(&mut self, object: &Map<String, Value>, place: &str) {
        if object.get("version").is_some_and(|version| version.as_u64().is_none_or(|version| version < 1)) {
            self.wrong(place, "`version` is no whole number from 1");
        }
    }

    /// A list without repetitions.
    fn list<'v>(&mut self, object: &'v Map<String, Value>, place: &str, key: &str) -> &'v [Value] {
        let Some(value) = object.get(key) else { return &[] };
        let Some(items) = value.as_array() else {
            self.wrong(place, &format!("`{key}` is no list"));
            return &[];
        };
        let distinct: BTreeSet<String> = items.iter().map(Value::to_string).collect();
        if distinct.len() != items.len() {
            self.wrong(place, &format!("`{key}` has an item twice"));
        }
        items
    }

    fn document(&mut self, value: &Value) {
        let place = "document";
        let Some(document) = self.object(value, place, &DOCUMENT) else { return };
        self.required(document, place, &["@context", "@id", "author", "timestamp", "version", "statements"]);
        self.iris(document, place, &["@context", "@id"]);
        self.texts(document, place, &["author", "role", "tooling"]);
        self.times(document, place, &["timestamp", "last_updated"]);
        self.version(document, place);
        let statements = self.list(document, place, "statements");
        if statements.is_empty() {
            self.wrong(place, "no statement");
        }
        for (index, statement) in statements.iter().enumerate() {
            self.statement(statement, &format!("statements[{index}]"));
        }
    }

    fn statement(&mut self, value: &Value, place: &str) {
        let Some(statement) = self.object(value, place, &STATEMENT) else { return };
        self.required(statement, place, &["vulnerability", "status"]);
        self.iris(statement, place, &["@id"]);
        self.version(statement, place);
        self.times(statement, place, &["timestamp", "last_updated", "action_statement_timestamp"]);
        self.texts(
            statement,
            place,
            &["status", "supplier", "status_notes", "justification", "impact_statement", "action_statement"],
        );
        let has = |key: &str| statement.contains_key(key);
        match statement.get("status").and_then(Value::as_str) {
            Some("not_affected") if has("justification") == has("impact_statement") => {
                self.wrong(place, "`not_affected` needs `justification` or `impact_statement`, not both");
            }
            Some("affected") if !has("action_statement") => self.wrong(place, "`affected` needs `action_statement`"),
            Some("not_affected" | "affected" | "fixed" | "under_investigation") | None => {}
            Some(other) => self.wrong(place, &format!("unknown status `{other}`")),
        }
        if let Some(label) = statement.get("justification").and_then(Value::as_str)
            && !JUSTIFICATIONS.contains(&label)
        {
            self.wrong(place, &format!("unknown justification `{label}`"));
        }
        if let Some(vulnerability) = statement.get("vulnerability") {
            let place = format!("{place}.vulnerability");
            let known = ["@id", "name", "description", "aliases"];
            if let Some(vulnerability) = self.object(vulnerability, &place, &known) {
                self.required(vulnerability, &place, &["name"]);
                self.iris(vulnerability, &place, &["@id"]);
                self.texts(vulnerability, &place, &["name", "description"]);
                if self.list(vulnerability, &place, "aliases").iter().any(|alias| !alias.is_string()) {
                    self.wrong(&place, "an alias is no text");
                }
            }
        }
        for (index, product) in self.list(statement, place, "products").iter().enumerate() {
            self.component(product, &format!("{place}.products[{index}]"), true);
        }
    }

    fn component(&mut self, value: &Value, place: &str, is_product: bool) {
        let known: &[&str] = match is_product {
            true => &["@id", "identifiers", "hashes", "subcomponents"],
            false => &["@id", "identifiers", "hashes"],
        };
        let Some(component) = self.object(value, place, known) else { return };
        self.iris(component, place, &["@id"]);
        for (key, known) in [("identifiers", ["purl", "@cpe22", "@cpe23"].as_slice()), ("hashes", &HASHES)] {
            let Some(value) = component.get(key) else { continue };
            let place = format!("{place}.{key}");
            if let Some(object) = self.object(value, &place, known) {
                self.texts(object, &place, known);
            }
        }
        for (index, part) in self.list(component, place, "subcomponents").iter().enumerate() {
            self.component(part, &format!("{place}.subcomponents[{index}]"), false);
        }
    }
}
