//! Against a gateway that is a few lines of bookkeeping behind a real socket, and breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use arcgate_api::gateway::v1::gateway_service_server::{GatewayService, GatewayServiceServer};
use arcgate_api::gateway::v1::push_events_request::Payload as EventPayload;
use arcgate_api::gateway::v1::{PushEventsRequest, PushEventsResponse};
use parking_lot::Mutex;
use tokio_stream::Stream as Answers;
use tonic::{Request, Response, Status as GrpcStatus};

use super::super::event::{Outcome, Pending};
use super::super::outbox::Shelf;
use super::super::spool::{SPOOL_BYTES, Stream};
use super::super::uplink::{Undelivered, Uplink};
use super::*;

/// What the gateway knows. Lines that are not durable are lost when it breaks.
#[derive(Default)]
struct Known {
    lines: BTreeMap<u64, String>,
    next: u64,
    durable: u64,
    ended: bool,
    /// How many batches until the next break; 0 is never.
    break_after: u32,
    breaks: u32,
    refuse: Option<&'static str>,
    /// After the next lines, a line of another process comes under the same agent's name.
    another_writes: bool,
    events: Vec<(u64, String)>,
    durable_at_last_event: u64,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Known>>);

impl Fake {
    fn take(&self, batch: &LogBatch) -> Result<IngestAck, GrpcStatus> {
        let mut known = self.0.lock();
        known.next = known.next.max(1);
        if let Some(why) = known.refuse.filter(|_| batch.first_line > 0) {
            return Ok(IngestAck { status: Status::Rejected.into(), message: why.into(), ..IngestAck::default() });
        }
        if batch.first_line > 0 && known.break_after > 0 {
            known.breaks += 1;
            if known.breaks.is_multiple_of(known.break_after) {
                known.next = known.durable + 1;
                let durable = known.durable;
                known.lines.retain(|number, _| *number <= durable);
                return Err(GrpcStatus::unavailable("broken"));
            }
        }
        let data = match batch.compression() {
            Compression::Zstd => zstd::bulk::decompress(&batch.data, batch.raw_size as usize).unwrap(),
            _ => batch.data.to_vec(),
        };
        let mut repeated = 0;
        for (line, number) in String::from_utf8(data).unwrap().lines().zip(batch.first_line..) {
            if number >= known.next {
                known.lines.insert(number, line.to_owned());
                known.next = number + 1;
            } else {
                repeated += 1;
            }
        }
        if batch.first_line > 0 && std::mem::take(&mut known.another_writes) {
            let number = known.next;
            known.lines.insert(number, "another's".to_owned());
            (known.next, known.durable) = (number + 1, number);
        }
        known.ended |= batch.end_of_log;
        // Half of what is not on disk gets there with each batch, all of it with a question.
        let behind = known.next - 1 - known.durable;
        known.durable += if batch.first_line == 0 { behind } else { behind / 2 };
        let (next_line, durable_line) = (known.next, known.durable);
        Ok(IngestAck { status: Status::Accepted.into(), repeated, next_line, durable_line, ..IngestAck::default() })
    }

    async fn start(&self, at: Option<std::net::SocketAddr>) -> std::net::SocketAddr {
        let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let listener = tokio::net::TcpListener::bind(at.unwrap_or(any)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(GatewayServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        address
    }
}

type Stream64<T> = Pin<Box<dyn Answers<Item = Result<T, GrpcStatus>> + Send>>;

#[tonic::async_trait]
impl GatewayService for Fake {
    type LogSessionStream = Stream64<PushLogsResponse>;
    type EventSessionStream = Stream64<PushEventsResponse>;

    async fn log_session(
        &self,
        request: Request<tonic::Streaming<PushLogsRequest>>,
    ) -> Result<Response<Self::LogSessionStream>, GrpcStatus> {
        let (mut requests, fake) = (request.into_inner(), self.clone());
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(Payload::Batch(batch)) = request.payload {
                    let answer = fake.take(&batch).map(|ack| PushLogsResponse { ack: Some(ack) });
                    let broken = answer.is_err();
                    if answers.send(answer).await.is_err() || broken {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn push_events(
        &self,
        request: Request<tonic::Streaming<PushEventsRequest>>,
    ) -> Result<Response<PushEventsResponse>, GrpcStatus> {
        let (mut requests, mut mark) = (request.into_inner(), 0);
        while let Some(request) = requests.message().await? {
            match request.payload {
                Some(EventPayload::Handshake(handshake)) => mark = handshake.last_known_seq,
                Some(EventPayload::Batch(batch)) => {
                    for event in batch.events {
                        mark = event.meta.unwrap().seq;
                        let mut known = self.0.lock();
                        known.events.push((mark, event.event_type));
                        known.durable_at_last_event = known.durable;
                    }
                }
                None => {}
            }
        }
        Ok(Response::new(PushEventsResponse { ack: Some(IngestAck { last_accepted_seq: mark, ..IngestAck::default() }) }))
    }

    async fn push_logs(
        &self,
        _: Request<tonic::Streaming<PushLogsRequest>>,
    ) -> Result<Response<arcgate_api::gateway::v1::PushLogsResponse>, GrpcStatus> {
        Err(GrpcStatus::unimplemented(""))
    }

    async fn event_session(
        &self,
        _: Request<tonic::Streaming<PushEventsRequest>>,
    ) -> Result<Response<Self::EventSessionStream>, GrpcStatus> {
        Err(GrpcStatus::unimplemented(""))
    }
}

fn about() -> Identity {
    Identity { agent_id: "agent".into(), step_run_id: "step".into(), pipeline_id: String::new() }
}

fn uplink(address: std::net::SocketAddr, spool: &SharedSpool, state: &tempfile::TempDir) -> Uplink {
    let target = Target::new(&address.to_string(), None).unwrap();
    // One shelf for all: the tests' servers are one gateway on several ports.
    let shelf = Shelf::new(state.path().to_owned(), "the gateway");
    Uplink::start(Some(target), about(), spool.clone(), Some(shelf), Notes::default())
}

fn all_lines(known: &Known) -> Vec<String> {
    known.lines.values().cloned().collect()
}

const NOTHING: Undelivered = Undelivered { lines: 0, events: 0, events_kept: true };

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_breaks_loses_nothing() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    fake.0.lock().break_after = 7;
    let uplink = uplink(fake.start(None).await, &spool, &state);
    uplink.event(Pending::started(&about(), 0));
    let mut written = Vec::new();
    for round in 0..60 {
        let stream = if round % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
        let lines: Vec<String> = (0..100).map(|line| format!("round {round} line {line}")).collect();
        spool.push(stream, format!("{}\n", lines.join("\n")).as_bytes());
        written.extend(lines);
        sleep(Duration::from_millis(1)).await;
    }
    spool.end();
    assert_eq!(uplink.drain(Duration::from_secs(60), false, std::future::pending()).await, NOTHING);
    let known = fake.0.lock();
    assert!(known.breaks > 7 && known.ended);
    assert_eq!(known.durable, 6_000);
    assert_eq!(all_lines(&known), written);
    assert_eq!(known.events, [(1, "arcentra.step.started".to_owned())]);
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "the outbox is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_run_is_continued_and_a_late_gateway_gets_all() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    {
        let mut known = fake.0.lock();
        (known.next, known.durable) = (11, 10);
    }
    // Nobody listens there yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let uplink = uplink(address, &spool, &state);
    spool.push(Stream::Stdout, b"one\ntwo\n");
    sleep(Duration::from_millis(150)).await;
    fake.start(Some(address)).await;
    spool.push(Stream::Stdout, b"three\n");
    spool.end();
    assert_eq!(uplink.drain(Duration::from_secs(60), false, std::future::pending()).await, NOTHING);
    let known = fake.0.lock();
    assert_eq!(known.lines.keys().copied().collect::<Vec<_>>(), [11, 12, 13]);
    assert_eq!(all_lines(&known), ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_lines_are_counted_and_end() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    fake.0.lock().refuse = Some("another agent counts these lines");
    let uplink = uplink(fake.start(None).await, &spool, &state);
    spool.push(Stream::Stdout, b"one\ntwo\n");
    spool.end();
    let left = uplink.drain(Duration::from_secs(60), false, std::future::pending()).await;
    assert_eq!(left, Undelivered { lines: 2, ..NOTHING });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_whose_numbers_another_process_has_used_are_told_as_lost() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    fake.0.lock().another_writes = true;
    let uplink = uplink(fake.start(None).await, &spool, &state);
    spool.push(Stream::Stdout, b"one\n");
    spool.push(Stream::Stderr, b"two\n");
    spool.push(Stream::Stdout, b"three\n");
    spool.end();
    let left = uplink.drain(Duration::from_secs(60), false, std::future::pending()).await;
    assert_eq!(left, Undelivered { lines: 1, ..NOTHING });
    assert_eq!(all_lines(&fake.0.lock()), ["one", "another's", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_the_events_go_with_the_next_push() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let first = uplink(nobody, &spool, &state);
    first.event(Pending::started(&about(), 0));
    first.event(Pending::started(&about(), 1));
    spool.push(Stream::Stdout, b"one\n");
    spool.end();
    let left = first.drain(Duration::from_millis(100), false, std::future::pending()).await;
    assert_eq!(left, Undelivered { lines: 1, events: 2, events_kept: true });

    let spool = SharedSpool::new(SPOOL_BYTES);
    spool.end();
    let second = uplink(fake.start(None).await, &spool, &state);
    assert_eq!(second.drain(Duration::from_secs(60), false, std::future::pending()).await, NOTHING);
    assert_eq!(fake.0.lock().events.iter().map(|event| event.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_that_ends_the_step_run_goes_after_its_lines() {
    let (fake, state, spool) = (Fake::default(), tempfile::tempdir().unwrap(), SharedSpool::new(SPOOL_BYTES));
    let uplink = uplink(fake.start(None).await, &spool, &state);
    uplink.event(Pending::started(&about(), 0));
    for line in 0..20_000 {
        spool.push(Stream::Stdout, format!("line {line}\n").as_bytes());
    }
    spool.end();
    let outcome = Outcome { exit_code: 0, error: String::new(), took: Duration::ZERO, lines: 20_000 };
    uplink.event(Pending::finished(&about(), 0, &outcome));
    assert_eq!(uplink.drain(Duration::from_secs(60), false, std::future::pending()).await, NOTHING);
    let known = fake.0.lock();
    assert_eq!(known.events.len(), 2);
    assert_eq!(known.durable_at_last_event, 20_000);
}
