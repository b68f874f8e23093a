//! Times as protobuf and people have them.

use prost_types::Timestamp;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// A time as protobuf has it.
#[must_use]
pub fn timestamp(time: Millis) -> Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: time.div_euclid(1000), nanos }
}

/// A time as RFC 3339 has it, in UTC.
#[must_use]
pub fn rfc3339(time: Millis) -> String {
    timestamp(time).to_string()
}
