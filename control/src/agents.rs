//! Agents: who they are, whether they are there, what they are given, what they say.
//!
//! | part | what it does |
//! |---|---|
//! | [`Agents`] | what the calls of agents come to |
//! | [`Caller`] | who calls, and what they may |
//! | `write` | changes of agents, each in a turn of the engine |
//! | `live` | the agents that are there, in memory |
//! | `token` | registration tokens and agents' own: only hashes are kept |
//! | `list` | all agents and what they execute, as the database has it |
//! | `channels` | agents that hold a channel open, and what is pushed to them |
//! | `lookup` | whose step run something is |
//!
//! How steps go out and what is lost with an agent is the engine's: [`crate::engine`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arcgate_api::agent::v1 as pb;
use tokio::task::JoinHandle;

use crate::Millis;
use crate::engine::{Answer, Command, Engine, EngineError, Refusal, Report, unexpected};

mod caller;
mod channels;
mod list;
mod live;
mod lookup;
mod row;
mod token;
mod write;

pub use self::caller::{Caller, Role};
pub(crate) use self::channels::{Asked, Channels, Closed, Down, Held};
pub use self::list::{Execution, ListedAgent};
pub(crate) use self::live::Live;
pub use self::lookup::StepRunPlace;
pub use self::row::AgentRow;
pub use self::token::{NewApiToken, NewRegistrationToken};
use self::write::{Introduction, Newcomer, Returner};
pub(crate) use self::write::{Sign, Write, Written, write};
pub use crate::engine::JobReport;

/// How many labels an agent may have.
const MOST_LABELS: usize = 64;
/// How long a label's name and value may be, in bytes.
const LONGEST_LABEL: (usize, usize) = (253, 1_024);
/// How long another text of an agent may be, in bytes.
const LONGEST_TEXT: usize = 1_024;

/// What agents are told to do, and how they are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentSettings {
    /// How often an agent is to give a sign of life, in seconds.
    pub heartbeat_interval: i64,
    /// After how many milliseconds of silence it counts as gone.
    pub patience: Millis,
    /// Whether a new agent is given work without anybody's approval.
    pub auto_approve: bool,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { heartbeat_interval: 60, patience: 180_000, auto_approve: true }
    }
}

/// The handle of everything about agents.
#[derive(Debug, Clone)]
pub struct Agents {
    engine: Engine,
    settings: AgentSettings,
    channels: Arc<Channels>,
    /// Agents that have shown their own token since the start.
    shown: Arc<ShownTokens>,
}

#[expect(clippy::disallowed_types, reason = "held for less than a microsecond, once a call")]
type ShownTokens = parking_lot::Mutex<HashSet<String>>;

/// What an agent gets when it registers.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) row: AgentRow,
    /// Its own token, the one time that it is told.
    pub(crate) token: Option<String>,
}

impl Agents {
    /// Begins to serve agents. The task pushes work to those on channels; like [`Engine::follow`] it holds the engine until it is
    /// aborted.
    #[must_use]
    pub fn start(engine: Engine, settings: AgentSettings) -> (Self, JoinHandle<()>) {
        let (channels, wishes) = Channels::new();
        let channels = Arc::new(channels);
        let task = tokio::spawn(channels::dispatch(engine.clone(), channels.clone(), wishes));
        (Self { engine, settings, channels, shown: Arc::default() }, task)
    }

    /// Whose steps they execute.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// An agent has shown its own token: from now on it does not come without.
    pub(crate) fn note_token_shown(&self, agent_id: &str) {
        let mut shown = self.shown.lock();
        if !shown.contains(agent_id) {
            shown.insert(agent_id.to_owned());
        }
    }

    pub(crate) fn has_shown_token(&self, agent_id: &str) -> bool {
        self.shown.lock().contains(agent_id)
    }

    /// What agents are told to do.
    #[must_use]
    pub fn settings(&self) -> AgentSettings {
        self.settings
    }

    async fn write(&self, write: Write) -> Result<Written, EngineError> {
        match self.engine.ask(Command::Agent(write)).await? {
            Answer::Agent(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    async fn changed(&self, write: Write) -> Result<(AgentRow, Millis), EngineError> {
        match self.write(write).await? {
            Written::Agent(row, now) => Ok((*row, now)),
            other => Err(odd(&other)),
        }
    }

    async fn done(&self, write: Write) -> Result<bool, EngineError> {
        match self.write(write).await? {
            Written::Done(done) => Ok(done),
            other => Err(odd(&other)),
        }
    }

    /// A new agent, or one that begins again. **An agent registers when its process begins**: what it had started before is lost. One
    /// that lost only its connection connects again and does not register.
    pub(crate) async fn register(&self, caller: Option<&Caller>, asked: pb::RegisterRequest) -> Result<Registered, EngineError> {
        let pb::RegisterRequest { agent_id, token, registration_token, labels, .. } = &asked;
        check_labels(labels)?;
        let who = Introduction {
            name: text("agent_name", &asked.agent_name)?,
            address: text("ip", &asked.ip)?,
            os: text("os", &asked.os)?,
            arch: text("arch", &asked.arch)?,
            version: text("version", &asked.version)?,
            labels: labels.clone(),
            max_step_runs: i64::from(asked.max_concurrent_step_runs),
            patience: self.settings.patience,
        };
        // Where nobody has to show who they are, agents need not either.
        let is_free = matches!(caller, Some(Caller::Anyone)) && token.is_empty();
        if !registration_token.is_empty() || is_free {
            let id = token::agent_id();
            let own = token::of_agent(&id);
            let newcomer = Newcomer {
                registration_hash: (!registration_token.is_empty()).then(|| token::hash(registration_token)),
                agent_id: id,
                token_hash: token::hash(&own),
                enabled: self.settings.auto_approve,
                who,
            };
            let (row, _) = self.changed(Write::Register(Box::new(newcomer))).await?;
            return Ok(Registered { row, token: Some(own) });
        }
        let (id, token_hash) = if !token.is_empty() {
            let Some((id, _)) = token.split_once(':').filter(|(id, signature)| !id.is_empty() && !signature.is_empty()) else {
                return Err(invalid("token is not of the form <agent_id>:<signature>"));
            };
            if !agent_id.is_empty() && agent_id != id {
                return Err(invalid(format!("the token is agent {id}'s, and agent_id is {agent_id}")));
            }
            (id.to_owned(), Some(token::hash(token)))
        } else if let Some(Caller::Agent(id)) = caller {
            if !agent_id.is_empty() && agent_id != id {
                return Err(invalid(format!("the token is agent {id}'s, and agent_id is {agent_id}")));
            }
            (id.clone(), None)
        } else {
            return Err(invalid("registration_token or token is required"));
        };
        let (row, _) = self.changed(Write::Return(Box::new(Returner { agent_id: id, token_hash, who }))).await?;
        Ok(Registered { row, token: None })
    }

    /// A sign of life. The agent, and the time.
    pub(crate) async fn alive(&self, sign: Sign) -> Result<(AgentRow, Millis), EngineError> {
        text("agent_name", &sign.name)?;
        self.changed(Write::Alive(Sign { patience: self.settings.patience, ..sign })).await
    }

    /// An agent goes away. Whether it was there.
    pub(crate) async fn unregister(&self, agent_id: &str, reason: &str) -> Result<bool, EngineError> {
        let reason = text("reason", reason)?;
        self.done(Write::Unregister { agent_id: agent_id.to_owned(), reason }).await
    }

    /// Changes an agent's labels, which take effect on what waits.
    pub(crate) async fn update_labels(
        &self,
        agent_id: &str,
        labels: HashMap<String, String>,
        merge: bool,
    ) -> Result<AgentRow, EngineError> {
        let (row, _) = self.changed(Write::Labels { agent_id: agent_id.to_owned(), labels, merge }).await?;
        Ok(row)
    }

    /// Says whether an agent is given work. Without, it ends the jobs that it has begun.
    ///
    /// # Errors
    /// If there is no such agent.
    pub async fn approve(&self, agent_id: &str, enabled: bool) -> Result<AgentRow, EngineError> {
        let write = Write::Allow { agent_id: agent_id.to_owned(), enabled: Some(enabled), allowed: None };
        Ok(self.changed(write).await?.0)
    }

    /// Says how many step runs an agent may have at once; absent: as many as it can. An agent on an AgentChannel is told.
    ///
    /// # Errors
    /// If there is no such agent, or the number is negative.
    pub async fn allow(&self, agent_id: &str, most: Option<i64>) -> Result<AgentRow, EngineError> {
        if most.is_some_and(|most| most < 0) {
            return Err(invalid("an agent cannot execute fewer than 0 step runs"));
        }
        let write = Write::Allow { agent_id: agent_id.to_owned(), enabled: None, allowed: Some(most) };
        Ok(self.changed(write).await?.0)
    }

    /// Gives an agent work, and the agent.
    pub(crate) async fn fetch(&self, agent_id: &str, most: usize) -> Result<(Vec<pb::StepRun>, AgentRow), EngineError> {
        match self.write(Write::Fetch { agent_id: agent_id.to_owned(), most }).await? {
            Written::Work(work, row) => Ok((work, *row)),
            other => Err(odd(&other)),
        }
    }

    /// An agent on a channel has said what it still executes: what started before `before` and is not among it is lost. Whether
    /// anything was.
    pub(crate) async fn settle(&self, agent_id: &str, told: Vec<String>, before: Millis) -> Result<bool, EngineError> {
        self.done(Write::Settle { agent_id: agent_id.to_owned(), told, before }).await
    }

    /// Takes a report about a step run. Whether it changed something.
    pub(crate) async fn report(&self, report: Report) -> Result<bool, EngineError> {
        self.engine.report(report).await
    }

    /// Takes a report about a job run. Whether it changed something.
    pub(crate) async fn report_job(&self, report: JobReport) -> Result<bool, EngineError> {
        let size: usize = report.artifacts.iter().map(|(name, address)| name.len() + address.len()).sum();
        if size > 64 * LONGEST_TEXT {
            return Err(invalid(format!("artifact_uris are {size} bytes; at most {} are taken", 64 * LONGEST_TEXT)));
        }
        self.done(Write::JobReport(report)).await
    }
}

/// Whether labels can be kept.
pub(crate) fn check_labels(labels: &HashMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > MOST_LABELS {
        return Err(Refusal::Invalid(format!("{} labels are too many; an agent may have {MOST_LABELS}", labels.len())));
    }
    let bad =
        |(name, value): &(&String, &String)| name.is_empty() || name.len() > LONGEST_LABEL.0 || value.len() > LONGEST_LABEL.1;
    match labels.iter().find(bad) {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::Invalid(format!(
            "label {}: its name must have 1 to {} bytes, its value at most {}",
            crate::text::quoted(name),
            LONGEST_LABEL.0,
            LONGEST_LABEL.1
        ))),
    }
}

fn text(field: &str, text: &str) -> Result<String, EngineError> {
    if text.len() > LONGEST_TEXT {
        return Err(invalid(format!("{field} has {} bytes; at most {LONGEST_TEXT} are taken", text.len())));
    }
    Ok(text.to_owned())
}

fn invalid(message: impl Into<String>) -> EngineError {
    Refusal::Invalid(message.into()).into()
}

/// Each change has its answer.
fn odd(written: &Written) -> EngineError {
    EngineError::Broken(format!("the engine answered something else: {written:?}"))
}
