//! What agents cost that are only there; and how long one waits for its next step run after it has ended one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_load::control::ScriptedAgent;
use arcgate_load::process::Addresses;
use arcgate_load::{Outcome, within};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{fill, micros};
use crate::report::{Report, latencies};
use crate::subject::Subject;

/// An agent gives a sign of life so often: six times as often as it would be told to.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Agents that connect at a time.
const AT_ONCE: usize = 32;
/// No agent waits longer for anything.
const LIMIT: Duration = Duration::from_secs(120);

/// Connects agents, looks at what they cost, fills the queue, lets them work.
pub(super) async fn run(
    subject: &mut Subject,
    agents: usize,
    waiting: usize,
    step_runs: usize,
    ends: f64,
    seconds: f64,
) -> Outcome<Vec<Report>> {
    let (end, over) = watch::channel(false);
    // The steps of the runs that were begun before are taken by these, too: that is waited for before anything is measured.
    let lasts = Duration::from_secs_f64(agents as f64 / ends);
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let (told, mut idle) = tokio::sync::mpsc::channel(agents);
    let mut working = JoinSet::new();
    let phase = watch::Sender::new(Phase::Empty);
    for index in 0..agents {
        let worker = Worker {
            addresses: subject.addresses.clone(),
            places: Arc::clone(&places),
            phase: phase.subscribe(),
            over: over.clone(),
            lasts,
            shift: lasts.mul_f64(index as f64 / agents as f64),
            told: told.clone(),
        };
        working.spawn(worker.run());
    }
    for _ in 0..agents {
        within(LIMIT, "an agent on its channel", async { idle.recv().await.ok_or_else(|| "no agent is left".into()) }).await?;
    }
    empty(subject).await?;

    let begin = Instant::now();
    subject.start_counting()?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (elapsed, cpu) = (begin.elapsed(), subject.cpu()?);
    let share = cpu.map_or(0.0, |cpu| 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64());
    let every = HEARTBEAT.as_secs();
    let heartbeats = (agents as f64 * elapsed.as_secs_f64() / HEARTBEAT.as_secs_f64()) as u64;
    let idle = Report {
        elapsed: Some(elapsed),
        cpu,
        peak_memory: subject.peak_memory()?,
        ..Report::new(
            format!("{agents} agents on channels, a heartbeat of each every {every} s: {share:.1}% of a core"),
            "heartbeats",
            heartbeats,
        )?
    };

    phase.send_replace(Phase::Working);
    fill(&subject.addresses.channel()?, step_runs).await?;
    // Once each has had its first, they come in turns.
    tokio::time::sleep(lasts).await;
    phase.send_replace(Phase::Measured);
    subject.start_counting()?;
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    end.send_replace(true);
    let (elapsed, cpu) = (begin.elapsed(), subject.cpu()?);
    let mut latency = latencies()?;
    while let Some(worked) = working.join_next().await {
        latency.add(worked??)?;
    }
    let count = latency.len();
    let scenario = format!("{agents} agents take step runs as they end others, {ends:.0}/s, while {waiting} more wait");
    let busy = Report {
        elapsed: Some(elapsed),
        cpu,
        latency_of: "free to given",
        latency,
        peak_memory: subject.peak_memory()?,
        ..Report::new(scenario, "step runs", count)?
    };
    Ok(vec![idle, busy])
}

/// Waits until nothing happens in the gateway: what was begun before is ended.
async fn empty(subject: &mut Subject) -> Outcome<()> {
    const QUIET: Duration = Duration::from_millis(100);
    for _ in 0..300 {
        subject.start_counting()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if subject.cpu()?.is_none_or(|cpu| cpu < QUIET) {
            return Ok(());
        }
    }
    Err("the gateway does not come to rest".into())
}

/// How agents work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What they are given ends at once.
    Empty,
    /// It takes its time.
    Working,
    /// And counts.
    Measured,
}

struct Worker {
    addresses: Addresses,
    places: Arc<tokio::sync::Semaphore>,
    phase: watch::Receiver<Phase>,
    over: watch::Receiver<bool>,
    /// How long a step run takes.
    lasts: Duration,
    /// How long the first one takes: so that they do not all end at the same time.
    shift: Duration,
    told: tokio::sync::mpsc::Sender<()>,
}

impl Worker {
    async fn run(self) -> Outcome<Histogram<u64>> {
        let Self { addresses, places, phase, mut over, lasts, shift, told } = self;
        let place = places.acquire().await?;
        let mut agent = within(LIMIT, "an agent's channel", async { ScriptedAgent::open(&addresses.channel()?).await }).await?;
        drop(place);
        told.send(()).await?;
        let mut latency = latencies()?;
        // Agents know nothing of each other's heartbeats.
        let first = tokio::time::Instant::now() + HEARTBEAT.mul_f64(shift.as_secs_f64() / lasts.as_secs_f64());
        let mut heartbeat = tokio::time::interval_at(first, HEARTBEAT);
        let mut wait = Some(shift);
        let mut free: Option<Instant> = None;
        loop {
            let given = tokio::select! {
                () = ended(&mut over) => return Ok(latency),
                _ = heartbeat.tick() => {
                    agent.heartbeat(0).await?;
                    continue;
                }
                given = agent.given() => given?,
            };
            if let Some(free) = free.take().filter(|_| *phase.borrow() == Phase::Measured) {
                latency.saturating_record(micros(free.elapsed()));
            }
            let answer = agent.report(&given.step_run_id, StepRunStatus::Running).await?;
            while agent.hear().await?.response_id != answer {}
            if *phase.borrow() != Phase::Empty {
                tokio::select! {
                    () = ended(&mut over) => return Ok(latency),
                    () = tokio::time::sleep(wait.take().unwrap_or(lasts)) => {}
                }
            }
            free = Some(Instant::now());
            agent.report(&given.step_run_id, StepRunStatus::Success).await?;
        }
    }
}

/// Resolves when it is over.
async fn ended(over: &mut watch::Receiver<bool>) {
    // Whoever would say so is gone: then it is over as well.
    let _gone = over.wait_for(|over| *over).await;
}
