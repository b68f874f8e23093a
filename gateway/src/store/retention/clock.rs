//! Whether the clock can be trusted with removing things by age.
//!
//! Age is measured between frames, so an idle or stopped gateway removes nothing. But a clock that jumps ahead gives the next
//! frame a time that makes all before it look old. So a jump of more than an hour, measured against a clock that nobody sets,
//! pauses expiry. It goes on when the clock is back, or when it has stood by its new time for a day: that is long enough for an
//! alert to be answered. The time since the newest frame of an earlier run counts as a jump as well: a long stop and a wrong
//! clock look alike, and waiting a day costs little.

use std::time::Duration;

use crate::clock::Millis;

/// A longer jump pauses expiry.
pub const TOLERANCE: Millis = 3_600_000;
/// A clock that stands by its new time this long is believed.
pub const BELIEVED_AFTER: Duration = Duration::from_hours(24);

/// Why nothing goes by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The clock jumped ahead by this many milliseconds while the gateway ran.
    Jumped(Millis),
    /// The newest frame of the run before is this many milliseconds old: a long stop, or a wrong clock.
    Stopped(Millis),
    /// The newest frame is this many milliseconds ahead of the clock, which must have been wrong when it was received.
    Behind(Millis),
}

/// Compares the time of day with a clock that nobody sets.
#[derive(Debug)]
pub struct ClockWatch {
    /// A moment of which both times are believed.
    believed: Option<(Millis, Duration)>,
    /// Since when the time of day is not believed.
    doubted: Option<Duration>,
    /// Nothing of this run is believed yet.
    opening: bool,
}

impl ClockWatch {
    /// Begins to watch. `newest` is when the newest frame was received (`Millis::MIN` if there is none).
    #[must_use]
    pub fn new(newest: Millis, monotonic: Duration) -> Self {
        let believed = (newest != Millis::MIN).then_some((newest, monotonic));
        Self { believed, doubted: None, opening: true }
    }

    /// Looks at both clocks and at the newest frame; returns why nothing must go by age, if so.
    pub fn observe(&mut self, now: Millis, monotonic: Duration, newest: Millis) -> Option<Pause> {
        let jump = self.believed.map_or(0, |(wall, then)| {
            let passed = Millis::try_from(monotonic.saturating_sub(then).as_millis()).unwrap_or(Millis::MAX);
            now.saturating_sub(wall.saturating_add(passed))
        });
        let since = *self.doubted.get_or_insert(monotonic);
        if jump <= TOLERANCE || monotonic.saturating_sub(since) >= BELIEVED_AFTER {
            *self = Self { believed: Some((now, monotonic)), doubted: None, opening: false };
            let ahead = newest.saturating_sub(now);
            return (ahead > TOLERANCE).then_some(Pause::Behind(ahead));
        }
        Some(if self.opening { Pause::Stopped(jump) } else { Pause::Jumped(jump) })
    }
}
