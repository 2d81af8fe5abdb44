use std::path::PathBuf;

use ports::local::Home;
use serde::Serialize;

use crate::arguments::{Global, Key, KeyUse};
use crate::factory;
use crate::keys::{Keys, Period, Use};
use crate::output::{self, Failure, Format, OrFail, table};

/// A key as it is listed.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    period: &'a Period,
    /// Base64 of the SHA-256 of the public key; none before first use.
    id: Option<String>,
    /// The public key's file.
    file: PathBuf,
}

pub fn run(global: &Global, command: &Key) -> Result<u8, Failure> {
    let home = Home::open(&global.home).or_environment()?;
    let folder = home.folder("keys").or_environment()?;
    let mut keys = Keys::open(&folder)?;
    if let Key::Rotate { used_for } = command {
        // What a running cycle signs must not change under its hands.
        let _lock = home.lock().or_environment()?;
        let now = factory::clock()?.now();
        let wanted = match used_for {
            KeyUse::Image => Use::Image,
            KeyUse::Package => Use::Package,
        };
        let new = keys.rotate(wanted, now)?;
        tracing::info!(key = new.name, "what is signed from now on is signed with the new key");
    }
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for period in keys.periods() {
        // A home that has not signed yet has no key.
        let id = keys.public(period).map(|key| key.id().to_owned()).ok();
        let shown = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        rows.push(vec![
            format!("{:?}", period.used_for).to_lowercase(),
            format!("{}.pub", period.name),
            shown(period.from),
            shown(period.until),
            id.clone().unwrap_or_else(|| "made at first use".to_owned()),
        ]);
        let file = folder.join(format!("{}.pub", period.name));
        values.push(Listed { period, id, file });
    }
    match global.format {
        Format::Json => output::json(&values)?,
        Format::Text => output::text(table(&["use", "public key", "from", "until", "id"], &rows))?,
    }
    Ok(0)
}
