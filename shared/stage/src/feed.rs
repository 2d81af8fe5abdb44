//! Vulnerability records: import, and the matcher over all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ports::{Condition, Digest, Key, Transaction};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use vulnerability::{DigestedRecord, Format, ImportReport, Importer, Known, KnownRecord, Matcher};

use crate::{Context, StageError};

const PARTITION: &str = "feed";
const MAXIMUM_FILES: usize = 1_000_000;
const MAXIMUM_DEPTH: usize = 16;
/// Documents written in one transaction.
const CHUNK: usize = 80;

/// A stored record: what tells whether a file brings something new, and where the content is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    known: KnownRecord,
    blob: Digest,
}

/// The matcher of the last scan, kept as long as the records stay the same.
#[derive(Default)]
pub struct MatcherCache(Mutex<Option<(String, Arc<Matcher>)>>);

/// Imports every record file of a folder, or one file.
///
/// # Errors
/// When the folder can't be read or the records can't be stored. Files that are no records are
/// rejected with their reason, and the others imported.
pub async fn import(context: &Context, path: &Path) -> Result<ImportReport, StageError> {
    let stored = stored(context).await?;
    let known: Known = stored.into_iter().map(|(id, stored)| (id, stored.known)).collect();
    let mut importer = Importer::new(&known);
    let mut writes = Vec::new();
    for file in files(path)? {
        let name = file.strip_prefix(path).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(&file);
        let bytes = tokio::fs::read(&file)
            .await
            .map_err(|error| StageError::environment(format!("read `{}`", file.display()))(&error))?;
        if let Some(record) = importer.add(&name.display().to_string(), &bytes) {
            let blob = context.store(&record).await?;
            writes.push((record.record.id.clone(), Stored { known: KnownRecord::from(&record), blob }));
        }
    }
    for chunk in writes.chunks(CHUNK) {
        let mut transaction = Transaction::default();
        for (id, stored) in chunk {
            transaction.put(Key::new(PARTITION, format!("record#{id}")), Condition::Any, stored)?;
        }
        context.state.commit(transaction).await?;
    }
    Ok(importer.finish())
}

/// The matcher over all records; `None` when there are none.
///
/// # Errors
/// When a record can't be read.
pub async fn matcher(context: &Context) -> Result<Option<Arc<Matcher>>, StageError> {
    let stored = stored(context).await?;
    if stored.is_empty() {
        return Ok(None);
    }
    let version =
        Digest::of(stored.iter().map(|(_, stored)| stored.blob.hex()).collect::<String>().as_bytes()).to_string();
    let mut cache = context.caches.matcher.0.lock().await;
    if let Some((cached, matcher)) = cache.as_ref()
        && *cached == version
    {
        return Ok(Some(Arc::clone(matcher)));
    }
    let mut records: Vec<DigestedRecord> = Vec::with_capacity(stored.len());
    for (id, stored) in stored {
        let limit = vulnerability::limits::RECORD_BYTES as u64 * 2;
        let bytes = context.blobs.get(stored.blob, limit).await?;
        records.push(
            serde_json::from_slice(&bytes).map_err(|error| StageError::Rejected(format!("record `{id}`: {error}")))?,
        );
    }
    let matcher = Arc::new(Matcher::new(records));
    *cache = Some((version, Arc::clone(&matcher)));
    Ok(Some(matcher))
}

async fn stored(context: &Context) -> Result<Vec<(String, Stored)>, StageError> {
    let documents = context.state.list_all(PARTITION, "record#").await?;
    let decoded = documents.iter().map(|document| {
        let id = document.key.sort.trim_start_matches("record#").to_owned();
        Ok((id, document.decode::<Stored>()?))
    });
    decoded.collect()
}

/// The record files below a path, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut files = Vec::new();
    collect(path, 0, &mut files)
        .map_err(|error| StageError::environment(format!("read `{}`", path.display()))(&error))?;
    Ok(files)
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        if depth > MAXIMUM_DEPTH {
            return Err(std::io::Error::other(format!("more than {MAXIMUM_DEPTH} levels of folders")));
        }
        let mut entries =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        entries.sort();
        for entry in entries {
            collect(&entry, depth + 1, files)?;
        }
    } else if depth == 0 || Format::of_name(&path.display().to_string()).is_some() {
        if files.len() == MAXIMUM_FILES {
            return Err(std::io::Error::other(format!("more than {MAXIMUM_FILES} files")));
        }
        files.push(path.to_owned());
    }
    Ok(())
}
