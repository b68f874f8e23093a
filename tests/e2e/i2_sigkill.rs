//! I2: after SIGKILL at any instant, every acked event is there, once. The oracle is outside: what the agents saw acked is kept
//! by this process, and the store is read by another process than the one that was killed.

use std::collections::HashSet;
use std::time::Duration;

use arcgate_api::gateway::v1::Event;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::harness::{Outcome, Rig, SOON, events, eventually, oracle, run, scaled};

/// Agents that send at once.
const AGENTS: u64 = 4;
/// Events in a batch.
const BATCH: u64 = 20;
/// Unanswered batches of an agent.
const WINDOW: usize = 4;
/// Each round acks at least this many before the kill.
const ACKED: u64 = 500;

/// An agent that survives the gateway: it knows what it has sent and what of that was acked.
#[derive(Debug)]
struct Agent {
    name: String,
    /// Sent, not acked: in flight when the gateway was killed. Sent again in the next round, as agents do.
    unacked: Vec<u64>,
    acked: u64,
}

impl Agent {
    /// The event with that number. The identity is the same at each repeat.
    fn event(&self, seq: u64) -> Event {
        events::event(&self.name, format!("{}-{seq}", self.name), seq, "t", &json!({ "n": seq, "text": "x".repeat(200) }))
    }

    /// Sends batches, repeats first, until the connection breaks; `progress` hears of each ack and of what is in flight.
    async fn work(&mut self, channel: Channel, progress: &watch::Sender<(u64, u64)>) -> Outcome<()> {
        let session = events::EventSession::open(channel, &self.name, self.acked).await?;
        let (sender, mut answers) = session.split()?;
        let mut waiting: std::collections::VecDeque<Vec<u64>> =
            self.unacked.chunks(BATCH as usize).map(<[u64]>::to_vec).collect();
        let mut flying = std::collections::VecDeque::new();
        let mut next = self.unacked.last().copied().unwrap_or(self.acked) + 1;
        loop {
            while flying.len() < WINDOW {
                let seqs = waiting.pop_front().unwrap_or_else(|| {
                    next += BATCH;
                    (next - BATCH..next).collect()
                });
                // In flight from here on, whatever becomes of it.
                let known = self.unacked.last().copied().unwrap_or(self.acked);
                self.unacked.extend(seqs.iter().filter(|seq| **seq > known));
                let batch = events::message(seqs.iter().map(|seq| self.event(*seq)).collect());
                flying.push_back(seqs);
                progress.send_modify(|(_, flying)| *flying += 1);
                sender.send(batch).await?;
            }
            let ack = answers.message().await?.and_then(|answer| answer.ack).ok_or("the session ended")?;
            let seqs: Vec<u64> = flying.pop_front().ok_or("an answer too many")?;
            assert_eq!(Some(&ack.last_accepted_seq), seqs.last(), "{ack:?}");
            self.acked = ack.last_accepted_seq;
            self.unacked.retain(|seq| *seq > ack.last_accepted_seq);
            progress.send_modify(|(acked, flying)| {
                *acked += BATCH;
                *flying -= 1;
            });
        }
    }
}

#[test]
fn i2_no_acked_event_is_lost_or_doubled_by_sigkill() -> Outcome<()> {
    run(900, async {
        let rounds = scaled(200, 3);
        let mut random = StdRng::seed_from_u64(2);
        let mut rig = Rig::start().await?;
        let mut agents: Vec<Agent> =
            (0..AGENTS).map(|agent| Agent { name: format!("killed-{agent}"), unacked: Vec::new(), acked: 0 }).collect();

        for round in 0..rounds {
            let (progress, mut seen) = watch::channel((0, 0));
            let mut tasks = Vec::new();
            for mut agent in agents.drain(..) {
                let (channel, progress) = (rig.gateway.channel()?, progress.clone());
                tasks.push(tokio::spawn(async move {
                    // Ends with the connection; what matters is what the agent knows then.
                    let _ = agent.work(channel, &progress).await;
                    agent
                }));
            }
            // At least so many acks, a random while longer, and then with something in flight.
            crate::harness::within(SOON, "500 acks", async { Ok(seen.wait_for(|(acked, _)| *acked >= ACKED).await.map(drop)?) })
                .await?;
            tokio::time::sleep(Duration::from_micros(random.random_range(0..40_000))).await;
            seen.wait_for(|(_, flying)| *flying > 0).await?;
            rig.gateway.kill9()?;
            for task in tasks {
                agents.push(crate::harness::within(SOON, "an agent's end", async { Ok(task.await?) }).await?);
            }
            assert!(agents.iter().any(|agent| !agent.unacked.is_empty()), "round {round}: nothing was in flight");
            if round % 20 == 19 || round + 1 == rounds {
                check(&rig, &agents).await?;
            }
            rig.gateway.restart().await?;
        }
        // What was in flight at the last kill, sent again, is there once as well.
        for agent in &mut agents {
            let batch = agent.unacked.iter().map(|seq| agent.event(*seq)).collect();
            let ack = events::push(rig.gateway.channel()?, &agent.name, agent.acked, batch).await?;
            agent.acked = ack.last_accepted_seq;
            agent.unacked.retain(|seq| *seq > ack.last_accepted_seq);
            assert!(agent.unacked.is_empty(), "{}: {:?}", agent.name, agent.unacked);
        }
        rig.gateway.stop().await?;
        check(&rig, &agents).await
    })
}

/// Every acked event is stored once, every other that was sent at most once, and nothing else is there.
async fn check(rig: &Rig, agents: &[Agent]) -> Outcome<()> {
    let stored = oracle::events(rig.gateway.launch()).await?;
    let counts = oracle::counts(&stored);
    let mut known = HashSet::new();
    for agent in agents {
        for seq in 1..=agent.acked {
            let id = format!("{}-{seq}", agent.name);
            let count = counts.get(&(agent.name.as_str(), id.as_str())).copied().unwrap_or(0);
            assert_eq!(count, 1, "{id} was acked and is stored {count} times");
            known.insert(id);
        }
        known.extend(agent.unacked.iter().map(|seq| format!("{}-{seq}", agent.name)));
    }
    for ((agent, id), count) in counts {
        assert!(known.contains(id), "{id} of {agent} was never sent");
        assert_eq!(count, 1, "{id} is stored {count} times");
    }
    Ok(())
}

#[test]
fn i2_lines_that_were_shown_survive_sigkill() -> Outcome<()> {
    run(120, async {
        let mut rig = Rig::start().await?;
        for round in 0..10_u64 {
            let step_run = format!("shown-{round}");
            let mut session = crate::harness::logs::LogSession::open(rig.gateway.channel()?, "a").await?;
            let mut reader = crate::harness::Reader::follow(rig.http(), &step_run).await?;
            let text: String = (1..=50).map(|line| format!("line {line}\n")).collect();
            let mut batch = crate::harness::logs::batch("a", &step_run, 1, text);
            batch.first_line = 1;
            session.ask(batch).await?;
            let mut seen = crate::harness::Seen::from(1);
            reader.read_to(50, &mut seen, SOON).await?;
            // Whatever a reader has seen is there after the crash, under the same numbers.
            rig.crash().await?;
            let again = eventually(SOON, "the lines after the crash", async || Ok(rig.history(&step_run, 50).await.ok())).await?;
            assert_eq!(again.contents(), seen.contents());
        }
        Ok(())
    })
}
