//! The event log as the control plane sees it: what others wrote is read by a durable cursor, its own events are appended by a relay.
//!
//! The binary joins both to the data plane's event log. The cursor lives in SQL, in the transaction of its effects: an accepted event
//! has its effects once, however often the program is killed. The relay appends at least once; repeats have the same id, which the event
//! log knows ([`super::Event`]).

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::artifacts::{self, Artifact};
use super::error::Failure;
use super::event::Event;
use super::schedules::ScmEvent;
use super::turn::Turn;
use super::{Engine, EngineError};
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::pipelines::Repositories;

/// The name of the control plane's cursor over the event log.
const CURSOR: &str = "events";
/// Events about source code.
const SCM: &str = "arcentra.scm.";
/// How many events are appended at once.
const AT_ONCE: i64 = 500;
/// How long is waited before something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// A cursor is kept after so many events that mean nothing here.
const KEEP_AFTER: usize = 10_000;

/// Why the event log cannot be read or written for now.
#[derive(Debug, thiserror::Error)]
#[error("the event log: {0}")]
pub struct LogError(pub String);

/// The event log, to append to.
pub trait EventLog: Send + Sync + 'static {
    /// Appends events in this order. Returns once they are durable; an event whose id is there already adds nothing.
    fn append(&self, events: Vec<Event>) -> impl Future<Output = Result<(), LogError>> + Send;
}

/// Whether the control plane does something about events of this type; others need not be given to it.
#[must_use]
pub fn is_of_interest(event_type: &str) -> bool {
    event_type.starts_with(SCM) || artifacts::tells(event_type)
}

/// What follows from an accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Scm(ScmEvent),
    Artifact(Artifact),
}

fn effect(accepted: &Accepted) -> Option<Effect> {
    if artifacts::tells(&accepted.event_type) {
        artifacts::of(accepted).map(Effect::Artifact)
    } else {
        scm_event(accepted).map(Effect::Scm)
    }
}

/// An accepted event.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Who sent it.
    pub agent_id: String,
    /// Its id.
    pub event_id: String,
    /// The step run that it is about, as its sender says beside the payload; may be empty.
    pub step_run_id: String,
    /// Its type.
    pub event_type: String,
    /// The CloudEvent as JSON.
    pub payload: Vec<u8>,
}

/// Some events, and the cursor behind them.
#[derive(Debug, Clone)]
pub struct Portion {
    /// Those [of interest](is_of_interest), in order; at most a few thousand.
    pub events: Vec<Accepted>,
    /// How many there are, of interest or not.
    pub passed: usize,
    /// Where to read on.
    pub next: String,
}

/// The event log, to read from.
pub trait EventFeed: Send + Sync + 'static {
    /// Reads on behind a cursor, from the begin without one. Waits until there is something.
    fn read(&self, after: Option<String>) -> impl Future<Output = Result<Portion, LogError>> + Send;
}

impl Turn<'_> {
    pub(super) async fn accepted(&mut self, effects: &[Effect], after: Option<&str>, next: &str) -> Result<(), Failure> {
        let cursor = sqlx::query_scalar("SELECT position FROM t_cursor WHERE name = $1").bind(CURSOR);
        let cursor: Option<String> = cursor.fetch_optional(&mut *self.connection).await?;
        // Done before, though nobody heard of it.
        if cursor.as_deref() != after {
            return Ok(());
        }
        for effect in effects {
            match effect {
                Effect::Scm(event) => self.source_changed(event).await?,
                Effect::Artifact(artifact) => self.keep_artifact(artifact).await?,
            }
        }
        let text =
            "INSERT INTO t_cursor (name, position) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET position = excluded.position";
        sqlx::query(text).bind(CURSOR).bind(next).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// An agent runs steps of whoever's code: it does not begin runs.
    async fn source_changed(&mut self, event: &ScmEvent) -> Result<(), Failure> {
        let agent = sqlx::query_scalar("SELECT agent_name FROM t_agent WHERE agent_id = $1").bind(&*event.sender);
        let agent: Option<String> = agent.fetch_optional(&mut *self.connection).await?;
        if agent.is_some() {
            tracing::warn!(agent = event.sender, event = event.event_id, "an agent's event about source code fires nothing");
            return Ok(());
        }
        self.fire_event(event).await
    }
}

impl Engine {
    async fn cursor(&self) -> Result<Option<String>, DbError> {
        let mut read = self.database().read().await?;
        let cursor = sqlx::query_scalar("SELECT position FROM t_cursor WHERE name = $1").bind(CURSOR);
        Ok(cursor.fetch_optional(&mut *read).await?)
    }

    /// Follows the event log until the engine ends: the caller spawns it.
    pub async fn follow(self, feed: Arc<impl EventFeed>) {
        let repositories = Repositories::new(self.clone());
        loop {
            match self.follow_once(&*feed, &repositories).await {
                Err(Stop::Ended) => return,
                Err(Stop::Failed(why)) => tracing::warn!(%why, "accepted events are not followed for now; trying again"),
                Ok(never) => match never {},
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow_once(&self, feed: &impl EventFeed, repositories: &Repositories) -> Result<std::convert::Infallible, Stop> {
        let mut kept = self.cursor().await.map_err(|error| Stop::Failed(error.to_string()))?;
        let mut at = kept.clone();
        let mut passed = 0;
        loop {
            let portion = tokio::select! {
                portion = feed.read(at) => portion.map_err(|error| Stop::Failed(error.to_string()))?,
                () = self.ended() => return Err(Stop::Ended),
            };
            let effects: Vec<Effect> = portion.events.iter().filter_map(effect).collect();
            passed += portion.passed;
            at = Some(portion.next.clone());
            if effects.is_empty() && passed < KEEP_AFTER {
                continue;
            }
            let project = |effect: &Effect| match effect {
                Effect::Scm(event) => Some(event.project_id.clone()).filter(|id| !id.is_empty()),
                Effect::Artifact(_) => None,
            };
            let projects: BTreeSet<String> = effects.iter().filter_map(project).collect();
            for project in projects {
                // What begins now shall be what was pushed.
                repositories.sync_soon(&project).await;
            }
            self.accept(effects, kept.clone(), portion.next.clone()).await?;
            kept.clone_from(&at);
            passed = 0;
        }
    }

    /// Appends the outbox to the event log, until the engine ends: the caller spawns it.
    pub async fn relay(self, log: Arc<impl EventLog>) {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            match self.relay_once(&*log, &mut changed).await {
                Err(Stop::Ended) => return,
                Err(Stop::Failed(why)) => {
                    tracing::warn!(%why, "the control plane's events wait; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(()) => {}
            }
        }
    }

    /// Appends what waits, and then waits for more.
    async fn relay_once(&self, log: &impl EventLog, changed: &mut watch::Receiver<i64>) -> Result<(), Stop> {
        let events = self.outbox().await.map_err(|error| Stop::Failed(error.to_string()))?;
        let Some(last) = events.last().map(|event| event.seq) else {
            return changed.changed().await.map_err(|_| Stop::Ended);
        };
        log.append(events).await.map_err(|error| Stop::Failed(error.to_string()))?;
        Ok(self.relayed(last).await?)
    }

    async fn outbox(&self) -> Result<Vec<Event>, DbError> {
        let mut read = self.database().read().await?;
        let text = "SELECT seq, event_id, event_type, payload FROM t_outbox ORDER BY seq LIMIT $1";
        let rows = sqlx::query(text).bind(AT_ONCE).fetch_all(&mut *read).await?;
        let event = |row: &sqlx::any::AnyRow| -> Result<_, DbError> {
            let (seq, event_id) = (row.number("seq")?, row.text("event_id")?);
            Ok(Event { seq, event_id, event_type: row.text("event_type")?, payload: row.text("payload")? })
        };
        rows.iter().map(event).collect()
    }
}

enum Stop {
    Ended,
    Failed(String),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        if error == EngineError::Ended { Self::Ended } else { Self::Failed(error.to_string()) }
    }
}

/// An event's content, from the inside out: `data` of a payload that was no envelope itself, `data`, the envelope. Whatever is looked for
/// may stand in each of them.
pub(super) fn levels(envelope: &Value) -> [&Value; 3] {
    let data = &envelope["data"];
    [&data["data"], data, envelope]
}

/// What an accepted event says of the source code, if it does.
fn scm_event(accepted: &Accepted) -> Option<ScmEvent> {
    let kind = accepted.event_type.strip_prefix(SCM)?;
    let envelope: Value = match serde_json::from_slice(&accepted.payload) {
        Ok(envelope) => envelope,
        Err(why) => {
            tracing::warn!(event = accepted.event_id, %why, "an event about source code has no readable content and fires nothing");
            return None;
        }
    };
    let text = |names: &[&str]| {
        let found = levels(&envelope).into_iter().find_map(|level| names.iter().find_map(|name| level[*name].as_str()));
        found.unwrap_or_default().to_owned()
    };
    Some(ScmEvent {
        event_id: accepted.event_id.clone(),
        sender: accepted.agent_id.clone(),
        kind: kind.to_owned(),
        project_id: text(&["project", "projectId", "project_id"]),
        reference: text(&["ref", "branch", "reference"]),
        commit: text(&["commit", "commitSha", "commit_sha", "after"]),
    })
}
