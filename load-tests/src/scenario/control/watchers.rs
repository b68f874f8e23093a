//! How long it takes from an agent's report until whoever watches the step run sees it.

use std::time::{Duration, Instant};

use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_load::control::ScriptedAgent;
use arcgate_load::process::Addresses;
use arcgate_load::reader::Reader;
use arcgate_load::{Outcome, within};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{fill, micros};
use crate::report::{Report, latencies};
use crate::subject::Subject;

/// A watched step run changes so often.
const EVERY: Duration = Duration::from_millis(200);
/// No change takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Executes and watches.
pub(super) async fn run(subject: &Subject, channel: &Channel, watched: usize, seconds: f64) -> Outcome<Report> {
    let each = (seconds / EVERY.as_secs_f64()) as usize / 2;
    fill(channel, watched * each).await?;
    let mut pairs = JoinSet::new();
    for pair in 0..watched {
        let shift = EVERY.mul_f64(pair as f64 / watched as f64);
        pairs.spawn(watch(subject.addresses.clone(), each, shift));
    }
    let mut latency = latencies()?;
    while let Some(pair) = pairs.join_next().await {
        latency.add(pair??)?;
    }
    let count = latency.len();
    let rate = watched as f64 / EVERY.as_secs_f64();
    let scenario = format!("{watched} step runs watched over WebSocket at a time, {rate:.0} changes/s");
    Ok(Report { latency_of: "report to watcher", latency, ..Report::new(scenario, "changes", count)? })
}

/// An agent, and who watches what it executes.
async fn watch(addresses: Addresses, step_runs: usize, shift: Duration) -> Outcome<Histogram<u64>> {
    let mut latency = latencies()?;
    let mut agent = ScriptedAgent::open(&addresses.channel()?).await?;
    let mut watcher = Reader::connect(&addresses.http, None).await?;
    tokio::time::sleep(shift).await;
    let mut pace = tokio::time::interval(EVERY);
    for _ in 0..step_runs {
        let given = within(LIMIT, "work", agent.given()).await?;
        let params = json!({ "pipelineId": given.pipeline_id, "jobId": given.job_id, "stepRunId": given.step_run_id });
        watcher.send(&json!({ "channel": "channel_status", "params": params }).to_string()).await?;
        expect(&mut watcher, "status_snapshot").await?;
        for status in [StepRunStatus::Running, StepRunStatus::Success] {
            pace.tick().await;
            let said = Instant::now();
            agent.report(&given.step_run_id, status).await?;
            expect(&mut watcher, "status").await?;
            latency.saturating_record(micros(said.elapsed()));
        }
    }
    Ok(latency)
}

async fn expect(watcher: &mut Reader, kind: &str) -> Outcome<()> {
    let message = within(LIMIT, kind, watcher.next()).await?;
    if message.kind == kind { Ok(()) } else { Err(format!("{kind} was expected, {message:?} came").into()) }
}
