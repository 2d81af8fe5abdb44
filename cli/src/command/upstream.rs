use serde_json::{Value, json};
use upstream::filter::{Decision, Verdict};

use crate::arguments::{Global, Upstream};
use crate::factory::Factory;
use crate::output::{self, Failure, Format};

pub async fn run(global: &Global, command: Upstream) -> Result<u8, Failure> {
    let Upstream::Check { names } = command;
    let factory = Factory::open(global).await?;
    let catalog = &factory.context.catalog;
    if let Some(unknown) = names.iter().find(|name| !catalog.packages.contains_key(*name)) {
        return Err(Failure::usage(format!("the catalog has no package `{unknown}`")));
    }
    let mut failed = false;
    let mut rows = Vec::new();
    for (name, source) in &catalog.packages {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        let definition = &source.definition;
        let current = definition.package.version.value.clone();
        let result = match definition.update.enabled {
            Some(true) => Some(stage::newest(&factory.context, definition, &current).await),
            _ => None,
        };
        failed |= matches!(result, Some(Err(_)));
        rows.push((name.clone(), current, result));
    }
    match global.format {
        Format::Json => output::json(
            &rows.iter().map(|(name, current, result)| document(name, current, result.as_ref())).collect::<Vec<_>>(),
        )?,
        Format::Text => {
            for (name, current, result) in &rows {
                output::text(text(name, current, result.as_ref()))?;
            }
        }
    }
    Ok(u8::from(failed))
}

type Answer = Result<Decision, stage::StageError>;

fn document(name: &str, current: &str, result: Option<&Answer>) -> Value {
    match result {
        None => json!({ "package": name, "current": current, "watched": false }),
        Some(Err(error)) => json!({ "package": name, "current": current, "watched": true, "error": error.to_string() }),
        Some(Ok(decision)) => json!({
            "package": name,
            "current": current,
            "watched": true,
            "newest": decision.chosen.as_ref().map(|chosen| &chosen.version),
            "considered": decision.considered,
        }),
    }
}

fn text(name: &str, current: &str, result: Option<&Answer>) -> String {
    match result {
        None => format!("{name} {current}: not watched"),
        Some(Err(error)) => format!("{name} {current}: {error}"),
        Some(Ok(decision)) => {
            let head = match &decision.chosen {
                Some(chosen) => format!("{name} {current}: {} is newer", chosen.version),
                None => format!("{name} {current}: newest"),
            };
            let lines = decision.considered.iter().map(|considered| {
                let mark = match considered.verdict {
                    Verdict::Taken => "taken",
                    Verdict::Current => "current",
                    Verdict::PassedOver => "passed over",
                };
                format!("  {} {mark}: {}", considered.version, considered.reason)
            });
            std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
        }
    }
}
