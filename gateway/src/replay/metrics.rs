//! What is counted about readers.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::clock::{Clock, Millis};

/// Handles of the readers' metrics.
#[derive(Clone)]
pub(super) struct Metrics {
    /// WebSocket connections that are open.
    pub(super) connections: Gauge,
    /// Log subscriptions that are open.
    pub(super) readers: Gauge,
    /// Lines that are written but not yet encoded for their readers, over all readers.
    pub(super) lag: Gauge,
    /// Lines shown.
    pub(super) lines: Counter,
    /// Gaps shown.
    pub(super) gaps: Counter,
    /// Bytes given to sockets.
    pub(super) bytes: Counter,
    /// Connections that were refused.
    pub(super) refused: Counter,
    /// Requests that were answered with an error.
    pub(super) errors: Counter,
    /// Connections closed because the client was silent for too long.
    pub(super) silent: Counter,
    push_to_reader: Histogram,
    clock: Clock,
}

impl Metrics {
    /// Handles at the recorder that is installed now.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            connections: gauge!("arcgate_replay_connections"),
            readers: gauge!("arcgate_replay_readers"),
            lag: gauge!("arcgate_replay_lag_lines"),
            lines: counter!("arcgate_replay_lines_total"),
            gaps: counter!("arcgate_replay_gaps_total"),
            bytes: counter!("arcgate_replay_bytes_total"),
            refused: counter!("arcgate_replay_refused_total"),
            errors: counter!("arcgate_replay_errors_total"),
            silent: counter!("arcgate_replay_silent_total"),
            push_to_reader: histogram!("arcgate_push_to_reader_seconds"),
            clock,
        }
    }

    /// A live line that came at `arrived` has been given to a reader's socket.
    pub(super) fn shown_live(&self, arrived: Millis) {
        self.push_to_reader.record((self.clock.now() - arrived).max(0) as f64 / 1000.0);
    }
}
