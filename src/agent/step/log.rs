//! A step run's log: its lines without secrets, on their way to the gateway.

use std::sync::Arc;
use std::time::Duration;

use arcgate_api::agent::v1::StepRun;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{LOG_FIRST, LOG_LATER};
use crate::agent::Shared;
use crate::agent::desk::Report;
use crate::agent::events::About;
use crate::agent::mask::Mask;
use crate::agent::stop::Why;
use crate::push::event::Identity;
use crate::push::notes::Notes;
use crate::push::session;
use crate::push::shared::SharedSpool;
use crate::push::spool::{SPOOL_BYTES, Stream};

/// What the logs of all step runs may hold together while the gateway is away, as far as [`LEAST_BYTES`] allows.
const ALL_BYTES: usize = 256 << 20;
/// What each may hold: some of the longest lines.
const LEAST_BYTES: usize = 16 << 20;
/// How often it is looked whether the log has arrived.
const TICK: Duration = Duration::from_millis(5);
/// How long an agent that ends still sends lines.
const LAST_LINES: Duration = Duration::from_secs(5);

/// See the module's head.
pub(in crate::agent) struct StepLog {
    spool: SharedSpool,
    mask: Arc<Mask>,
    delivery: JoinHandle<()>,
}

impl StepLog {
    /// Begins to deliver.
    pub(super) fn open(shared: &Arc<Shared>, step: &StepRun, mask: Arc<Mask>) -> Self {
        let spool = SharedSpool::new((ALL_BYTES / shared.options.max_step_runs.max(1)).clamp(LEAST_BYTES, SPOOL_BYTES));
        let about = Identity {
            agent_id: shared.own.agent_id.clone(),
            step_run_id: step.step_run_id.clone(),
            pipeline_id: step.pipeline_id.clone(),
        };
        let (target, lines) = (shared.target.clone(), spool.clone());
        let delivery = tokio::spawn(async move { session::deliver(&target, &about, &lines, &Notes::default()).await });
        Self { spool, mask, delivery }
    }

    /// One that goes nowhere; what it holds is given by [`Self::text`].
    #[cfg(test)]
    pub(in crate::agent) fn unsent(mask: Mask) -> Self {
        let delivery = tokio::spawn(std::future::pending());
        let spool = SharedSpool::new(LEAST_BYTES);
        spool.with(|spool| spool.meet(1, 0));
        Self { spool, mask: Arc::new(mask), delivery }
    }

    #[cfg(test)]
    pub(in crate::agent) fn text(&self) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = self.spool.with(|spool| spool.take(crate::time::Millis::MAX)) {
            text.extend_from_slice(&chunk.bytes);
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// For threads that read what a program writes.
    pub(super) fn parts(&self) -> (SharedSpool, Arc<Mask>) {
        (self.spool.clone(), self.mask.clone())
    }

    /// What is told apart from the step's own output: the agent's words, on stderr.
    pub(in crate::agent) fn say(&self, text: &str) {
        self.write(Stream::Stderr, &format!("arcgate: {text}"));
    }

    /// Lines of the step, by a plugin of this program.
    pub(in crate::agent) fn write(&self, stream: Stream, text: &str) {
        let mut text = self.mask.text(text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        // Few and short: they never wait for room.
        self.spool.push(stream, text.as_bytes());
    }

    /// No more lines will come. Returns when the gateway knows that and has them all on disk, or has taken too long; then the lines still
    /// go, and the event that says that all is over goes behind them. False: the agent ends, and nothing is to be reported.
    pub(super) async fn finish(
        self,
        shared: &Arc<Shared>,
        about: &About,
        report: &Report,
        took: Duration,
        mut told: watch::Receiver<Option<Why>>,
    ) -> bool {
        self.spool.end();
        let mut connected = shared.connected.subscribe();
        let mut since = Instant::now();
        while !self.has_arrived() && since.elapsed() < LOG_FIRST {
            // Without a channel nobody could hear the report either.
            let away = !*connected.borrow_and_update();
            tokio::select! {
                _ = connected.changed(), if away => since = Instant::now(),
                () = sleep(TICK), if !away => {}
                () = leaving(&mut told) => {
                    self.abandon().await;
                    return false;
                }
            }
        }
        let all = self.has_arrived();
        let finished = about.finished(report, took);
        if all {
            shared.courier.send(finished.clone());
        } else {
            shared.diary.say(&format!("the log of step run {} has not arrived; it is reported all the same", report.step_run_id));
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut delivery = self.delivery;
            if timeout(LOG_LATER, &mut delivery).await.is_err() {
                delivery.abort();
            }
            if !all {
                shared.courier.send(finished);
            }
        });
        true
    }

    /// The agent ends: what there is may go, for a moment.
    pub(super) async fn abandon(mut self) {
        self.spool.end();
        if timeout(LAST_LINES, &mut self.delivery).await.is_err() {
            self.delivery.abort();
        }
    }

    /// Whether the gateway has all lines on disk, and knows that there are no more: then nobody's end takes one of them back.
    fn has_arrived(&self) -> bool {
        self.spool.with(|spool| spool.is_done())
    }
}

/// Resolves when the agent ends.
async fn leaving(told: &mut watch::Receiver<Option<Why>>) {
    if told.wait_for(|why| *why == Some(Why::Leaving)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
