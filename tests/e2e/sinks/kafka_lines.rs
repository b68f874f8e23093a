//! Whatever happens to the broker while lines come, every line is in `BUILD_LOGS`, once, those of a step run in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clickhouse_backlog::{SMALL, assert_small};
use super::consumer::Target;
use crate::harness::services::Kafka;
use crate::harness::{ARRIVES, Outcome, Rig, eventually, logs, run, scaled};

const SINK: &str = "kafka-logs";
/// Lines of a batch, some 20 KB.
const BATCH: u64 = 100;

/// An agent that pushes lines of two step runs in turn, as many as it is allowed to, without waiting for anything else.
struct Agent {
    allowed: Option<mpsc::Sender<u64>>,
    taken: Arc<AtomicU64>,
    task: JoinHandle<Outcome<u64>>,
}

fn step_run(number: u64) -> String {
    format!("run-{number}")
}

fn line(step: u64, number: u64) -> String {
    format!("line {number} of {} {}", step_run(step), "and so on, and so on, ".repeat(8))
}

impl Agent {
    async fn begin(rig: &Rig) -> Outcome<Self> {
        let mut session = logs::LogSession::open(rig.gateway.channel()?, "a").await?;
        let (allowed, mut wanted) = mpsc::channel(8);
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        let task = tokio::spawn(async move {
            let mut next = 1;
            while let Some(lines) = wanted.recv().await {
                let enough = next + lines / 2;
                while next < enough {
                    for step in [1, 2] {
                        let text: String = (next..next + BATCH).map(|number| line(step, number) + "\n").collect();
                        let mut batch = logs::batch("a", &step_run(step), next, text);
                        batch.first_line = next;
                        let ack = session.ask(batch).await?;
                        assert_eq!((ack.taken, ack.dropped), (BATCH, 0));
                        count.fetch_add(ack.taken, Ordering::SeqCst);
                    }
                    next += BATCH;
                }
            }
            Ok(next - 1)
        });
        Ok(Self { allowed: Some(allowed), taken, task })
    }

    /// Has it push so many more lines.
    fn push(&self, lines: u64) -> Outcome<()> {
        Ok(self.allowed.as_ref().ok_or("it has ended")?.try_send(lines)?)
    }

    /// Waits until so many lines have been taken in all.
    async fn has_pushed(&self, lines: u64) -> Outcome<()> {
        eventually(ARRIVES, "lines", async || Ok((self.taken.load(Ordering::SeqCst) >= lines).then_some(()))).await
    }

    /// Ends it; gives the last line of both step runs.
    async fn end(mut self, rig: &Rig) -> Outcome<u64> {
        self.allowed = None;
        let last = self.task.await??;
        for step in [1, 2] {
            rig.settled(&step_run(step), last).await?;
        }
        Ok(last)
    }
}

#[test]
fn i9_every_line_is_in_kafka_once_though_its_broker_is_killed_and_is_away_for_long_while_lines_come() -> Outcome<()> {
    run(300, async {
        let mut kafka = Kafka::start()?;
        let target = Target::new(kafka.bootstrap(), "lines-killed");
        let target = SMALL.iter().fold(target, |target, (name, value)| target.with(name, value));
        let rig = target.gateway().await?;
        let agent = Agent::begin(&rig).await?;
        agent.push(30_000)?;
        rig.has_delivered(SINK, 2 * BATCH).await?;
        kafka.kill()?;
        agent.has_pushed(30_000).await?;
        agent.push(30_000)?;
        kafka.restart()?;
        let before = rig.of_sink("arcgate_sink_delivered_total", SINK).await? as u64;
        // A fast broker has taken all of it by now.
        rig.has_delivered(SINK, (before + 2 * BATCH).min(60_000)).await?;
        // Longer than buffers last: 12 MB, of which the sinks of Kafka may hold 8.
        let lines = scaled(60_000, 20_000) as u64;
        agent.push(lines)?;
        kafka.stop()?;
        agent.has_pushed(60_000 + lines).await?;
        agent.push(10_000)?;
        kafka.restart()?;
        let last = agent.end(&rig).await?;
        rig.has_delivered(SINK, 2 * last).await?;
        assert_small(&rig)?;

        let found = target.consume("log")?;
        let mut next = BTreeMap::from([(step_run(1), 1), (step_run(2), 1)]);
        for message in &found {
            let json = message.json();
            let name = json["stepRunId"].as_str().unwrap_or_default();
            let expected = next.get_mut(name).ok_or("a step run that nobody has pushed")?;
            assert_eq!(json["lineNumber"], *expected, "the next line of {name}");
            assert_eq!(json["content"], line(if name == step_run(1) { 1 } else { 2 }, *expected));
            *expected += 1;
        }
        assert!(next.values().all(|next| *next == last + 1), "{next:?} of {last}");
        Ok(())
    })
}
