//! What is known of an agent.

use std::collections::HashMap;

use arcgate_api::agent::v1::AgentStatus;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::Millis;
use crate::db::DbError;
use crate::db::row::Columns as _;

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Its id.
    pub agent_id: String,
    /// Its name, for people.
    pub name: String,
    /// Its machine's address, without a port.
    pub address: String,
    /// Its operating system.
    pub os: String,
    /// Its architecture.
    pub arch: String,
    /// Its version; may be empty.
    pub version: String,
    /// How it stands.
    pub status: AgentStatus,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// When something was last heard of it, to half a minute.
    pub last_heartbeat: Option<Millis>,
    /// Whether it is given work: somebody approved of it.
    pub enabled: bool,
    /// Who brought it here: `dynamic` by a registration token.
    pub registered_by: String,
    /// How many step runs it can execute at once, as it says itself.
    pub max_step_runs: i64,
    /// How many it may, as an operator says; absent: as many as it can.
    pub allowed_step_runs: Option<i64>,
    /// How many it executes, as it said last.
    pub running_step_runs: i64,
    /// After how many milliseconds of silence it counts as gone.
    pub patience: Millis,
}

impl AgentRow {
    /// How many step runs it may have at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let allowed = self.allowed_step_runs.unwrap_or(i64::MAX);
        usize::try_from(self.max_step_runs.min(allowed)).unwrap_or(0)
    }

    pub(crate) fn read(row: &AnyRow) -> Result<Self, DbError> {
        Ok(Self {
            agent_id: row.text("agent_id")?,
            name: row.text("agent_name")?,
            address: row.text("address")?,
            os: row.text("os")?,
            arch: row.text("arch")?,
            version: row.text("version")?,
            status: status(row.number("status")?),
            labels: row.object("labels")?,
            last_heartbeat: row.maybe_number("last_heartbeat")?,
            enabled: row.number("is_enabled")? != 0,
            registered_by: row.text("registered_by")?,
            max_step_runs: row.number("max_step_runs")?,
            allowed_step_runs: row.maybe_number("allowed_step_runs")?,
            running_step_runs: row.number("running_step_runs")?,
            patience: row.number("patience")?,
        })
    }

    pub(crate) async fn load(connection: &mut AnyConnection, agent_id: &str) -> Result<Option<Self>, DbError> {
        let row = sqlx::query("SELECT * FROM t_agent WHERE agent_id = $1").bind(agent_id);
        row.fetch_optional(connection).await?.as_ref().map(Self::read).transpose()
    }
}

fn status(number: i64) -> AgentStatus {
    i32::try_from(number).ok().and_then(|number| AgentStatus::try_from(number).ok()).unwrap_or_default()
}
