//! What retention does about records that a sink has not taken: it removes and counts them, or keeps them and refuses new input.

use std::sync::Arc;

use super::feed::{weigh_events, weigh_lines};
use super::lag::Progress;
use crate::store::segment::{HeadScanned, LogKind, SegmentInfo, SegmentLog};
use crate::store::{Position, StoreError};

/// The operator's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// What is too old or too much goes, delivered or not; what was not is counted as lost.
    #[default]
    Remove,
    /// What is not delivered stays. While the store is too large for that, new input is refused.
    Refuse,
}

/// The sinks, as retention sees them. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Undelivered {
    sinks: Arc<[Arc<Progress>]>,
    policy: Policy,
}

impl Undelivered {
    /// These sinks, under this policy.
    #[must_use]
    pub fn new(sinks: Vec<Arc<Progress>>, policy: Policy) -> Self {
        Self { sinks: sinks.into(), policy }
    }

    fn of(&self, kind: LogKind) -> impl Iterator<Item = &Progress> {
        self.sinks.iter().map(AsRef::as_ref).filter(move |sink| sink.kind() == kind)
    }

    /// Segments that end after this position stay.
    #[must_use]
    pub fn keep_from(&self, kind: LogKind) -> Position {
        match self.policy {
            Policy::Remove => Position::MAX,
            Policy::Refuse => self.of(kind).map(Progress::cursor).min().unwrap_or(Position::MAX),
        }
    }

    /// The sink that keeps a log's oldest segment from being removed, if one does.
    #[must_use]
    pub fn holds_back(&self, kind: LogKind, segments: &[SegmentInfo]) -> Option<&'static str> {
        let [oldest, _, ..] = segments else { return None };
        let holding = |sink: &&Progress| self.policy == Policy::Refuse && sink.cursor() < oldest.end;
        self.of(kind).find(holding).map(Progress::name)
    }

    /// A segment is about to be removed: counts what no sink will get of it. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn leaving(&self, kind: LogKind, log: &SegmentLog, segment: &SegmentInfo) -> Result<(), StoreError> {
        for sink in self.of(kind) {
            let from = sink.accounted().max(segment.start);
            if from >= segment.end {
                continue;
            }
            let mut records = 0;
            for item in log.heads(from, segment.end) {
                if let HeadScanned::Frame(head) = item? {
                    let weight = match kind {
                        LogKind::Lines => weigh_lines(head.kind, head.body()),
                        LogKind::Events => weigh_events(head.kind, head.len),
                    };
                    records += weight.records;
                }
            }
            sink.lose(segment.end, records, segment.end - from);
            if records > 0 {
                tracing::error!(
                    sink = sink.name(),
                    records,
                    from,
                    to = segment.end,
                    "retention removes what the sink has not taken; it will never get it"
                );
            }
        }
        Ok(())
    }
}
