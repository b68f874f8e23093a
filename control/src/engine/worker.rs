//! The one task that changes things: it gathers the requests that wait, does them in one transaction, and answers once that is durable.
//! So an idle engine answers after one commit, and a busy one shares each commit among many.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::EngineError;
use super::clock::Clock;
use super::command::{Answer, Command};
use super::error::Failure;
use super::state::State;
use super::turn::Turn;
use super::update::Update;
use crate::Millis;
use crate::db::{Database, DbError, Writer};

/// How many requests may share a transaction.
const GROUP: usize = 128;
/// How long is waited before the database is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what is due waits after it failed.
const TICK_PAUSE: Millis = 5_000;

pub(super) struct Request {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Answer, EngineError>>,
}

pub(super) struct Worker {
    pub(super) database: Database,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) requests: mpsc::Receiver<Request>,
    /// Whether it is to end, once what waits is done.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) changes: broadcast::Sender<Arc<Update>>,
    pub(super) seq: watch::Sender<i64>,
    pub(super) points: Points,
    /// What is due waits until then, since it failed.
    pub(super) ticks_from: Millis,
}

/// Where tests end the engine as a kill would.
#[derive(Clone, Default)]
pub(super) struct Points(#[cfg(test)] pub(super) Option<Arc<dyn Fn(Point) -> bool + Send + Sync>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// All is written, nothing is durable.
    BeforeCommit,
    /// All is durable, nobody knows.
    AfterCommit,
}

impl Points {
    #[cfg(test)]
    fn ends_at(&self, point: Point) -> bool {
        self.0.as_ref().is_some_and(|ends| ends(point))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have something to ask")]
    fn ends_at(&self, _: Point) -> bool {
        false
    }
}

/// The end of the worker in the middle of something.
struct Killed;

enum Served {
    Done,
    /// The connection and the state are of no more use; these requests are to be tried once more.
    Failed(Vec<Request>),
}

impl Worker {
    pub(super) async fn run(mut self, mut writer: Writer, mut state: State) {
        let mut alone: VecDeque<Request> = VecDeque::new();
        loop {
            // After a failure each request comes alone, so that one that cannot be done fails nobody else.
            let group = match alone.pop_front() {
                Some(request) => vec![request],
                None => match self.gather(&state).await {
                    Some(group) => group,
                    None => return,
                },
            };
            match self.serve(&mut writer, &mut state, group).await {
                Err(Killed) => return,
                Ok(Served::Done) => continue,
                Ok(Served::Failed(again)) => alone.extend(again),
            }
            match self.recover().await {
                Some(fresh) => (writer, state) = fresh,
                None => return,
            }
        }
    }

    /// The next requests; none for a tick; nothing at the end.
    async fn gather(&mut self, state: &State) -> Option<Vec<Request>> {
        let tick = async {
            match state.first_time() {
                Some(at) => self.clock.until(at.max(self.ticks_from)).await,
                None => std::future::pending().await,
            }
        };
        // What is due comes first, in a transaction of its own.
        let mut group = tokio::select! {
            biased;
            () = asked(&mut self.stop), if !self.requests.is_closed() => {
                self.requests.close();
                // What waits is still done.
                vec![self.requests.recv().await?]
            }
            () = tick => return Some(Vec::new()),
            first = self.requests.recv() => vec![first?],
        };
        while group.len() < GROUP
            && let Ok(more) = self.requests.try_recv()
        {
            group.push(more);
        }
        Some(group)
    }

    /// Does a group in one transaction; a group of none does what is due.
    async fn serve(&mut self, writer: &mut Writer, state: &mut State, group: Vec<Request>) -> Result<Served, Killed> {
        let now = self.clock.now();
        let commands: Vec<&Command> = group.iter().map(|request| &request.command).collect();
        let error = match self.transact(writer, state, &commands, now).await? {
            Ok(answers) => {
                for (request, answer) in group.into_iter().zip(answers) {
                    // Who asked may have gone.
                    let _ = request.answer.send(answer);
                }
                return Ok(Served::Done);
            }
            Err(error) => error,
        };
        tracing::error!(%error, requests = group.len(), "a transaction failed and was taken back");
        if group.is_empty() {
            self.ticks_from = now.saturating_add(TICK_PAUSE);
        }
        if group.len() > 1 {
            return Ok(Served::Failed(group));
        }
        for request in group {
            let _ = request.answer.send(Err(EngineError::from(&error)));
        }
        Ok(Served::Failed(Vec::new()))
    }

    async fn transact(
        &self,
        writer: &mut Writer,
        state: &mut State,
        commands: &[&Command],
        now: Millis,
    ) -> Result<Result<Vec<Result<Answer, EngineError>>, DbError>, Killed> {
        let mut updates = Vec::new();
        let done = async {
            let before = state.seq;
            let mut transaction = writer.begin().await?;
            let mut turn = Turn { connection: &mut transaction, now, state, updates: &mut updates };
            let mut answers = Vec::new();
            if commands.is_empty()
                && let Err(Failure::Database(error)) = turn.execute(&Command::Tick).await.map_err(Failure::after_writing)
            {
                return Err(error);
            }
            for command in commands {
                match turn.execute(command).await {
                    Ok(answer) => answers.push(Ok(answer)),
                    Err(Failure::Refused(why)) => answers.push(Err(EngineError::Refused(why))),
                    Err(Failure::Database(error)) => return Err(error),
                }
            }
            let seq = state.seq;
            if seq > before {
                let text = "INSERT INTO t_counter (name, value) VALUES ('changes', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                sqlx::query(text).bind(seq).execute(&mut *transaction).await?;
            }
            if self.points.ends_at(Point::BeforeCommit) {
                return Ok(None);
            }
            transaction.commit().await?;
            Ok(Some((seq, answers)))
        }
        .await;
        match done {
            Err(error) => Ok(Err(error)),
            Ok(None) => Err(Killed),
            Ok(Some(_)) if self.points.ends_at(Point::AfterCommit) => Err(Killed),
            Ok(Some((seq, answers))) => {
                #[cfg(test)]
                state.check(&self.database, now).await;
                for update in updates {
                    // Nobody may be watching.
                    let _ = self.changes.send(Arc::new(update));
                }
                self.seq.send_if_modified(|known| std::mem::replace(known, seq) != seq);
                Ok(Ok(answers))
            }
        }
    }

    /// A new connection, and the state as the database has it. Waits as long as that takes; nothing if nobody wants anything any more.
    async fn recover(&mut self) -> Option<(Writer, State)> {
        loop {
            match begin(&self.database, &*self.clock).await {
                Ok(fresh) => return Some(fresh),
                Err(error) => tracing::error!(%error, "the control plane cannot go on; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
            // Who waits is told instead of being kept waiting.
            loop {
                match self.requests.try_recv() {
                    Ok(request) => {
                        let why = "the control plane's database cannot be used now".to_owned();
                        let _ = request.answer.send(Err(EngineError::Unavailable(why)));
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return None,
                }
            }
        }
    }
}

/// Resolves when the engine is to end.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The connection that writes, and the state as the database has it.
pub(super) async fn begin(database: &Database, clock: &dyn Clock) -> Result<(Writer, State), DbError> {
    let mut writer = database.writer().await?;
    let mut transaction = writer.begin().await?;
    let state = State::load(&mut transaction, clock.now()).await?;
    transaction.commit().await?;
    Ok((writer, state))
}
