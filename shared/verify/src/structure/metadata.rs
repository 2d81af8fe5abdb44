//! `metadataTest`: the image's configuration.

use serde::Deserialize;

use super::{environment, list};
use crate::Image;
use crate::document::{Expression, Text, or_default};
use crate::report::{Checks, Finding};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MetadataTest {
    #[serde(default, alias = "env", deserialize_with = "or_default")]
    env_vars: Vec<Pair>,
    #[serde(default, deserialize_with = "or_default")]
    unbound_env_vars: Vec<Pair>,
    #[serde(default, deserialize_with = "or_default")]
    labels: Vec<Pair>,
    #[serde(default, deserialize_with = "or_default")]
    exposed_ports: Vec<Text>,
    #[serde(default, deserialize_with = "or_default")]
    unexposed_ports: Vec<Text>,
    #[serde(default, deserialize_with = "or_default")]
    volumes: Vec<Text>,
    #[serde(default, deserialize_with = "or_default")]
    unmounted_volumes: Vec<Text>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_default")]
    workdir: String,
    #[serde(default, deserialize_with = "or_default")]
    user: String,
}

/// A variable or label and the value that it should have.
#[derive(Deserialize)]
#[serde(try_from = "RawPair")]
struct Pair {
    key: Text,
    value: Value,
}

enum Value {
    Text(String),
    Expression(Expression),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPair {
    key: Text,
    #[serde(default, deserialize_with = "or_default")]
    value: String,
    #[serde(default, deserialize_with = "or_default")]
    is_regex: bool,
}

impl TryFrom<RawPair> for Pair {
    type Error = String;

    fn try_from(raw: RawPair) -> Result<Self, String> {
        let value =
            if raw.is_regex { Value::Expression(Expression::parse(&raw.value)?) } else { Value::Text(raw.value) };
        Ok(Pair { key: raw.key, value })
    }
}

pub(super) fn metadata(image: &Image, test: &MetadataTest, checks: &mut Checks) {
    let config = image.configuration().config().clone().unwrap_or_default();
    let mut add = |name: String, finding| checks.add(format!("structure/metadata/{name}"), finding);

    let environment = config.env().clone().unwrap_or_default();
    for variable in &test.env_vars {
        let found = environment::value(&environment, &variable.key);
        add(format!("env/{}", variable.key), value("environment variable", variable, found));
    }
    for Pair { key, .. } in &test.unbound_env_vars {
        let finding = match environment::value(&environment, key) {
            None => Finding::passed(format!("the image has no environment variable `{key}`")),
            Some(found) => Finding::failed(
                format!("the environment variable `{key}` is `{found}`; it should not be set"),
                Vec::new(),
            ),
        };
        add(format!("unbound-env/{key}"), finding);
    }
    let labels = config.labels().clone().unwrap_or_default();
    for label in &test.labels {
        let found = labels.get(&*label.key).map(String::as_str);
        add(format!("label/{}", label.key), value("label", label, found));
    }
    let ports = config.exposed_ports().clone().unwrap_or_default();
    let volumes = config.volumes().clone().unwrap_or_default();
    for (what, names, found, expected) in [
        ("exposed-port", &test.exposed_ports, &ports, true),
        ("exposed-port", &test.unexposed_ports, &ports, false),
        ("volume", &test.volumes, &volumes, true),
        ("volume", &test.unmounted_volumes, &volumes, false),
    ] {
        for name in names {
            // A port without protocol is that of any.
            let same =
                |other: &String| *other == **name || what == "exposed-port" && other.split('/').next() == Some(&**name);
            let finding = match (found.iter().any(same), expected) {
                (true, true) => Finding::passed(format!("`{name}` is in the configuration")),
                (false, false) => Finding::passed(format!("`{name}` is not in the configuration")),
                (false, true) => {
                    let message = format!("`{name}` is not in the configuration; it has {}", list(found));
                    Finding::failed(message, Vec::new())
                }
                (true, false) => {
                    Finding::failed(format!("`{name}` is in the configuration; it should not be"), Vec::new())
                }
            };
            add(format!("{what}/{name}"), finding);
        }
    }
    for (name, expected, found) in
        [("entrypoint", &test.entrypoint, config.entrypoint()), ("cmd", &test.cmd, config.cmd())]
    {
        if let Some(expected) = expected {
            let found = found.clone().unwrap_or_default();
            add(name.to_owned(), same(name, &list(expected), &list(&found), *expected == found));
        }
    }
    for (name, expected, found) in
        [("workdir", &test.workdir, config.working_dir()), ("user", &test.user, config.user())]
    {
        let found = found.as_deref().unwrap_or_default();
        if !expected.is_empty() {
            add(name.to_owned(), same(name, expected, found, expected == found));
        }
    }
}

fn same(name: &str, expected: &str, found: &str, holds: bool) -> Finding {
    if holds {
        Finding::passed(format!("the {name} is `{found}`"))
    } else {
        Finding::failed(format!("the {name} is `{found}`, expected `{expected}`"), Vec::new())
    }
}

fn value(what: &str, expected: &Pair, found: Option<&str>) -> Finding {
    let key = &expected.key;
    let Some(found) = found else {
        return Finding::failed(format!("the image has no {what} `{key}`"), Vec::new());
    };
    let (holds, wanted) = match &expected.value {
        Value::Text(text) => (text == found, text.clone()),
        Value::Expression(expression) => (expression.is_match(found.as_bytes()), expression.to_string()),
    };
    if holds {
        Finding::passed(format!("the {what} `{key}` is `{found}`"))
    } else {
        Finding::failed(format!("the {what} `{key}` is `{found}`, expected `{wanted}`"), Vec::new())
    }
}
