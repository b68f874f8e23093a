//! Agents that send events with UUIDs as ids over EventSession.

use arcgate_api::gateway::v1::AgentHandshake;
use arcgate_api::ingest::gateway_service_client::GatewayServiceClient;
use arcgate_api::ingest::{EventBatch, Payload, PushEventsRequest};
use arcgate_load::process::Addresses;
use arcgate_load::{Outcome, Trouble, events};
use bytes::Bytes;
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::{Pace, Tally, Window};
use crate::report::Report;
use crate::subject::{Subject, SubjectArguments};

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// Agents: one connection each
    #[arg(long, default_value_t = 64)]
    agents: usize,
    /// Events in a batch
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Unanswered batches of an agent
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Events a second, altogether; latencies then count from when a batch was due
    #[arg(long)]
    rate: Option<f64>,
    /// The seed of the ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The CloudEvent that an agent sends, over and over, without its id.
pub(crate) fn envelope() -> serde_json::Value {
    json!({
        "specversion": "1.0",
        "source": "urn:arcentra:executor:shell",
        "type": "arcentra.task.started",
        "time": "2026-03-04T05:06:07.123456789+02:00",
        "datacontenttype": "application/json",
        "subject": "pipeline/01J0000000000000000000000A/step/build",
        "pipelineId": "01J0000000000000000000000A",
        "stepId": "build",
        "stepName": "build",
        "pluginName": "shell",
        "data": { "status": "running", "workspace": "/var/lib/agent/workspace", "message": "execution started" },
    })
}

/// Ids of events, without end: the same from the same seed.
pub(crate) fn ids(seed: u64) -> impl Iterator<Item = String> {
    let mut random = StdRng::seed_from_u64(seed);
    std::iter::repeat_with(move || uuid::Builder::from_random_bytes(random.random()).into_uuid().hyphenated().to_string())
}

/// Everything of an event but its id and its seq, encoded once.
pub(super) fn body() -> Bytes {
    use prost::Message;
    let event = events::event("", "", 0, "outbox", &envelope());
    arcgate_api::gateway::v1::Event { meta: None, ..event }.encode_to_vec().into()
}

/// One encoded event. The fields of a message may come in any order and in pieces, so id and meta are simply put before the rest.
pub(super) fn encode(agent: &str, id: &str, seq: u64, body: &[u8]) -> Bytes {
    use prost::Message;
    let meta = arcgate_api::gateway::v1::Meta { agent_id: agent.to_owned(), seq, ..Default::default() };
    let head = arcgate_api::gateway::v1::Event { event_id: id.to_owned(), meta: Some(meta), ..Default::default() };
    let mut out = Vec::with_capacity(head.encoded_len() + body.len());
    head.encode_raw(&mut out);
    out.extend_from_slice(body);
    out.into()
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments) -> Outcome<Report> {
    let Arguments { agents: count, batch, window, seed, .. } = arguments;
    let mut subject = Subject::open(arguments.subject).await?;
    subject.start_counting()?;
    let pace = Pace::new(arguments.seconds, arguments.rate, batch, count);
    let body = body();
    let mut agents = JoinSet::new();
    for agent in 0..count {
        let (addresses, body) = (subject.addresses.clone(), body.clone());
        let random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) + agent as u64);
        agents.spawn(session(addresses, agent, random, body, batch, window, pace.of(agent, count)));
    }
    let mut tally = Tally::new()?;
    while let Some(agent) = agents.join_next().await {
        tally.add(&agent??)?;
    }
    let elapsed = pace.begin.elapsed();
    let rate = arguments.rate.map(|rate| format!(" at {rate:.0} events/s")).unwrap_or_default();
    let scenario = format!("EventSession, {count} agents, batches of {batch} events{rate}");
    Ok(Report {
        elapsed: Some(elapsed),
        cpu: subject.cpu()?,
        latency_of: if arguments.rate.is_some() { "due to ack" } else { "send to ack" },
        peak_memory: subject.peak_memory()?,
        faults: tally.faults("events"),
        latency: tally.latency,
        ..Report::new(scenario, "events", tally.taken)?
    })
}

/// One agent, with a window of unanswered batches.
async fn session(
    addresses: Addresses,
    agent: usize,
    mut random: StdRng,
    body: Bytes,
    size: usize,
    window: usize,
    pace: Pace,
) -> Outcome<Tally> {
    let name = format!("agent-{agent}");
    let (batches, receiver) = tokio::sync::mpsc::channel(4);
    let handshake = AgentHandshake { agent_id: name.clone(), last_known_seq: 0 };
    batches.send(PushEventsRequest { payload: Some(Payload::Handshake(handshake)) }).await?;
    let mut client = GatewayServiceClient::new(addresses.channel()?);
    let mut answers = client.event_session(ReceiverStream::new(receiver)).await?.into_inner();

    let (window, mut due) = Window::new(window);
    let sender = tokio::spawn(async move {
        let mut seq = 0;
        for index in 0.. {
            let Some(due) = pace.due(index).await else { break };
            let events = (0..size)
                .map(|_| {
                    seq += 1;
                    let id = uuid::Builder::from_random_bytes(random.random()).into_uuid();
                    encode(&name, id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()), seq, &body)
                })
                .collect();
            window.take(due).await?;
            let batch = EventBatch::new(index.to_string(), events);
            batches.send(PushEventsRequest { payload: Some(Payload::Batch(batch)) }).await?;
        }
        Ok::<_, Trouble>(())
    });
    let mut tally = Tally::new()?;
    while let Some(at) = due.next().await {
        let ack = answers.message().await?.and_then(|answer| answer.ack).ok_or("the session ended without an answer")?;
        due.answered();
        tally.note(&ack, at, size as u64);
    }
    sender.await??;
    Ok(tally)
}
