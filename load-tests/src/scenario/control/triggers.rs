//! How long it takes until a run has begun, at a rate.

use std::time::{Duration, Instant};

use arcgate_load::Outcome;
use arcgate_load::control::{job, pipeline, trigger};
use tokio::task::JoinSet;

use super::micros;
use crate::report::{Report, latencies};
use crate::scenario::Pace;
use crate::subject::Subject;

/// Triggers are sent over so many connections.
const CONNECTIONS: usize = 8;
/// Triggers that may be unanswered; more wait, and count from when they were due.
const UNANSWERED: usize = 4_000;

/// Begins runs.
pub(super) async fn run(subject: &mut Subject, rate: f64, seconds: f64) -> Outcome<Report> {
    let channels = (0..CONNECTIONS).map(|_| subject.addresses.channel()).collect::<Outcome<Vec<_>>>()?;
    let id = pipeline(&channels[0], "triggered", vec![job("job")]).await?;
    subject.start_counting()?;
    let pace = Pace::new(seconds, Some(rate), 1, 1);
    let mut latency = latencies()?;
    let mut asked: JoinSet<Outcome<Duration>> = JoinSet::new();
    let mut count = 0;
    while let Some(due) = pace.due(count).await {
        if asked.len() >= UNANSWERED
            && let Some(took) = asked.join_next().await
        {
            latency.saturating_record(micros(took??));
        }
        let (channel, id, request) = (channels[count as usize % CONNECTIONS].clone(), id.clone(), format!("t-{count}"));
        asked.spawn(async move {
            trigger(&channel, &id, &request).await?;
            Ok(Instant::now() - due)
        });
        count += 1;
    }
    while let Some(took) = asked.join_next().await {
        latency.saturating_record(micros(took??));
    }
    Ok(Report {
        elapsed: Some(pace.begin.elapsed()),
        cpu: subject.cpu()?,
        latency_of: "due to begun",
        latency,
        peak_memory: subject.peak_memory()?,
        ..Report::new(format!("Runs begun by TriggerPipeline at {rate:.0}/s, SQLite"), "runs", u64::from(count))?
    })
}
