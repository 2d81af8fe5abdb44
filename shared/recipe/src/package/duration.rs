//! Durations as Go writes them.

use std::time::Duration;

/// More is a mistake.
const LONGEST_SECONDS: f64 = 31_536_000.0;

/// `1h30m`, `90s`, `500ms`, or a plain number of seconds, as melange documents it; at most a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds)).filter(|duration| duration.as_secs_f64() <= LONGEST_SECONDS);
    }
    let mut seconds = 0.0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|character: char| character.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    if text.is_empty() || !(0.0..=LONGEST_SECONDS).contains(&seconds) {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("45m", Some(2_700_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("3600", Some(3_600_000)),
            ("3000000000", None),
            ("x", None),
            ("", None),
            ("0", Some(0)),
            ("9000h", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text).map(|duration| duration.as_millis()), milliseconds, "{text}");
        }
    }
}
