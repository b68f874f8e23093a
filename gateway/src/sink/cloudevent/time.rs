//! Times as RFC 3339 writes them.

use prost_types::Timestamp;

use crate::clock::Millis;

/// The years that RFC 3339 can write: 0001 to 9999, in seconds since 1970.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// `timestamp` in UTC with as many digits of the second as it has; `received` if there is none or its year has more than four digits.
pub(super) fn text(timestamp: Option<&Timestamp>, received: Millis) -> String {
    let of_millis = Timestamp {
        seconds: received.div_euclid(1000),
        // Below 10^9.
        nanos: (received.rem_euclid(1000) * 1_000_000) as i32,
    };
    let given = timestamp.filter(|at| YEARS.contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos));
    given.unwrap_or(&of_millis).to_string()
}
