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

/// Uploads by id. An upload whose server is gone leaves only a file that the layout removes.
pub(super) struct Sessions {
    sessions: Mutex<HashMap<String, Session>>,
    max: usize,
    lifetime: Duration,
}

struct Session {
    repository: Repository,
    /// Held by the one request that may write.
    upload: Arc<AsyncMutex<Upload>>,
    used: Instant,
}

impl Sessions {
    pub(super) fn new(max: usize, lifetime: Duration) -> Self {
        Self { sessions: Mutex::default(), max, lifetime }
    }

    pub(super) fn begin(&self, repository: &Repository, writer: BlobWriter) -> Result<String, Failure> {
        let id = uuid::Uuid::new_v4().to_string();
        let session = Session {
            repository: repository.clone(),
            upload: Arc::new(AsyncMutex::new(Upload::new(writer))),
            used: Instant::now(),
        };
        let mut sessions = self.living();
        if sessions.len() >= self.max {
            return Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                format!("{} uploads are under way already", self.max),
            ));
        }
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    pub(super) fn get(&self, repository: &Repository, id: &str) -> Result<Arc<AsyncMutex<Upload>>, Failure> {
        let mut sessions = self.living();
        match sessions.get_mut(id) {
            Some(session) if session.repository == *repository => {
                session.used = Instant::now();
                Ok(Arc::clone(&session.upload))
            }
            _ => Err(Failure::not_found(
                Code::BlobUploadUnknown,
                format!("`{repository}` has no upload `{id}`; begin anew"),
            )),
        }
    }

    pub(super) fn end(&self, id: &str) {
        self.living().remove(id);
    }

    fn living(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // One that a request still works on is not resting.
        sessions.retain(|_, session| session.used.elapsed() < self.lifetime || Arc::strong_count(&session.upload) > 1);
        sessions
    }
}
