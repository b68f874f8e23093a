//! What changes agents. Each runs inside a turn of the engine: see its rule there.

use std::collections::HashMap;

use arcgate_api::agent::v1::AgentStatus;

use super::row::AgentRow;
use crate::Millis;
use crate::db::DbError;
use crate::db::row::json;
use crate::engine::turn::Turn;
use crate::engine::{AgentMoved, Failure, Refusal};

/// How often the last sign of life of an agent is written down.
const KEEP_EVERY: Millis = 30_000;

/// A change of agents.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// A new agent shows a registration token.
    Register(Box<Newcomer>),
    /// An agent begins again.
    Return(Box<Returner>),
    Alive(Sign),
    Unregister {
        agent_id: String,
        reason: String,
    },
    Labels {
        agent_id: String,
        labels: HashMap<String, String>,
        merge: bool,
    },
    Allow {
        agent_id: String,
        /// Whether it is given work.
        enabled: Option<bool>,
        /// How many step runs it may have at once; `Some(None)`: as many as it can.
        allowed: Option<Option<i64>>,
    },
    RevokeToken {
        hash: String,
    },
    /// An agent asks for work.
    Fetch {
        agent_id: String,
        most: usize,
    },
    /// An agent has come back and said what it still executes.
    Settle {
        agent_id: String,
        told: Vec<String>,
        before: Millis,
    },
    JobReport(super::JobReport),
}

/// What was written.
#[derive(Debug)]
pub(crate) enum Written {
    /// The agent now, and the time.
    Agent(Box<AgentRow>, Millis),
    /// Whether there was anything to do.
    Done(bool),
    Work(Vec<arcgate_api::agent::v1::StepRun>, Box<AgentRow>),
}

/// What an agent says of itself when it begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Introduction {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) version: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) max_step_runs: i64,
    pub(crate) patience: Millis,
}

#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    /// Of its registration token; absent: it needs none.
    pub(crate) registration_hash: Option<String>,
    /// What it gets.
    pub(crate) agent_id: String,
    pub(crate) token_hash: String,
    pub(crate) enabled: bool,
    pub(crate) who: Introduction,
}

#[derive(Debug, Clone)]
pub(crate) struct Returner {
    pub(crate) agent_id: String,
    /// Absent: it has shown before who it is.
    pub(crate) token_hash: Option<String>,
    pub(crate) who: Introduction,
}

/// An agent is alive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sign {
    pub(crate) agent_id: String,
    /// Empty: as it was.
    pub(crate) name: String,
    /// Unspecified: as it was.
    pub(crate) status: AgentStatus,
    pub(crate) running: Option<i64>,
    pub(crate) max_step_runs: Option<i64>,
    pub(crate) patience: Millis,
}

pub(crate) async fn write(turn: &mut Turn<'_>, write: &Write) -> Result<Written, Failure> {
    let now = turn.now;
    match write {
        Write::Register(newcomer) => turn.register(newcomer).await.map(|row| Written::Agent(Box::new(row), now)),
        Write::Return(returner) => turn.come_back(returner).await.map(|row| Written::Agent(Box::new(row), now)),
        Write::Alive(sign) => turn.alive(sign).await.map(|row| Written::Agent(Box::new(row), now)),
        Write::Unregister { agent_id, reason } => turn.unregister(agent_id, reason).await.map(Written::Done),
        Write::Labels { agent_id, labels, merge } => {
            turn.change_labels(agent_id, labels, *merge).await.map(|row| Written::Agent(Box::new(row), now))
        }
        Write::Allow { agent_id, enabled, allowed } => {
            turn.allow(agent_id, *enabled, *allowed).await.map(|row| Written::Agent(Box::new(row), now))
        }
        Write::RevokeToken { hash } => {
            let text = "UPDATE t_registration_token SET is_active = 0, updated_at = $2 WHERE token_hash = $1 AND is_active = 1";
            let done = sqlx::query(text).bind(&**hash).bind(now).execute(&mut *turn.connection).await?;
            Ok(Written::Done(done.rows_affected() > 0))
        }
        Write::Fetch { agent_id, most } => {
            let row = turn.alive(&Sign { agent_id: agent_id.clone(), ..Sign::default() }).await?;
            let wish = crate::engine::Wish { agent_id: agent_id.clone(), most: *most, anew: false };
            let offered = turn.offer(&[wish]).await.map_err(Failure::after_writing)?;
            Ok(Written::Work(offered.into_iter().flat_map(|offered| offered.work).collect(), Box::new(row)))
        }
        Write::Settle { agent_id, told, before } => {
            turn.settle(agent_id, told, *before).await.map(|lost| Written::Done(lost > 0))
        }
        Write::JobReport(report) => turn.job_report(report).await.map(Written::Done),
    }
}

fn unknown(agent_id: &str) -> Failure {
    Refusal::Unknown(format!("agent {agent_id} is not known here; it must register first")).into()
}

impl Turn<'_> {
    /// An agent's row: from memory if it is there.
    async fn agent(&mut self, agent_id: &str) -> Result<AgentRow, Failure> {
        if let Some(known) = self.state.agents.get(agent_id) {
            return Ok(known.row.clone());
        }
        AgentRow::load(self.connection, agent_id).await?.ok_or_else(|| unknown(agent_id))
    }

    async fn save_agent(&mut self, row: &AgentRow) -> Result<(), DbError> {
        let text = "UPDATE t_agent SET agent_name = $2, address = $3, os = $4, arch = $5, version = $6, status = $7, labels = $8, \
                    last_heartbeat = $9, is_enabled = $10, max_step_runs = $11, allowed_step_runs = $12, running_step_runs = $13, \
                    patience = $14, updated_at = $15 WHERE agent_id = $1";
        sqlx::query(text)
            .bind(&*row.agent_id)
            .bind(&*row.name)
            .bind(&*row.address)
            .bind(&*row.os)
            .bind(&*row.arch)
            .bind(&*row.version)
            .bind(i64::from(i32::from(row.status)))
            .bind(json(&row.labels)?)
            .bind(row.last_heartbeat)
            .bind(i64::from(row.enabled))
            .bind(row.max_step_runs)
            .bind(row.allowed_step_runs)
            .bind(row.running_step_runs)
            .bind(row.patience)
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn use_registration_token(&mut self, hash: &str) -> Result<(), Failure> {
        let text = "UPDATE t_registration_token SET use_count = use_count + 1, updated_at = $2 WHERE token_hash = $1 AND is_active = 1 \
                    AND (expires_at IS NULL OR expires_at > $2) AND (max_uses <= 0 OR use_count < max_uses)";
        let used = sqlx::query(text).bind(hash).bind(self.now).execute(&mut *self.connection).await?;
        if used.rows_affected() == 0 {
            let why = "invalid registration token: it is unknown, revoked, expired or used up; ask an operator for a new one";
            return Err(Refusal::Unauthenticated(why.into()).into());
        }
        Ok(())
    }

    async fn register(&mut self, newcomer: &Newcomer) -> Result<AgentRow, Failure> {
        let Newcomer { registration_hash, agent_id, token_hash, enabled, who } = newcomer;
        // Done before, though nobody heard of it: the id is as good as the request's own.
        if let Some(row) = AgentRow::load(self.connection, agent_id).await? {
            return Ok(row);
        }
        if let Some(hash) = registration_hash {
            self.use_registration_token(hash).await?;
        }
        let text = "INSERT INTO t_agent (agent_id, agent_name, address, port, os, arch, version, status, labels, metrics, is_enabled, \
                    registered_by, token_hash, max_step_runs, created_at, updated_at) \
                    VALUES ($1, '', '', '', '', '', '', 2, '{}', '', $2, 'dynamic', $3, 1, $4, $4)";
        sqlx::query(text)
            .bind(&**agent_id)
            .bind(i64::from(*enabled))
            .bind(&**token_hash)
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        let row = AgentRow::load(self.connection, agent_id).await?.ok_or_else(|| unknown(agent_id))?;
        self.begins(row, who).await
    }

    async fn come_back(&mut self, returner: &Returner) -> Result<AgentRow, Failure> {
        let agent_id = &*returner.agent_id;
        if let Some(shown) = &returner.token_hash {
            let kept = sqlx::query_scalar("SELECT token_hash FROM t_agent WHERE agent_id = $1").bind(agent_id);
            let kept: Option<Option<String>> = kept.fetch_optional(&mut *self.connection).await?;
            if kept.flatten().as_ref() != Some(shown) {
                return Err(Refusal::Unauthenticated("invalid token: no agent has it".into()).into());
            }
        }
        let row = self.agent(agent_id).await?;
        let row = self.begins(row, &returner.who).await?;
        // Its processes went with it. What it was given and did not start is its own until the lease ends.
        self.settle(agent_id, &[], self.now.saturating_add(1)).await.map_err(Failure::after_writing)?;
        Ok(row)
    }

    async fn begins(&mut self, mut row: AgentRow, who: &Introduction) -> Result<AgentRow, Failure> {
        let from = row.status;
        let given = |text: &String, old: String| if text.is_empty() { old } else { text.clone() };
        row.name = given(&who.name, if row.name.is_empty() { row.agent_id.clone() } else { row.name });
        row.address = given(&who.address, row.address);
        row.os = given(&who.os, row.os);
        row.arch = given(&who.arch, row.arch);
        row.version = given(&who.version, row.version);
        if !who.labels.is_empty() {
            row.labels.clone_from(&who.labels);
        }
        row.max_step_runs = who.max_step_runs.max(1);
        row.patience = who.patience;
        row.status = AgentStatus::Online;
        row.running_step_runs = 0;
        row.last_heartbeat = Some(self.now);
        self.save_agent(&row).await?;
        self.is_there(&row);
        self.tell_agent(AgentMoved::Registered, from, &row, "").await?;
        Ok(row)
    }

    fn is_there(&mut self, row: &AgentRow) {
        self.state.agents.put(row.clone(), self.now);
        self.state.home_changed(&row.agent_id);
    }

    /// A sign of life; an agent that was gone is back.
    async fn alive(&mut self, sign: &Sign) -> Result<AgentRow, Failure> {
        let was_there = self.state.agents.get(&sign.agent_id).is_some();
        let mut row = self.agent(&sign.agent_id).await?;
        let old = row.clone();
        if !sign.name.is_empty() {
            row.name.clone_from(&sign.name);
        }
        row.status = match sign.status {
            AgentStatus::Busy | AgentStatus::Idle => sign.status,
            AgentStatus::Unspecified if was_there => row.status,
            _ => AgentStatus::Online,
        };
        row.max_step_runs = sign.max_step_runs.unwrap_or(row.max_step_runs);
        row.running_step_runs = sign.running.unwrap_or(row.running_step_runs);
        if sign.patience > 0 {
            row.patience = sign.patience;
        }
        let plain = |row: &AgentRow| AgentRow { running_step_runs: 0, ..row.clone() };
        let changed = !was_there || plain(&row) != plain(&old);
        if changed || row.last_heartbeat.is_none_or(|kept| self.now.saturating_sub(kept) >= KEEP_EVERY) {
            row.last_heartbeat = Some(self.now);
            self.save_agent(&row).await?;
        }
        if was_there {
            self.state.agents.put(row.clone(), self.now);
        } else {
            self.is_there(&row);
        }
        if changed {
            let what = if was_there { AgentMoved::Changed } else { AgentMoved::Online };
            self.tell_agent(what, old.status, &row, "").await?;
        }
        Ok(row)
    }

    /// Nothing was heard of an agent for as long as its patience is.
    pub(crate) async fn agent_silent(&mut self, agent_id: &str) -> Result<(), Failure> {
        let Some(known) = self.state.agents.get(agent_id) else { return Ok(()) };
        let reason = format!("nothing was heard of it for {} seconds", self.now.saturating_sub(known.seen) / 1000);
        self.goes(agent_id, AgentMoved::Offline, &reason).await
    }

    async fn unregister(&mut self, agent_id: &str, reason: &str) -> Result<bool, Failure> {
        if self.state.agents.get(agent_id).is_none() {
            return Ok(false);
        }
        let reason = if reason.is_empty() { "it said that it goes away".into() } else { format!("it went away: {reason}") };
        self.goes(agent_id, AgentMoved::Unregistered, &reason).await?;
        Ok(true)
    }

    async fn goes(&mut self, agent_id: &str, what: AgentMoved, reason: &str) -> Result<(), Failure> {
        let Some(known) = self.state.agents.remove(agent_id) else { return Ok(()) };
        let from = known.row.status;
        let row = AgentRow { status: AgentStatus::Offline, last_heartbeat: Some(known.seen), running_step_runs: 0, ..known.row };
        self.save_agent(&row).await?;
        self.tell_agent(what, from, &row, reason).await?;
        self.agent_lost(agent_id, reason).await.map_err(Failure::after_writing)
    }

    async fn change_labels(
        &mut self,
        agent_id: &str,
        labels: &HashMap<String, String>,
        merge: bool,
    ) -> Result<AgentRow, Failure> {
        let mut row = self.agent(agent_id).await?;
        let mut all = if merge { row.labels.clone() } else { HashMap::new() };
        all.extend(labels.clone());
        super::check_labels(&all)?;
        row.labels = all;
        self.changes(row).await
    }

    async fn allow(&mut self, agent_id: &str, enabled: Option<bool>, allowed: Option<Option<i64>>) -> Result<AgentRow, Failure> {
        let mut row = self.agent(agent_id).await?;
        row.enabled = enabled.unwrap_or(row.enabled);
        row.allowed_step_runs = allowed.unwrap_or(row.allowed_step_runs);
        self.changes(row).await
    }

    /// Somebody changed an agent. It is no sign of life.
    async fn changes(&mut self, row: AgentRow) -> Result<AgentRow, Failure> {
        self.save_agent(&row).await?;
        if let Some(known) = self.state.agents.get(&row.agent_id) {
            let seen = known.seen;
            self.state.agents.put(row.clone(), seen);
            self.state.home_changed(&row.agent_id);
        }
        self.tell_agent(AgentMoved::Changed, row.status, &row, "").await?;
        Ok(row)
    }
}
