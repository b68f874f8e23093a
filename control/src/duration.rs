//! Durations as Go writes them: `30s`, `1h30m`, `1.5h`, `250ms`.

use std::time::Duration;

use crate::text::quoted;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units.
    #[error("{0} is no duration; write it as 30s, 5m or 1h30m (units: ns, us, ms, s, m, h)")]
    Syntax(String),
    /// Below zero.
    #[error("{0} is negative; a duration is at least 0s")]
    Negative(String),
    /// More than Go's 292 years.
    #[error("{0} is too long; at most 2562047h are allowed")]
    TooLong(String),
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration: decimal numbers, each with a unit, or `0`. Digits below a nanosecond are dropped.
///
/// # Errors
/// What is no duration, is negative or has more than 2^63 nanoseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(quoted(text));
    let (unsigned, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let mut nanos: u128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() && unsigned != "0" {
        let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(syntax)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(syntax());
        }
        // Past these lengths the digits decide nothing, or too much.
        if whole.trim_start_matches('0').len() > 20 {
            return Err(DurationError::TooLong(quoted(text)));
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| syntax())? };
        nanos = nanos.saturating_add(whole.saturating_mul(*size));
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let part: u128 = fraction.parse().map_err(|_| syntax())?;
            nanos += part * size / 10u128.pow(fraction.len() as u32);
        }
        if nanos > i64::MAX as u128 {
            return Err(DurationError::TooLong(quoted(text)));
        }
    }
    if unsigned.is_empty() {
        return Err(syntax());
    }
    match u64::try_from(nanos) {
        Ok(0) => Ok(Duration::ZERO),
        Ok(_) if negative => Err(DurationError::Negative(quoted(text))),
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => Err(DurationError::TooLong(quoted(text))),
    }
}

/// Whole milliseconds of a duration, rounded up, so that something positive stays so.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("30s", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m1m", 120_000_000_000),
            ("3us4ns", 3_004),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("0.0000000009s", 0),
            ("0.3333333333333333333333h", 1_199_999_999_999),
            ("2562047h", 2_562_047 * 3_600_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "-", "+", "5", "s", "5 s", "5sec", "5s ", "1..5s", ".s", "1,5s", "ü", "5S", "--5s", "1e3s", "00"] {
            assert_eq!(parse(text), Err(DurationError::Syntax(quoted(text))), "{text}");
        }
        assert_eq!(parse("-1s"), Err(DurationError::Negative("'-1s'".into())));
        for text in ["2562048h", &format!("{}h", "9".repeat(300))] {
            assert!(matches!(parse(text), Err(DurationError::TooLong(_))), "{text}");
        }
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        assert_eq!([0, 1, 1_000_000, 1_000_001].map(|nanos| millis(Duration::from_nanos(nanos))), [0, 1, 1, 2]);
    }
}
