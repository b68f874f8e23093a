//! The engine: it drives runs. What the planner ([`crate::plan`]) says follows becomes rows and events, each request in one SQL
//! transaction; nothing is told to anybody before that is durable. So the program may be killed at any instant.
//!
//! | part | what it does |
//! |---|---|
//! | [`Engine`] | the handle that everything else uses |
//! | `worker` | the one task that writes: gathers requests, shares a commit among them, answers |
//! | `turn` | one request inside the transaction: the planner's changes into rows, events, memory |
//! | `state` | what is kept in memory: the queue of ready steps, due times, leases, keys, triggers; all of it read anew at the start |
//! | `trigger`, `schedules` | runs begin: by hand, by cron, by an event |
//! | `handout`, `report` | steps go out to agents with a lease; what agents say counts by a rule |
//! | `lost` | where a job stays, and what is lost with an agent |
//! | `steprun` | step runs that are made on their own, changed, removed |
//! | `feed` | the event log: the relay of the outbox, the cursor over accepted events |
//! | `artifacts` | what agents' events say of what steps made |
//! | `watching` | a snapshot, then each change |

use std::sync::Arc;
use std::time::Duration;

use arcgate_api::agent::v1 as agent;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::db::{Database, DbError};

mod artifacts;
mod clock;
pub(crate) mod command;
mod error;
mod event;
mod feed;
mod handout;
mod id;
mod locks;
mod lost;
mod ready;
mod report;
pub(crate) mod rows;
mod schedules;
pub(crate) mod specs;
pub(crate) mod state;
mod steprun;
#[cfg(test)]
pub(crate) mod tests;
mod tick;
mod trigger;
pub(crate) mod turn;
mod update;
mod watching;
mod worker;

pub use self::clock::{Clock, StillClock, SystemClock};
pub(crate) use self::command::{Answer, Command};
pub use self::command::{OfJob, OfRun, OfStep};
pub(crate) use self::error::Failure;
pub use self::error::{EngineError, Refusal};
pub use self::event::Event;
use self::feed::Effect;
pub use self::feed::{Accepted, EventFeed, EventLog, LogError, Portion, is_of_interest};
pub use self::handout::{Fetch, LEASE};
pub(crate) use self::handout::{MOST_AT_ONCE, Offered, Wish};
pub use self::report::{JobReport, Report};
pub(crate) use self::rows::is_over;
pub use self::rows::{JobRow, RunRow, StepRow};
pub use self::schedules::ScmEvent;
pub(crate) use self::steprun::OfStepRun;
pub use self::trigger::{MAX_REQUEST_ID_BYTES, Trigger, Triggered};
pub use self::update::{AgentMoved, Moved, Update};
pub use self::watching::{Seen, Snapshot, Watcher};
use self::worker::{Points, Request, Worker};

/// How often the database is put in order.
const TIDY: Duration = Duration::from_secs(1);
/// How many requests may wait; more wait outside.
const QUEUE: usize = 4_096;

/// The handle of the engine. It ends when the last handle is gone, or at [`Engine::stop`].
#[derive(Debug, Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    database: Database,
    changes: broadcast::WeakSender<Arc<Update>>,
    /// The number of the last change that is durable.
    seq: watch::Receiver<i64>,
    stop: watch::Sender<bool>,
}

impl Engine {
    /// Starts the engine on a database, with the runs that are in it. Returns the task too, which ends after the last handle:
    /// [`Self::follow`] and [`Self::relay`] hold one each until their tasks are aborted.
    ///
    /// # Errors
    /// If the database cannot be read, or another program writes to it.
    pub async fn start(database: Database, clock: Arc<dyn Clock>) -> Result<(Self, JoinHandle<()>), DbError> {
        Self::start_with(database, clock, Points::default()).await
    }

    async fn start_with(database: Database, clock: Arc<dyn Clock>, points: Points) -> Result<(Self, JoinHandle<()>), DbError> {
        let (writer, state) = worker::begin(&database, &*clock).await?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        let changes = broadcast::Sender::new(watching::CHANNEL);
        let (seq, known) = watch::channel(0);
        let (stop, wish) = watch::channel(false);
        let engine = Self { requests, database: database.clone(), changes: changes.downgrade(), seq: known, stop };
        let worker =
            Worker { database, clock, requests: receiver, stop: wish, changes, seq, points, ticks_from: crate::Millis::MIN };
        Ok((engine, tokio::spawn(worker.run(writer, state))))
    }

    /// Has it end, once what waits is done. Whatever is asked later is refused.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// All changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Arc<Update>> {
        // Of an engine that has ended there are none.
        self.changes.upgrade().map_or_else(|| broadcast::channel(1).1, |changes| changes.subscribe())
    }

    fn changed(&self) -> watch::Receiver<i64> {
        self.seq.clone()
    }

    pub(crate) async fn ended(&self) {
        self.requests.closed().await;
    }

    pub(crate) async fn ask(&self, command: Command) -> Result<Answer, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { command, answer }).await.map_err(|_| EngineError::Ended)?;
        answered.await.map_err(|_| EngineError::Ended)?
    }

    /// Keeps the database in order, until the engine ends: the caller spawns it.
    pub async fn tidy(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TIDY) => {}
                () = self.ended() => return,
            }
            if let Err(why) = self.database.keep_small().await {
                tracing::warn!(%why, "the database's log of changes grows for now");
            }
        }
    }

    async fn do_it(&self, command: Command) -> Result<(), EngineError> {
        self.ask(command).await.map(|_| ())
    }

    /// Begins a run. The same request again gives the same run.
    ///
    /// # Errors
    /// If the pipeline is unknown, disabled or has no definition that can be run.
    pub async fn trigger(&self, trigger: Trigger) -> Result<Triggered, EngineError> {
        match self.ask(Command::Trigger(trigger)).await? {
            Answer::Triggered(triggered) => Ok(triggered),
            other => Err(unexpected(&other)),
        }
    }

    /// Pauses, resumes or cancels a run.
    ///
    /// # Errors
    /// If there is none, or it is not in a state for it.
    pub async fn run(&self, run_id: &str, what: OfRun) -> Result<(), EngineError> {
        self.do_it(Command::Run { run_id: run_id.to_owned(), what }).await
    }

    /// Approves, rejects or cancels a job.
    ///
    /// # Errors
    /// If there is none, or it is not in a state for it.
    pub async fn job(&self, run_id: &str, job: &str, what: OfJob) -> Result<(), EngineError> {
        self.do_it(Command::Job { run_id: run_id.to_owned(), job: job.to_owned(), what }).await
    }

    /// Cancels a step run.
    ///
    /// # Errors
    /// If there is none, or it is over.
    pub async fn cancel_step(&self, step_run_id: &str, reason: String) -> Result<(), EngineError> {
        self.do_it(Command::Step { step_run_id: step_run_id.to_owned(), what: OfStep::Cancel(reason) }).await
    }

    /// Runs a step again that ended badly, after its run's end. Gives the id of its new step run.
    ///
    /// # Errors
    /// If there is none, or it cannot run again.
    pub async fn retry_step(&self, step_run_id: &str, reason: String) -> Result<String, EngineError> {
        match self.ask(Command::Step { step_run_id: step_run_id.to_owned(), what: OfStep::Retry(reason) }).await? {
            Answer::Again(new) => Ok(new),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an agent steps to execute: see [`LEASE`].
    ///
    /// # Errors
    /// If the engine cannot do anything.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Vec<agent::StepRun>, EngineError> {
        match self.ask(Command::Fetch(fetch)).await? {
            Answer::Given(given) => Ok(given),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a report. Whether it changed something.
    ///
    /// # Errors
    /// If it does not count, and whoever sent it must not go on.
    pub async fn report(&self, report: Report) -> Result<bool, EngineError> {
        match self.ask(Command::Report(report)).await? {
            Answer::Reported(changed) => Ok(changed),
            other => Err(unexpected(&other)),
        }
    }

    /// An agent is gone for good: what it started is lost, what it had not started goes to others.
    ///
    /// # Errors
    /// If the engine cannot do anything.
    pub async fn agent_lost(&self, agent_id: &str, reason: &str) -> Result<(), EngineError> {
        self.do_it(Command::AgentLost { agent_id: agent_id.to_owned(), reason: reason.to_owned() }).await
    }

    /// Gives work to agents on channels.
    pub(crate) async fn offer(&self, wishes: Vec<Wish>) -> Result<Vec<Offered>, EngineError> {
        match self.ask(Command::Offer(wishes)).await? {
            Answer::Offered(offered) => Ok(offered),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes, changes or removes a step run. Its id.
    pub(crate) async fn step_run(&self, what: OfStepRun) -> Result<String, EngineError> {
        match self.ask(Command::StepRun(what)).await? {
            Answer::Again(id) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    async fn accept(&self, effects: Vec<Effect>, after: Option<String>, next: String) -> Result<(), EngineError> {
        self.do_it(Command::Accepted { effects, after, next }).await
    }

    async fn relayed(&self, seq: i64) -> Result<(), EngineError> {
        self.do_it(Command::Relayed { seq }).await
    }
}

/// Each command has its answer.
pub(crate) fn unexpected(answer: &Answer) -> EngineError {
    EngineError::Broken(format!("the engine answered something else: {answer:?}"))
}
