use std::time::Duration;

/// How often a delivery is tried before it is given up.
pub const ATTEMPTS: u32 = 10;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait after the failed attempt number `attempt` (from 1): 10 s, four times as long
/// after each further one, at most a day. `random` shortens that by up to half, so that what failed
/// together does not come again together.
pub fn delay(attempt: u32, random: u32) -> Duration {
    let whole = FIRST.saturating_mul(4_u32.saturating_pow(attempt.saturating_sub(1).min(15))).min(LONGEST);
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_day_and_differ() {
        let longest: Vec<u64> = (1..=9).map(|attempt| delay(attempt, u32::MAX).as_secs()).collect();
        assert_eq!(longest, [10, 40, 160, 640, 2_560, 10_240, 40_960, 86_400, 86_400]);
        for attempt in [1, 5, 9, 100, u32::MAX] {
            let (low, middle, high) = (delay(attempt, 0), delay(attempt, u32::MAX / 2), delay(attempt, u32::MAX));
            assert!(low < middle && middle < high, "{low:?} {middle:?} {high:?}");
            assert_eq!(low * 2, high);
        }
    }
}
