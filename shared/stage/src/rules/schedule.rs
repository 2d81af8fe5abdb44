//! How often upstream is asked: `update.schedule`.

use jiff::{SignedDuration, Timestamp};
use recipe::SchedulePeriod;

/// What a schedule that runs a little early is allowed.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// The period's name, as definitions write it.
pub fn name(period: SchedulePeriod) -> &'static str {
    match period {
        SchedulePeriod::Daily => "daily",
        SchedulePeriod::Weekly => "weekly",
        SchedulePeriod::Monthly => "monthly",
    }
}

/// Whether upstream may be asked at `now`, having been asked at `last`: a day, 7 or 30 days later,
/// or up to an hour before that.
pub fn is_due(period: SchedulePeriod, last: Option<Timestamp>, now: Timestamp) -> bool {
    let days = match period {
        SchedulePeriod::Daily => 1,
        SchedulePeriod::Weekly => 7,
        SchedulePeriod::Monthly => 30,
    };
    let wait = SignedDuration::from_hours(24 * days) - TOLERANCE;
    last.is_none_or(|last| now.duration_since(last) >= wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        let last: Timestamp = "2026-11-01T06:00:00Z".parse().unwrap();
        for (period, early, due) in [
            (SchedulePeriod::Daily, "2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z"),
            (SchedulePeriod::Weekly, "2026-11-08T04:59:59Z", "2026-11-08T05:59:00Z"),
            (SchedulePeriod::Monthly, "2026-11-25T06:00:00Z", "2026-12-01T06:00:00Z"),
        ] {
            assert!(is_due(period, None, last), "{}", name(period));
            assert!(!is_due(period, Some(last), early.parse().unwrap()), "{}", name(period));
            assert!(is_due(period, Some(last), due.parse().unwrap()), "{}", name(period));
        }
    }
}
