//! Servers that answer no more for a while.

use std::fmt;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::fetcher::LONGEST_WAIT;

/// When a rate limit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifted {
    /// At this time.
    At(Timestamp),
    /// This many seconds after the answer.
    After(u64),
}

impl Lifted {
    /// Reads a refusal's headers; `None` when it is no rate limit, or one that passes so soon
    /// that another attempt is worth its wait.
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let spent = number("x-ratelimit-remaining") == Some(0);
        let reset = number("x-ratelimit-reset").and_then(|seconds| Timestamp::from_second(seconds).ok());
        let wait = number(RETRY_AFTER.as_str()).and_then(|seconds| u64::try_from(seconds).ok());
        match (status, reset, wait) {
            (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, Some(time), _) if spent => Some(Self::At(time)),
            (StatusCode::FORBIDDEN, _, Some(seconds)) => Some(Self::After(seconds)),
            (StatusCode::TOO_MANY_REQUESTS, _, Some(seconds)) if seconds > LONGEST_WAIT.as_secs() => {
                Some(Self::After(seconds))
            }
            _ => None,
        }
    }

    /// Whether it is still ahead at `now`, having been told at `told`.
    pub(crate) fn is_ahead(self, told: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::At(time) => now < time,
            Self::After(seconds) => now.duration_since(told).as_secs() < i64::try_from(seconds).unwrap_or(i64::MAX),
        }
    }
}

impl fmt::Display for Lifted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => write!(formatter, "after {time}"),
            Self::After(seconds) => write!(formatter, "in {seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, headers: &[(&'static str, &'static str)]) -> Option<Lifted> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Lifted::read(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_a_limit_that_is_worth_no_wait_counts() {
        let reset = Lifted::At("2026-11-25T04:00:00Z".parse().unwrap());
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795579200")];
        assert_eq!(read(403, &spent), Some(reset));
        assert_eq!(read(429, &spent), Some(reset));
        assert_eq!(reset.to_string(), "after 2026-11-25T04:00:00Z");
        assert_eq!(read(403, &[("retry-after", "60")]), Some(Lifted::After(60)));
        assert_eq!(read(429, &[("retry-after", "60")]), Some(Lifted::After(60)));
        assert_eq!(read(429, &[("retry-after", "2")]), None);
        assert_eq!(read(403, &[("x-ratelimit-remaining", "9"), ("x-ratelimit-reset", "1795579200")]), None);
        assert_eq!(read(503, &[("retry-after", "60")]), None);
    }
}
