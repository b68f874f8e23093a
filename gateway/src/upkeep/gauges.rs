//! What the upkeep shows in the metrics.

use metrics::{counter, gauge};

use crate::budget::Budget;
use crate::store::disk::Space;
use crate::store::index::Index;
use crate::store::lines::LineStore;
use crate::store::retention::Report;
use crate::store::segment::SegmentLog;

pub(super) struct Gauges {
    budgets: Vec<(&'static str, Budget)>,
}

impl Gauges {
    pub(super) fn new(budgets: Vec<(&'static str, Budget)>) -> Self {
        gauge!("arcgate_retention_paused").set(0.0);
        for log in ["lines", "events"] {
            counter!("arcgate_retention_removed_bytes_total", "log" => log).absolute(0);
        }
        for (cursor, _) in super::CURSORS {
            counter!("arcgate_retention_undelivered_total", "cursor" => *cursor).absolute(0);
        }
        Self { budgets }
    }

    /// Shows how things stand.
    pub(super) fn show(&self, lines: &LineStore, events: &SegmentLog, index: &dyn Index, space: Option<Space>, poisoned: bool) {
        let size = |log: &SegmentLog| log.appended().saturating_sub(log.start()) as f64;
        gauge!("arcgate_store_bytes", "log" => "lines").set(size(lines.log()));
        gauge!("arcgate_store_bytes", "log" => "events").set(size(events));
        gauge!("arcgate_store_bytes", "log" => "index").set(index.bytes() as f64);
        if let Some(space) = space {
            gauge!("arcgate_store_free_bytes").set(space.free as f64);
        }
        gauge!("arcgate_store_poisoned").set(f64::from(u8::from(poisoned)));
        gauge!("arcgate_open_streams").set(lines.open_streams() as f64);
        for (queue, budget) in &self.budgets {
            gauge!("arcgate_queue_bytes", "queue" => *queue).set(budget.used() as f64);
        }
    }

    /// Shows what retention did.
    pub(super) fn report(&mut self, report: &Report) {
        gauge!("arcgate_dedup_window_seconds").set(report.dedup_window as f64 / 1000.0);
        gauge!("arcgate_retention_paused").set(f64::from(u8::from(report.paused.is_some())));
        for (log, removed) in [("lines", report.lines), ("events", report.events)] {
            counter!("arcgate_retention_removed_bytes_total", "log" => log).increment(removed.bytes);
        }
    }
}

/// Counts what retention removed before a cursor had read it.
pub(super) fn count_undelivered(cursor: &'static str, bytes: u64) {
    counter!("arcgate_retention_undelivered_total", "cursor" => cursor).increment(bytes);
}
