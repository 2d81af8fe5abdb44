use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::{Clock, Condition, Delivery, Document, Envelope, Key, Page, PortError, Queue, Release, State, Transaction};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS document (
    partition TEXT NOT NULL,
    sort      TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (partition, sort)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    envelope  TEXT NOT NULL,
    due       INTEGER NOT NULL,
    attempt   INTEGER NOT NULL DEFAULT 0,
    receipt   TEXT,
    dead      TEXT
);
CREATE INDEX IF NOT EXISTS message_due ON message (due, sequence) WHERE dead IS NULL;
";

/// State and queue in one SQLite file (WAL, full synchronisation), so that a transaction's writes
/// and messages are one commit.
#[derive(Clone)]
pub struct Database {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    clock: Arc<dyn Clock>,
}

type Outcome<T> = Result<T, Failure>;

enum Failure {
    Sqlite(rusqlite::Error),
    Port(PortError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl Database {
    /// Opens or creates the database; leases count from `clock`.
    ///
    /// # Errors
    /// [`PortError::Database`] when SQLite can't open or set it up.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, PortError> {
        let failed = |source| PortError::Database { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)), clock })
    }

    /// Ends every lease, so that messages of a process that died are handed out at once. Only for
    /// the holder of the home's lock.
    ///
    /// # Errors
    /// [`PortError::Database`].
    pub async fn end_leases(&self) -> Result<(), PortError> {
        let now = self.now();
        self.run(move |connection| {
            connection
                .execute("UPDATE message SET receipt = NULL, due = min(due, ?1) WHERE receipt IS NOT NULL", [now])?;
            Ok(())
        })
        .await
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut connection = this.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection).map_err(|failure| match failure {
                Failure::Sqlite(source) => PortError::Database { path: this.path.clone(), source },
                Failure::Port(error) => error,
            })
        })
        .await?
    }
}

fn document(row: &Row<'_>) -> rusqlite::Result<(Key, u64, String)> {
    Ok((Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get(2)?, row.get(3)?))
}

fn decode((key, revision, text): (Key, u64, String)) -> Outcome<Document> {
    let value = serde_json::from_str(&text).map_err(|source| PortError::Document { key: key.clone(), source })?;
    Ok(Document { key, revision, value })
}

fn apply(transaction: &rusqlite::Transaction<'_>, write: &crate::Write) -> Outcome<()> {
    let key = &write.key;
    let found: Option<u64> = transaction
        .prepare_cached("SELECT revision FROM document WHERE partition = ?1 AND sort = ?2")?
        .query_row(params![key.partition, key.sort], |row| row.get(0))
        .optional()?;
    let describe = |revision: Option<u64>| {
        revision.map_or_else(|| "no document".to_owned(), |revision| format!("revision {revision}"))
    };
    let expected = match write.condition {
        Condition::Any => found,
        Condition::Absent => None,
        Condition::Revision(revision) => Some(revision),
    };
    if found != expected {
        return Err(
            PortError::Conflict { key: key.clone(), expected: describe(expected), found: describe(found) }.into()
        );
    }
    match &write.value {
        Some(value) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO document (partition, sort, revision, value) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![key.partition, key.sort, found.unwrap_or(0) + 1, value.to_string()])?,
        None => transaction
            .prepare_cached("DELETE FROM document WHERE partition = ?1 AND sort = ?2")?
            .execute(params![key.partition, key.sort])?,
    };
    Ok(())
}

fn envelope(text: &str) -> Outcome<Envelope> {
    Ok(serde_json::from_str(text).map_err(|source| PortError::Document { key: Key::new("message", ""), source })?)
}

#[async_trait]
impl State for Database {
    async fn get(&self, key: &Key) -> Result<Option<Document>, PortError> {
        let key = key.clone();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT partition, sort, revision, value FROM document WHERE partition = ?1 AND sort = ?2",
                )?
                .query_row(params![key.partition, key.sort], document)
                .optional()?
                .map(decode)
                .transpose()
        })
        .await
    }

    async fn list(&self, partition: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, PortError> {
        let (partition, prefix) = (partition.to_owned(), prefix.to_owned());
        let after = after.unwrap_or("").to_owned();
        self.run(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT partition, sort, revision, value FROM document
                 WHERE partition = ?1 AND sort > ?2 AND sort >= ?3 AND substr(sort, 1, length(?3)) = ?3
                 ORDER BY sort LIMIT ?4",
            )?;
            let rows = statement.query_map(params![partition, after, prefix, u64::from(limit) + 1], document)?;
            let mut documents = rows.map(|row| decode(row?)).collect::<Outcome<Vec<_>>>()?;
            let more = documents.len() > limit as usize;
            documents.truncate(limit as usize);
            let next = documents.last().filter(|_| more).map(|last| last.key.sort.clone());
            Ok(Page { documents, next })
        })
        .await
    }

    async fn list_partitions(&self, partitions: &[String], without: &[&str]) -> Result<Vec<Vec<Document>>, PortError> {
        let partitions = partitions.to_vec();
        let without = serde_json::Value::from(without.to_vec()).to_string();
        self.run(move |connection| {
            // One snapshot of all.
            let sql = connection.transaction()?;
            let mut statement = sql.prepare_cached(
                "SELECT partition, sort, revision, value FROM document
                 WHERE partition = ?1 AND sort NOT IN (SELECT value FROM json_each(?2)) ORDER BY sort",
            )?;
            let mut lists = Vec::with_capacity(partitions.len());
            for partition in &partitions {
                let rows = statement.query_map([partition, &without], document)?;
                lists.push(rows.map(|row| decode(row?)).collect::<Outcome<Vec<_>>>()?);
            }
            Ok(lists)
        })
        .await
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), PortError> {
        let now = self.now();
        self.run(move |connection| {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for write in &transaction.writes {
                apply(&sql, write)?;
            }
            for message in &transaction.messages {
                let text = serde_json::to_string(message).map_err(|source| PortError::Document { key: Key::new("message", ""), source })?;
                sql.prepare_cached("INSERT INTO message (id, envelope, due) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET due = ?3, attempt = 0, dead = NULL WHERE dead IS NOT NULL")?
                    .execute(params![message.id.to_string(), text, now])?;
            }
            sql.commit()?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Queue for Database {
    async fn receive(&self, lease: Duration) -> Result<Option<Delivery>, PortError> {
        let now = self.now();
        let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        self.run(move |connection| {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found: Option<(i64, String, u32)> = sql
                .prepare_cached("SELECT sequence, envelope, attempt FROM message WHERE dead IS NULL AND due <= ?1 ORDER BY due, sequence LIMIT 1")?
                .query_row([now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some((sequence, text, attempt)) = found else { return Ok(None) };
            let attempt = attempt.saturating_add(1);
            let receipt = format!("{sequence}-{attempt}-{until}");
            sql.prepare_cached("UPDATE message SET attempt = ?2, due = ?3, receipt = ?4 WHERE sequence = ?1")?
                .execute(params![sequence, attempt, until, receipt])?;
            let envelope = envelope(&text)?;
            sql.commit()?;
            Ok(Some(Delivery { envelope, attempt, receipt }))
        })
        .await
    }

    async fn acknowledge(&self, delivery: &Delivery) -> Result<(), PortError> {
        let receipt = delivery.receipt.clone();
        self.run(move |connection| {
            connection.prepare_cached("DELETE FROM message WHERE receipt = ?1")?.execute([receipt])?;
            Ok(())
        })
        .await
    }

    async fn release(&self, delivery: &Delivery, release: Release) -> Result<(), PortError> {
        let receipt = delivery.receipt.clone();
        let now = self.now();
        self.run(move |connection| {
            match release {
                Release::Retry { after, reason: _ } => {
                    let due = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                    connection
                        .prepare_cached("UPDATE message SET receipt = NULL, due = ?2 WHERE receipt = ?1")?
                        .execute(params![receipt, due])?
                }
                Release::Dead { reason } => connection
                    .prepare_cached("UPDATE message SET receipt = NULL, dead = ?2 WHERE receipt = ?1")?
                    .execute(params![receipt, reason])?,
            };
            Ok(())
        })
        .await
    }

    async fn pending(&self) -> Result<u64, PortError> {
        self.run(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM message WHERE dead IS NULL", [], |row| row.get(0))?)
        })
        .await
    }

    async fn dead(&self) -> Result<Vec<(Envelope, String)>, PortError> {
        self.run(|connection| {
            let mut statement =
                connection.prepare("SELECT envelope, dead FROM message WHERE dead IS NOT NULL ORDER BY sequence")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (text, reason) = row?;
                Ok((envelope(&text)?, reason))
            })
            .collect()
        })
        .await
    }
}
