//! Hosts that are asked: how many requests at once, and which have stopped answering.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::rate_limit::Lifted;

/// What is known of every host that was asked.
pub(crate) struct Hosts {
    at_once: usize,
    remembered: Duration,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    known: Mutex<HashMap<String, Arc<Host>>>,
}

struct Host {
    slots: Arc<Semaphore>,
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Clone)]
enum Trouble {
    Unreachable { reason: String, since: Instant },
    Limited(Lifted, Timestamp),
}

/// The right to ask a host; given back when dropped.
pub(crate) struct Slot {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hosts {
    /// `at_once` requests per host; one that is found unreachable is not asked again for
    /// `remembered`.
    pub(crate) fn new(at_once: usize, remembered: Duration, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { at_once: at_once.max(1), remembered, clock, known: Mutex::default() }
    }

    /// Waits for a turn at the host of `url`.
    ///
    /// # Errors
    /// At once when the host is known not to answer, also when that was found out while waiting.
    pub(crate) async fn enter(&self, url: &str) -> Result<Slot> {
        let host = self.host(url);
        self.check(&host, url)?;
        let permit = Arc::clone(&host.slots).acquire_owned().await.ok();
        self.check(&host, url)?;
        Ok(Slot { _permit: permit })
    }

    /// Remembers that the host of `url` can't be reached.
    pub(crate) fn unreachable(&self, url: &str, reason: &str) {
        let host = self.host(url);
        let mut trouble = lock(&host.trouble);
        // Those that asked together find it out one after the other; the first says why.
        if trouble.is_none() {
            tracing::warn!(host = host_of(url), reason, "host is not asked for a while");
            *trouble = Some(Trouble::Unreachable { reason: reason.to_owned(), since: Instant::now() });
        }
    }

    /// Remembers that the host of `url` answers no more for a while.
    pub(crate) fn limited(&self, url: &str, lifted: Lifted) {
        let host = self.host(url);
        *lock(&host.trouble) = Some(Trouble::Limited(lifted, (self.clock)()));
    }

    fn check(&self, host: &Host, url: &str) -> Result<()> {
        let mut trouble = lock(&host.trouble);
        match trouble.clone() {
            None => Ok(()),
            Some(Trouble::Unreachable { reason, since }) if since.elapsed() < self.remembered => {
                Err(Error::Unreachable { url: url.to_owned(), reason })
            }
            Some(Trouble::Limited(lifted, told)) if lifted.is_ahead(told, (self.clock)()) => {
                Err(Error::RateLimited { url: url.to_owned(), lifted })
            }
            Some(_) => {
                *trouble = None;
                Ok(())
            }
        }
    }

    fn host(&self, url: &str) -> Arc<Host> {
        let mut known = lock(&self.known);
        let new = || Host { slots: Arc::new(Semaphore::new(self.at_once)), trouble: Mutex::default() };
        Arc::clone(known.entry(host_of(url)).or_insert_with(|| Arc::new(new())))
    }
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hosts").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Host and port of an address. GraphQL has limits of its own at GitHub, so it counts as another.
fn host_of(url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| {
        let port = url.port_or_known_default().unwrap_or_default();
        Some(format!("{}:{port}", url.host_str()?))
    });
    let interface = if parsed.is_some_and(|url| url.path().ends_with("/graphql")) { "/graphql" } else { "" };
    format!("{}{interface}", host.unwrap_or_else(|| url.to_owned()))
}

/// `wait` between its half and one and a half times, by what is asked, so that callers that failed
/// together don't come again together.
pub(crate) fn jittered(wait: Duration, seed: u64, url: &str, attempt: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (seed, url, attempt).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    wait / 2 + wait * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(remembered: Duration) -> Hosts {
        Hosts::new(1, remembered, Arc::new(|| Timestamp::from_second(1_795_579_200).unwrap()))
    }

    #[tokio::test]
    async fn a_host_in_trouble_is_not_asked_and_others_are() {
        let known = hosts(Duration::from_secs(60));
        let waiting = known.enter("https://localhost/a").await.unwrap();
        let (second, ()) = tokio::join!(known.enter("https://localhost/b"), async {
            known.unreachable("https://localhost/a", "no route");
            drop(waiting);
        });
        assert!(matches!(second, Err(Error::Unreachable { reason, .. }) if reason == "no route"));
        assert!(known.enter("https://localhost:8443/a").await.is_ok());

        known.limited("https://localhost:1/a", Lifted::After(60));
        assert!(matches!(known.enter("https://localhost:1/b").await, Err(Error::RateLimited { .. })));
        assert!(known.enter("https://localhost:1/graphql").await.is_ok());
        known.limited("https://localhost:1/a", Lifted::After(0));
        assert!(known.enter("https://localhost:1/b").await.is_ok());

        let forgetful = hosts(Duration::ZERO);
        forgetful.unreachable("https://localhost/a", "no route");
        assert!(forgetful.enter("https://localhost/a").await.is_ok());
    }

    #[test]
    fn waits_differ_by_what_is_asked_and_stay_near() {
        let wait = Duration::from_secs(1);
        let waits: Vec<_> =
            (0..50).map(|number| jittered(wait, 7, &format!("https://localhost/{number}"), 1)).collect();
        assert!(waits.iter().all(|wait| (500..1500).contains(&wait.as_millis())), "{waits:?}");
        assert!(waits.iter().collect::<std::collections::HashSet<_>>().len() > 30);
        assert_eq!(jittered(wait, 7, "a", 1), jittered(wait, 7, "a", 1));
        assert_ne!(jittered(wait, 7, "a", 1), jittered(wait, 8, "a", 1));
    }
}
