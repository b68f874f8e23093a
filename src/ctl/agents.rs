//! `arcgate agents`: who is there, by the database.

use std::io::{self, BufWriter, Write};

use arcgate_control::agents::{AgentRow, ListedAgent};
use serde_json::json;

use super::table::Table;
use super::words::{agent_status, step_status};
use super::{Done, block_on, database};
use crate::settings::Settings;
use crate::time::rfc3339;

pub(super) fn list(settings: &Settings, as_json: bool) -> Done {
    let agents = block_on(async {
        let database = database::existing(settings).await?;
        let agents = database.agents().await?;
        database.close().await;
        Ok(agents)
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        for one in &agents {
            writeln!(out, "{}", json(one))?;
        }
        return Ok(out.flush()?);
    }
    let mut table = Table::new(["AGENT", "NAME", "STATUS", "LAST HEARD", "SYSTEM", "STEPS", "LABELS", "EXECUTES"]);
    for ListedAgent { agent, executes } in agents {
        let status = if agent.enabled { agent_status(agent.status) } else { "not approved" }.to_owned();
        let heard = agent.last_heartbeat.map_or(String::new(), rfc3339);
        let system = format!("{}/{}", agent.os, agent.arch);
        let steps = format!("{}/{}", executes.len(), agent.capacity());
        let what: Vec<String> = executes.iter().map(|one| format!("{}/{} ({})", one.job, one.step, one.step_run_id)).collect();
        let labels = labels(&agent).join(",");
        table.row([agent.agent_id, agent.name, status, heard, system, steps, labels, what.join(", ")]);
    }
    table.write(&mut out)?;
    Ok(out.flush()?)
}

/// `name=value`, in order.
fn labels(agent: &AgentRow) -> Vec<String> {
    let mut labels: Vec<String> = agent.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    labels
}

fn json(one: &ListedAgent) -> serde_json::Value {
    let ListedAgent { agent, executes } = one;
    let executes: Vec<_> = executes
        .iter()
        .map(|one| {
            json!({
                "step_run_id": one.step_run_id,
                "run_id": one.run_id,
                "job": one.job,
                "step": one.step,
                "status": step_status(one.status),
            })
        })
        .collect();
    json!({
        "agent_id": agent.agent_id,
        "name": agent.name,
        "status": agent_status(agent.status),
        "approved": agent.enabled,
        "last_heard_ms": agent.last_heartbeat,
        "address": agent.address,
        "os": agent.os,
        "arch": agent.arch,
        "version": agent.version,
        "labels": agent.labels,
        "max_step_runs": agent.max_step_runs,
        "allowed_step_runs": agent.allowed_step_runs,
        "executes": executes,
    })
}
