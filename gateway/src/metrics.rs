//! What each metric of the data plane says: the help texts that `/metrics` shows.
//!
//! Names are `arcgate_<noun>_<unit>`, counters end in `_total`; labels are few and never name a step run or an agent.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes them all at the recorder that is installed now.
pub(crate) fn describe() {
    describe_input();
    describe_store();
    describe_upkeep();
    describe_sinks();
    describe_replay();
}

fn describe_sinks() {
    describe_gauge!(
        "arcgate_sink_lag_records",
        "Records (lines, gaps, ends of logs; events) that wait for a sink; not shown until those from before the start are counted"
    );
    describe_gauge!("arcgate_sink_lag_bytes", Unit::Bytes, "Bytes of the log that wait for a sink");
    describe_gauge!("arcgate_sink_lag_seconds", Unit::Seconds, "Age of the oldest batch that a sink has not confirmed");
    describe_counter!("arcgate_sink_delivered_total", "Records that a sink has confirmed, dead letters included");
    describe_counter!("arcgate_sink_delivered_bytes_total", Unit::Bytes, "Bytes of text or events in them");
    describe_counter!("arcgate_sink_retries_total", "Batches, or parts of one, that a sink is sent again");
    describe_counter!("arcgate_sink_errors_total", "Failures of a sink by kind: transient, not_ready, permanent");
    describe_counter!("arcgate_sink_deadletters_total", "Records that a sink will never take, kept as dead letters");
    describe_gauge!("arcgate_sink_deadletters", "Dead letters that are kept now");
    describe_counter!("arcgate_sink_deadletters_dropped_total", "Dead letters that had to go because there were too many");
    describe_counter!("arcgate_sink_lost_records_total", "Records that retention removed before a sink had them");
    describe_counter!(
        "arcgate_sink_lost_bytes_total",
        Unit::Bytes,
        "Bytes of the log that retention removed before a sink had them"
    );
    describe_histogram!("arcgate_sink_batch_seconds", Unit::Seconds, "From the first send of a batch to its confirmation");
}

fn describe_input() {
    describe_gauge!("arcgate_grpc_connections", "Agents' connections that are open");
    describe_gauge!("arcgate_open_streams", "Log streams in memory: written to lately, or read");
    describe_gauge!(
        "arcgate_queue_bytes",
        Unit::Bytes,
        "Memory in use by queue: messages being received, lines on their way to the log"
    );
    describe_counter!("arcgate_log_bytes_total", Unit::Bytes, "Bytes of log batches as they came, compressed or not");
    describe_counter!("arcgate_lines_total", "Log lines by protocol and what became of them: taken, repeated, late, dropped");
    describe_counter!("arcgate_log_batches_rejected_total", "Log batches of which nothing was taken");
    describe_histogram!("arcgate_log_batch_lines", "Lines in one log batch");
    describe_counter!(
        "arcgate_events_total",
        "Events by protocol and what became of them: taken, repeated, conflict (a repeat with other content), rejected"
    );
    describe_histogram!(
        "arcgate_push_to_reader_seconds",
        Unit::Seconds,
        "From the arrival of a line to its reader's socket, for readers that have caught up"
    );
    describe_histogram!("arcgate_ack_seconds", Unit::Seconds, "From the arrival of a batch to its answer");
}

fn describe_store() {
    describe_histogram!("arcgate_line_write_bytes", Unit::Bytes, "Size of one write to the line log");
    describe_histogram!("arcgate_sync_seconds", Unit::Seconds, "Duration of one sync, by log");
    describe_histogram!("arcgate_commit_events", "Events in one commit to the event log");
    describe_histogram!("arcgate_commit_bytes", Unit::Bytes, "Size of one commit to the event log");
}

fn describe_upkeep() {
    describe_gauge!("arcgate_store_bytes", Unit::Bytes, "What the store takes on disk: line log, event log, index");
    describe_gauge!("arcgate_store_free_bytes", Unit::Bytes, "What is free on the store's file system");
    describe_counter!("arcgate_store_damaged_reads_total", "Blocks of lines that a reader or a sink found damaged");
    describe_gauge!("arcgate_store_poisoned", "1 if a failed write or sync keeps the store from taking input until a restart");
    describe_gauge!("arcgate_dedup_window_seconds", Unit::Seconds, "Repeats are known of every event that is at most this old");
    describe_gauge!("arcgate_retention_paused", "1 if nothing is removed by age because the clock cannot be trusted");
    describe_counter!("arcgate_retention_removed_bytes_total", Unit::Bytes, "Bytes that retention removed, by log");
    describe_counter!(
        "arcgate_retention_undelivered_total",
        Unit::Bytes,
        "Bytes that retention removed before a cursor had read them"
    );
}

fn describe_replay() {
    describe_gauge!("arcgate_replay_connections", "WebSocket connections that are open");
    describe_gauge!("arcgate_replay_readers", "Log subscriptions that are open");
    describe_gauge!("arcgate_replay_lag_lines", "Lines written but not yet sent to their readers, summed over all readers");
    describe_counter!("arcgate_replay_lines_total", "Lines sent to readers");
    describe_counter!("arcgate_replay_gaps_total", "Gap entries sent to readers");
    describe_counter!("arcgate_replay_bytes_total", Unit::Bytes, "Bytes sent to readers");
    describe_counter!("arcgate_replay_refused_total", "WebSocket connections refused: no valid token, or too many");
    describe_counter!("arcgate_replay_errors_total", "WebSocket requests answered with an error");
    describe_counter!("arcgate_replay_silent_total", "WebSocket connections closed because the client was silent");
}
