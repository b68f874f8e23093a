//! Who calls, and what they may of the data plane.
//!
//! | token | is |
//! |---|---|
//! | of the token file | a person or a script who may everything |
//! | `arc_…`, by `arcgate token create` | a person or a script with a role |
//! | `<agent id>:…`, given at registration | that agent, and nobody else |
//! | none, or an unknown one | refused; or, where nobody has to show anything, anyone |

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcgate_control::agents::{Agents, Caller, Role};
use arcgate_gateway::access::{Access, AuthError, Callers, Identity, Tokens, Verb};
use arcgate_gateway::clock::Clock;
use arcgate_gateway::id::{Id, StepRunId};
use futures_util::future::{BoxFuture, FutureExt as _};

/// How often, and after which pauses, a database that does not answer is asked whose a step run is: its lines wait meanwhile.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(2), Duration::from_secs(5)];

/// Knows who calls.
pub struct Auth {
    tokens: Option<Tokens>,
    /// Whether a token is needed.
    required: bool,
    /// Whether agents that cannot send a token may say how they and their steps stand.
    stock_agents: bool,
    agents: OnceLock<Agents>,
    clock: Clock,
}

impl Auth {
    /// The callers are those of the file and of the agents that [are told](Auth::knows) later.
    #[must_use]
    pub fn new(tokens: Option<Tokens>, required: bool, stock_agents: bool) -> Self {
        Self { tokens, required, stock_agents, agents: OnceLock::new(), clock: Clock::system() }
    }

    /// From now on agents and users of the control plane are known too.
    pub fn knows(&self, agents: Agents) {
        // Told twice, the first holds: they are of one control plane.
        let _first = self.agents.set(agents);
    }

    /// Whether agents that cannot send a token may say how they and their steps stand.
    #[must_use]
    pub fn lets_stock_agents_in(&self) -> bool {
        self.stock_agents
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Nobody's; or one is needed, and there is none.
    pub async fn caller(&self, token: Option<&str>) -> Result<Caller, AuthError> {
        if let Some(token) = token {
            if let Some(name) = self.tokens.as_ref().and_then(|tokens| tokens.name_of(token)) {
                return Ok(Caller::User { name: name.to_string(), role: Role::Admin });
            }
            if let Some(agents) = self.agents.get() {
                match agents.whose(token, self.clock.now()).await {
                    Ok(Some(caller)) => return Ok(caller),
                    Ok(None) => {}
                    Err(why) => {
                        tracing::warn!(%why, "a token cannot be looked up");
                        return Err(AuthError::Unavailable);
                    }
                }
            }
        }
        match token {
            _ if !self.required => Ok(Caller::Anyone),
            Some(_) => Err(AuthError::Unknown),
            None => Err(AuthError::Missing),
        }
    }

    /// Whether a step run was handed to an agent.
    async fn was_handed(&self, agent: &Id, step_run: &StepRunId) -> bool {
        let Some(agents) = self.agents.get() else { return false };
        let mut pauses = PAUSES.iter();
        loop {
            match (agents.step_run(step_run.as_str()).await, pauses.next()) {
                (Ok(place), _) => return place.is_some_and(|place| place.agent_id == agent.as_str()),
                (Err(why), Some(pause)) => {
                    tracing::warn!(%why, %step_run, "whose step run it is cannot be looked up; trying again");
                    tokio::time::sleep(*pause).await;
                }
                (Err(why), None) => {
                    tracing::error!(%why, %step_run, %agent, "whose step run it is cannot be looked up; its lines are refused");
                    return false;
                }
            }
        }
    }
}

impl Callers for Auth {
    fn identify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let identify = async move {
            Ok(match self.caller(token).await? {
                Caller::Anyone => Identity::Anonymous,
                Caller::StockAgent => Identity::StockAgent,
                Caller::User { name, role } => Identity::User { name: name.into(), writes: role >= Role::Operator },
                Caller::Agent(id) => Identity::Agent(Id::parse(&id).map_err(|_| AuthError::Unknown)?),
            })
        };
        identify.boxed()
    }
}

/// The data plane's part of who may what.
impl Access for Auth {
    fn may<'a>(&'a self, identity: &'a Identity, verb: Verb, step_run: Option<&'a StepRunId>) -> BoxFuture<'a, bool> {
        let may = async move {
            match (identity, verb, step_run) {
                (Identity::Anonymous, _, _) => !self.required,
                (Identity::StockAgent, _, _) => verb == Verb::WriteEvents,
                (Identity::User { .. }, Verb::ReadLogs | Verb::ReadStatus, _) => true,
                (Identity::User { writes, .. }, Verb::WriteLogs | Verb::WriteEvents, _) => *writes,
                (Identity::Agent(_), Verb::WriteEvents, _) => true,
                (Identity::Agent(agent), Verb::WriteLogs, Some(step_run)) => self.was_handed(agent, step_run).await,
                (Identity::Agent(_), _, _) => false,
            }
        };
        may.boxed()
    }
}

/// Shared by both planes.
pub(super) type SharedAuth = Arc<Auth>;
