//! The control plane: agents that are there, are given work, and are watched; runs that begin.

mod agents;
mod triggers;
mod watchers;

use std::time::Duration;

use arcgate_load::Outcome;
use arcgate_load::control::{job, pipeline, trigger};
use clap::Args;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::report::Report;
use crate::subject::{Subject, SubjectArguments};

/// Jobs of a run of the pipeline whose steps wait.
const JOBS: usize = 100;
/// Runs that are begun at a time while the queue is filled.
const AT_ONCE: usize = 8;

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Agents, each on a connection of its own
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Step runs that wait for a free agent, all the time
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
    /// Step runs that end a second, altogether
    #[arg(long, default_value_t = 200.0)]
    ends: f64,
    /// Runs that begin a second
    #[arg(long, default_value_t = 500.0)]
    triggers: f64,
    /// Step runs that are watched at a time
    #[arg(long, default_value_t = 20)]
    watched: usize,
    /// How long, each
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Vec<Report>> {
    let Arguments { agents, waiting, ends, triggers, watched, seconds, subject } = arguments;
    let mut subject = Subject::open(subject).await?;
    let channel = subject.addresses.channel()?;
    let mut reports = vec![triggers::run(&mut subject, triggers, seconds).await?];
    // What the agents end is there in addition, so that as many wait at the end as at the beginning.
    let enough = waiting + (ends * seconds * 2.0) as usize + agents;
    reports.extend(agents::run(&mut subject, agents, waiting, enough, ends, seconds).await?);
    reports.push(watchers::run(&subject, &channel, watched, seconds).await?);
    Ok(reports)
}

/// Begins runs until so many step runs wait.
async fn fill(channel: &Channel, step_runs: usize) -> Outcome<()> {
    let jobs = (0..JOBS).map(|index| job(&format!("job-{index}"))).collect();
    let id = pipeline(channel, "waiting", jobs).await?;
    let mut begun = JoinSet::new();
    for run in 0..step_runs.div_ceil(JOBS) {
        if begun.len() >= AT_ONCE
            && let Some(done) = begun.join_next().await
        {
            done??;
        }
        let (channel, id) = (channel.clone(), id.clone());
        begun.spawn(async move { trigger(&channel, &id, &format!("fill-{run}")).await.map(|_| ()) });
    }
    while let Some(done) = begun.join_next().await {
        done??;
    }
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}
