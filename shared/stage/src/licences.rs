//! Licence texts of the sources: `copyright[].license-path`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use recipe::BuildPlan;
use sbom::LicenceText;

/// Bytes of one licence's text.
const MAXIMUM_BYTES: u64 = 1 << 20;

/// The text of every licence whose path the definition states, from the workspace after the build.
/// No link leads out of it.
///
/// # Errors
/// A sentence that names the path, where there is no such file or it is too large for a licence.
pub fn texts(plan: &BuildPlan, work: &Path) -> Result<Vec<LicenceText>, String> {
    let mut texts: Vec<LicenceText> = Vec::new();
    for licence in plan.outputs.iter().flat_map(|output| &output.licences) {
        let Some(path) = &licence.path else { continue };
        if texts.iter().any(|known| known.licence == licence.expression) {
            continue;
        }
        let text = text(work, path)
            .map_err(|problem| format!("`license-path: {path}` of licence `{}`: {problem}", licence.expression))?;
        texts.push(LicenceText { licence: licence.expression.clone(), text });
    }
    Ok(texts)
}

fn text(work: &Path, path: &str) -> Result<String, String> {
    let inside = path.strip_prefix(recipe::WORKSPACE).unwrap_or(path).trim_start_matches('/');
    let missing = || format!("the workspace has no file `{inside}` after the build; state where the source keeps it");
    let place = apk::resolve_in_tree(work, inside).filter(|place| place.is_file()).ok_or_else(missing)?;
    let mut bytes = Vec::new();
    let file = File::open(&place).map_err(|error| error.to_string())?;
    file.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(format!("it has more than {MAXIMUM_BYTES} bytes, which no licence has"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
