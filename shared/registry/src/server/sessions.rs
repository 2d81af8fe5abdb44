//! Uploads under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tokio::sync::Mutex as AsyncMutex;

use super::answer::{Code, Failure};
use crate::{BlobWriter, Repository, layouts::Upload};

/// Uploads by id. One whose server is gone leaves a file named for its id, which the next server
/// goes on with, or which the layout removes in time.
pub(super) struct Sessions {
    sessions: Mutex<HashMap<String, Session>>,
    max: usize,
    lifetime: Duration,
    /// Held while the upload of an earlier server is taken up.
    pub(super) resuming: AsyncMutex<()>,
}

struct Session {
    repository: Repository,
    /// Held by the one request that may write.
    upload: Arc<AsyncMutex<Upload>>,
    used: Instant,
}

impl Sessions {
    pub(super) fn new(max: usize, lifetime: Duration) -> Self {
        Self { sessions: Mutex::default(), max, lifetime, resuming: AsyncMutex::default() }
    }

    /// Fails where no further upload may begin.
    pub(super) fn room(&self) -> Result<(), Failure> {
        if self.living().len() < self.max {
            return Ok(());
        }
        let message = format!("{} uploads are under way already", self.max);
        Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message))
    }

    pub(super) fn begin(&self, repository: &Repository, id: &str, writer: BlobWriter) -> Arc<AsyncMutex<Upload>> {
        let upload = Arc::new(AsyncMutex::new(Upload::new(writer)));
        let session = Session { repository: repository.clone(), upload: Arc::clone(&upload), used: Instant::now() };
        self.living().insert(id.to_owned(), session);
        upload
    }

    pub(super) fn get(&self, repository: &Repository, id: &str) -> Option<Arc<AsyncMutex<Upload>>> {
        let mut sessions = self.living();
        let session = sessions.get_mut(id).filter(|session| session.repository == *repository)?;
        session.used = Instant::now();
        Some(Arc::clone(&session.upload))
    }

    pub(super) fn end(&self, id: &str) {
        self.living().remove(id);
    }

    fn living(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| {
            // One that a request still works on is not resting.
            let rests = session.used.elapsed() >= self.lifetime && Arc::strong_count(&session.upload) == 1;
            if rests && let Ok(upload) = session.upload.try_lock() {
                upload.discard_now();
            }
            !rests
        });
        sessions
    }
}
