//! What is counted about readers.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

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
}

impl Metrics {
    /// Handles at the recorder that is installed now.
    pub(super) fn new() -> Self {
        describe_gauge!("arcgate_replay_connections", "WebSocket connections that are open");
        describe_gauge!("arcgate_replay_readers", "Log subscriptions that are open");
        describe_gauge!("arcgate_replay_lag_lines", "Lines written but not yet sent to their readers, summed over all readers");
        describe_counter!("arcgate_replay_lines_total", "Lines sent to readers");
        describe_counter!("arcgate_replay_gaps_total", "Gap entries sent to readers");
        describe_counter!("arcgate_replay_bytes_total", "Bytes sent to readers");
        describe_counter!("arcgate_replay_refused_total", "WebSocket connections refused: no valid token, or too many");
        describe_counter!("arcgate_replay_errors_total", "WebSocket requests answered with an error");
        describe_counter!("arcgate_replay_silent_total", "WebSocket connections closed because the client was silent");
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
        }
    }
}
