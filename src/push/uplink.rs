//! The thread that talks to the gateway: nothing that it waits for, disk or network, can hold up the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::event::{Identity, Pending};
use super::events::{Outboxes, Tally};
use super::notes::Notes;
use super::outbox::Shelf;
use super::session;
use super::shared::SharedSpool;
use super::target::Target;

/// A push has two events; more would be a mistake.
const EVENTS_MOST: usize = 16;
/// How long the thread may take to put down what it holds.
const LAST_WORDS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);

/// The other end of the thread.
pub(crate) struct Uplink {
    spool: SharedSpool,
    tally: Arc<Tally>,
    events: Option<mpsc::Sender<Pending>>,
    give_up: Option<oneshot::Sender<()>>,
    finished: Arc<AtomicBool>,
}

/// What did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// Lines that the gateway has not confirmed.
    pub(crate) lines: u64,
    /// Events of this push that the gateway has not confirmed.
    pub(crate) events: usize,
    /// Whether those events wait on disk for the next push to the same server.
    pub(crate) events_kept: bool,
}

impl Undelivered {
    /// Whether all arrived.
    #[must_use]
    pub(crate) fn is_nothing(&self) -> bool {
        self.lines == 0 && self.events == 0
    }
}

impl Uplink {
    /// Starts the thread. Without a target (its address or token was unusable) events go to the shelf only.
    #[must_use]
    pub(crate) fn start(target: Option<Target>, about: Identity, spool: SharedSpool, shelf: Option<Shelf>, notes: Notes) -> Self {
        let tally = Arc::new(Tally::default());
        let (events, mut incoming) = mpsc::channel(EVENTS_MOST);
        let (give_up, given_up) = oneshot::channel();
        let finished = Arc::new(AtomicBool::new(false));
        let uplink = Self {
            spool: spool.clone(),
            tally: tally.clone(),
            events: Some(events),
            give_up: Some(give_up),
            finished: finished.clone(),
        };
        let work = move || {
            let mut outboxes = Outboxes::open(shelf.as_ref(), tally, notes.clone());
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    runtime.block_on(async {
                        let deliver = async {
                            if let Some(target) = &target {
                                let (arrived, all_arrived) = oneshot::channel();
                                let lines = async {
                                    session::deliver(target, &about, &spool, &notes).await;
                                    let _ = arrived.send(());
                                };
                                tokio::join!(lines, outboxes.deliver(target, &mut incoming, &spool, all_arrived));
                            } else {
                                outboxes.keep(&mut incoming).await;
                            }
                        };
                        tokio::select! {
                            () = deliver => {}
                            _ = given_up => {}
                        }
                    });
                    // A name that is still being looked up is waited for by nobody.
                    runtime.shutdown_background();
                }
                Err(error) => notes.say(&format!("cannot push: {error}")),
            }
            while let Ok(event) = incoming.try_recv() {
                outboxes.add(event);
            }
            outboxes.close();
            finished.store(true, Ordering::Release);
        };
        // Without a thread nothing is delivered, and the report will say so.
        let _ = std::thread::Builder::new().name("arcgate-uplink".into()).spawn(work);
        uplink
    }

    /// Hands an event on; never waits.
    pub(crate) fn event(&self, event: Pending) {
        if let Some(events) = &self.events {
            self.tally.waiting.fetch_add(1, Ordering::AcqRel);
            let _ = events.try_send(event);
        }
    }

    /// No more will come: waits until all has arrived, at most `limit`; if `patient`, `limit` begins anew whenever lines arrive.
    /// Returns early when `interrupted` resolves.
    pub(crate) async fn drain(mut self, limit: Duration, patient: bool, interrupted: impl Future<Output = ()>) -> Undelivered {
        self.events = None;
        let mut deadline = Instant::now() + limit;
        let mut left = self.undelivered();
        let arrive = async {
            while !self.finished.load(Ordering::Acquire) && Instant::now() < deadline {
                sleep(TICK).await;
                let now_left = self.undelivered();
                if patient && now_left.lines < left.lines {
                    deadline = Instant::now() + limit;
                }
                left = now_left;
            }
        };
        tokio::select! {
            () = arrive => {}
            () = interrupted => {}
        }
        drop(self.give_up.take());
        let last = Instant::now() + LAST_WORDS;
        while !self.finished.load(Ordering::Acquire) && Instant::now() < last {
            sleep(Duration::from_millis(1)).await;
        }
        self.undelivered()
    }

    fn undelivered(&self) -> Undelivered {
        Undelivered {
            lines: self.spool.with(|spool| spool.undelivered()),
            events: self.tally.waiting.load(Ordering::Acquire),
            events_kept: self.tally.kept.load(Ordering::Acquire),
        }
    }
}
