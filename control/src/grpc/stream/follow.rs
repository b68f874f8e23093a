//! Following something: how it is, then each change, with no gap and no repeat between them.
//!
//! As in [`crate::engine::Watcher`], whoever follows takes its place in the channel of changes first and reads the snapshot after, which
//! says up to which change it goes. Whoever is too slow for the channel gets a new snapshot: of that it is told what is different from
//! what it was told last, so that what it hears of one thing is always in order and ends with how that thing ended.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;

use sqlx::AnyConnection;
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::Status;

use super::super::refused::of_database;
use super::Answers;
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};
use crate::engine::rows::{pipeline_status, run_is_over};
use crate::engine::{Engine, Moved, Update};

/// What is followed.
pub(super) trait Subject: Send + Sync + 'static {
    type Answer: Send + 'static;
    /// All that is watched, as it is now: what is named, or else what is not over; and what `open` names.
    fn snapshot(
        &self,
        read: &mut AnyConnection,
        open: &[String],
    ) -> impl Future<Output = Result<Vec<Entry<Self::Answer>>, DbError>> + Send;
    /// A change, if it is of what is watched.
    fn change(&self, update: &Update) -> Option<Entry<Self::Answer>>;
    /// Writes the status before into an answer.
    fn set_previous(answer: &mut Self::Answer, previous: i32);
}

/// Something that is watched, as it is at one moment.
pub(super) struct Entry<A> {
    pub(super) key: String,
    pub(super) status: i32,
    /// 0: not known.
    pub(super) previous: i32,
    pub(super) over: bool,
    pub(super) answer: A,
}

/// When a stream ends.
pub(super) enum Until {
    /// Never: there will always be more of what is watched.
    Never,
    /// When all these have ended.
    Over(Vec<String>),
    /// When this run has ended.
    RunOver(String),
}

struct Follower<S: Subject> {
    subject: S,
    database: Database,
    changes: broadcast::Receiver<Arc<Update>>,
    /// Absent: a snapshot comes next.
    seen: Option<i64>,
    /// What was told last of what is not over.
    known: HashMap<String, i32>,
    queue: VecDeque<S::Answer>,
    /// What has not ended yet; absent: it never ends.
    left: Option<HashSet<String>>,
    run: Option<String>,
    over: bool,
}

/// The stream of what is followed.
pub(super) fn follow<S: Subject>(engine: &Engine, subject: S, until: Until) -> Answers<S::Answer> {
    let (left, run) = match until {
        Until::Never => (None, None),
        Until::Over(ids) => (Some(ids.into_iter().collect()), None),
        Until::RunOver(run_id) => (Some(HashSet::from([run_id.clone()])), Some(run_id)),
    };
    let (changes, database) = (engine.changes(), engine.database().clone());
    let (known, queue) = (HashMap::new(), VecDeque::new());
    let follower = Follower { subject, database, changes, seen: None, known, queue, left, run, over: false };
    Box::pin(futures_util::stream::unfold(follower, Follower::next))
}

impl<S: Subject> Follower<S> {
    async fn next(mut self) -> Option<(Result<S::Answer, Status>, Self)> {
        loop {
            if let Some(answer) = self.queue.pop_front() {
                return Some((Ok(answer), self));
            }
            if self.over || self.left.as_ref().is_some_and(HashSet::is_empty) {
                return None;
            }
            if let Err(why) = self.go_on().await {
                self.over = true;
                return Some((Err(why), self));
            }
        }
    }

    async fn go_on(&mut self) -> Result<(), Status> {
        let Some(seen) = self.seen else { return self.look().await.map_err(|error| of_database(&error)) };
        match self.changes.recv().await {
            Ok(update) if update.seq <= seen => {}
            Ok(update) => {
                self.seen = Some(update.seq);
                if let Some(entry) = self.subject.change(&update) {
                    self.tell(entry);
                }
                if let (Moved::Run { run, .. }, Some(watched)) = (&update.what, &self.run)
                    && run.run_id == *watched
                    && run_is_over(run.status)
                {
                    self.left = Some(HashSet::new());
                }
            }
            Err(RecvError::Lagged(_)) => self.seen = None,
            Err(RecvError::Closed) => return Err(Status::unavailable("the control plane is shutting down; ask again later")),
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), DbError> {
        let mut read = self.database.read().await?;
        let seq = sqlx::query_scalar("SELECT value FROM t_counter WHERE name = 'changes'");
        let seq: Option<i64> = seq.fetch_optional(&mut *read).await?;
        let open: Vec<String> = self.known.keys().cloned().collect();
        let entries = self.subject.snapshot(&mut read, &open).await?;
        let mut missing = self.left.clone().unwrap_or_default();
        for entry in entries {
            missing.remove(&entry.key);
            let told = self.known.get(&entry.key).copied();
            if told != Some(entry.status) {
                self.tell(Entry { previous: told.unwrap_or(0), ..entry });
            }
        }
        if let Some(run_id) = &self.run {
            let run = sqlx::query("SELECT status FROM t_pipeline_run WHERE run_id = $1").bind(&**run_id);
            let open = match run.fetch_optional(&mut *read).await? {
                Some(row) => !run_is_over(pipeline_status(row.number("status")?)),
                None => false,
            };
            if open {
                missing.remove(run_id);
            }
        }
        // What does not exist, or has ended and is no longer looked for, is not waited for.
        if let Some(left) = &mut self.left {
            left.retain(|id| !missing.contains(id));
        }
        self.seen = Some(seq.unwrap_or(0));
        Ok(())
    }

    fn tell(&mut self, entry: Entry<S::Answer>) {
        let Entry { key, status, previous, over, mut answer } = entry;
        S::set_previous(&mut answer, previous);
        self.queue.push_back(answer);
        if over {
            self.known.remove(&key);
            if let Some(left) = &mut self.left {
                left.remove(&key);
            }
        } else {
            self.known.insert(key, status);
        }
    }
}
