//! PushEvents and EventSession as clients see them, over a real event log.

mod outlive;

use std::path::Path;
use std::sync::Arc;

use arcgate_api::gateway::v1::ingest_ack::Status::{Accepted, OutOfOrder, PartialAccepted, Rejected};
use arcgate_api::gateway::v1::{AgentHandshake, IngestAck, PushEventsResponse};
use arcgate_api::ingest::{EventBatch, MAX_BATCH_EVENTS, Payload, PushEventsRequest};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::super::push::push_events;
use super::super::session::{Answers, event_session};
use super::super::{EventIngest, Outlive};
use super::{encode, event};
use crate::access::Identity;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::id::Id;
use crate::store::SpaceGate;
use crate::store::disk::Space;
use crate::store::disk::sim::SimDisk;
use crate::store::events::{EventLog, EventLogOptions};
use crate::store::index::memory::MemoryIndex;
use crate::store::segment::{LogKind, SegmentOptions};

struct Gateway {
    ingest: Arc<EventIngest>,
    log: EventLog,
    disk: SimDisk,
    clock: Clock,
    gate: SpaceGate,
}

fn gateway() -> Gateway {
    gateway_outliving(None)
}

fn gateway_outliving(outlive: Option<Outlive>) -> Gateway {
    let disk = SimDisk::new(1);
    let clock = Clock::manual(1_000_000);
    let segments =
        SegmentOptions { kind: LogKind::Events, segment_bytes: 1 << 20, store_id: 7, incarnation: 1, clock: clock.clone() };
    let index = Arc::new(MemoryIndex::default());
    let options = EventLogOptions { disk: Arc::new(disk.clone()), dir: "/events".into(), segments, index };
    let log = EventLog::open(options).unwrap().0;
    let gate = SpaceGate::new(Path::new("/store"));
    let ingest = EventIngest::new(log.clone(), gate.clone(), clock.clone(), 1_000_000, Budget::new(64 << 20));
    let ingest = Arc::new(ingest.outliving(outlive));
    Gateway { ingest, log, disk, clock, gate }
}

fn handshake(agent: &str, last_known_seq: u64) -> PushEventsRequest {
    PushEventsRequest { payload: Some(Payload::Handshake(AgentHandshake { agent_id: agent.into(), last_known_seq })) }
}

fn raw_batch(events: Vec<Bytes>) -> PushEventsRequest {
    PushEventsRequest { payload: Some(Payload::Batch(EventBatch::new("batch", events))) }
}

fn batch(seqs: impl IntoIterator<Item = u64>) -> PushEventsRequest {
    raw_batch(seqs.into_iter().map(|seq| encode(&event("a1", seq, &format!("event {seq}")))).collect())
}

impl Gateway {
    async fn push(&self, requests: Vec<PushEventsRequest>) -> Result<IngestAck, Status> {
        let requests = stream::iter(requests.into_iter().map(Ok));
        push_events(&self.ingest, &Identity::Anonymous, requests).await.map(|response| response.into_inner().ack.unwrap())
    }

    fn session(&self) -> (mpsc::Sender<Result<PushEventsRequest, Status>>, Answers) {
        let (client, requests) = mpsc::channel(1);
        (client, event_session(Arc::clone(&self.ingest), &Identity::Anonymous, ReceiverStream::new(requests)).into_inner())
    }

    fn stored(&self) -> usize {
        self.log.follow(0).read(usize::MAX, usize::MAX).unwrap().len()
    }
}

async fn answer(answers: &mut Answers) -> IngestAck {
    let PushEventsResponse { ack } = answers.next().await.unwrap().unwrap();
    ack.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_agent_pushes_and_repeats() {
    let gateway = gateway();
    for round in 0..3 {
        let ack = gateway.push(vec![handshake("a1", 0), batch(1..=100)]).await.unwrap();
        assert_eq!((ack.status(), ack.last_accepted_seq, ack.expected_seq), (Accepted, 100, 101));
        assert_eq!((ack.taken, ack.repeated), if round == 0 { (100, 0) } else { (0, 100) });
        assert_eq!(gateway.stored(), 100, "I3");
    }
    let ack = gateway.push(vec![handshake("a1", 100)]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq), (Accepted, 100), "an empty stream is answered the mark");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_bad_event_spoils_none() {
    let gateway = gateway();
    let mut bad = event("a1", 2, "");
    bad.event_id.clear();
    let large = event("a1", 4, &"x".repeat(1_000_001));
    let good = |seq| encode(&event("a1", seq, "good"));
    let events = vec![good(1), encode(&bad), good(3), encode(&large), Bytes::from_static(b"\xff"), good(5)];
    for _ in 0..2 {
        let ack = gateway.push(vec![handshake("a1", 0), raw_batch(events.clone())]).await.unwrap();
        assert_eq!((ack.status(), ack.last_accepted_seq), (PartialAccepted, 5));
        assert_eq!(ack.rejected_seqs, [0, 2, 4]);
        assert_eq!(gateway.stored(), 3);
    }
    let ack = gateway.push(vec![handshake("a1", 0), raw_batch(vec![encode(&bad)])]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq), (OutOfOrder, 0), "1 is waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_holes_are_waited_for_and_passed() {
    let gateway = gateway();
    let push = || gateway.push(vec![handshake("a1", 0), batch([3, 4])]);
    let ack = push().await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken), (OutOfOrder, 0, 2));
    gateway.clock.set(1_000_999);
    assert_eq!(push().await.unwrap().last_accepted_seq, 0);
    gateway.clock.set(1_001_000);
    let ack = push().await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.repeated), (Accepted, 4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_several_batches_is_answered_once() {
    let gateway = gateway();
    let ack = gateway.push(vec![batch([11, 13]), batch([12]), batch([10])]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken), (Accepted, 13, 4), "without a handshake too");
    let ack = gateway.push(vec![handshake("a1", 13), batch([14, 15]), batch([14])]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken, ack.repeated), (Accepted, 15, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_too_many_events_is_refused_and_stores_nothing() {
    let gateway = gateway();
    let empty = || vec![Bytes::new(); MAX_BATCH_EVENTS];
    let mut over = EventBatch::new("over", empty());
    over.too_many = true;
    let over = PushEventsRequest { payload: Some(Payload::Batch(over)) };
    let refusal = gateway.push(vec![handshake("a1", 0), over]).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("more than 10000 events; send them in smaller batches"), "{refusal:?}");
    assert_eq!(gateway.stored(), 0);
    let ack = gateway.push(vec![handshake("a1", 0), raw_batch(empty()), batch([1])]).await.unwrap();
    assert_eq!((ack.taken, ack.last_accepted_seq), (1, 1), "as many as may be are judged one by one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_must_be_said_once() {
    let gateway = gateway();
    let nameless = raw_batch(vec![encode(&event("", 1, ""))]);
    let code = |result: Result<IngestAck, Status>| result.map_err(|status| status.code()).unwrap_err();
    assert_eq!(code(gateway.push(vec![nameless.clone()]).await), Code::InvalidArgument);
    assert_eq!(code(gateway.push(vec![handshake("a\n1", 0)]).await), Code::InvalidArgument);
    assert_eq!(code(gateway.push(vec![batch([1]), handshake("a2", 0)]).await), Code::InvalidArgument);
    assert_eq!(gateway.push(vec![handshake("a1", 0), nameless]).await.unwrap().status(), Accepted);
    let others = gateway.push(vec![handshake("a2", 0), batch([1])]).await.unwrap();
    assert_eq!((others.status(), others.rejected_seqs), (Rejected, vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_store_acknowledges_nothing() {
    let gateway = gateway();
    gateway.disk.enospc(true);
    let push = || gateway.push(vec![handshake("a1", 0), batch([1])]);
    assert_eq!(push().await.unwrap_err().code(), Code::ResourceExhausted);
    gateway.disk.enospc(false);
    gateway.disk.fail_at(gateway.disk.ops() + 1);
    assert_eq!(push().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(push().await.unwrap_err().code(), Code::Unavailable, "until a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_answers_each_batch_in_order() {
    let gateway = gateway();
    let (client, mut answers) = gateway.session();
    client.send(Ok(handshake("a1", 0))).await.unwrap();
    for n in 0..50 {
        client.send(Ok(batch(n * 10 + 1..=n * 10 + 10))).await.unwrap();
    }
    for n in 0..50 {
        let ack = answer(&mut answers).await;
        assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken), (Accepted, n * 10 + 10, 10));
    }
    client.send(Ok(raw_batch(Vec::new()))).await.unwrap();
    assert_eq!(answer(&mut answers).await.last_accepted_seq, 500, "an empty batch asks for the mark");
    drop(client);
    assert!(answers.next().await.is_none());
    assert_eq!(gateway.stored(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reads_on_only_while_answers_are_read() {
    let gateway = gateway();
    let (client, mut answers) = gateway.session();
    let sending = tokio::spawn(async move {
        for seq in 1..=200 {
            client.send(Ok(batch([seq]))).await.unwrap();
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!sending.is_finished());
    assert_eq!(gateway.stored(), 64, "no more than 64 answers wait to be read");
    for seq in 1..=200 {
        assert_eq!(answer(&mut answers).await.last_accepted_seq, seq);
    }
    sending.await.unwrap();
    assert!(answers.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_takes_batches_larger_than_its_window() {
    let gateway = gateway();
    let (client, mut answers) = gateway.session();
    for seq in 1..=5 {
        let large = (0..3).map(|n| encode(&event("a1", seq * 3 + n, &"x".repeat(900_000)))).collect();
        client.send(Ok(raw_batch(large))).await.unwrap();
    }
    for seq in 1..=5 {
        assert_eq!(answer(&mut answers).await.last_accepted_seq, seq * 3 + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_the_reason() {
    let gateway = gateway();
    let (client, mut answers) = gateway.session();
    client.send(Ok(batch([1]))).await.unwrap();
    client.send(Ok(handshake("a2", 0))).await.unwrap();
    assert_eq!(answer(&mut answers).await.status(), Accepted, "what came before is answered");
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);
    assert!(answers.next().await.is_none());
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_client_is_gone_ends() {
    let gateway = gateway();
    let (client, answers) = gateway.session();
    client.send(Ok(batch([1]))).await.unwrap();
    drop(answers);
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_almost_full_disk_refuses_until_there_is_space() {
    let gateway = gateway();
    let (requests, mut answers) = gateway.session();
    requests.send(Ok(batch([1]))).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().ack.unwrap().taken, 1);
    gateway.gate.observe(Space { free: 49, total: 1000 });
    assert_eq!(gateway.push(vec![]).await.unwrap_err().code(), Code::ResourceExhausted, "at its start");
    requests.send(Ok(batch([2]))).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted, "while it is open");
    gateway.gate.observe(Space { free: 60, total: 1000 });
    assert_eq!(gateway.push(vec![batch([1, 2])]).await.unwrap().taken, 1);
}

#[tokio::test]
async fn an_agent_that_has_shown_its_token_writes_as_itself_only() {
    let gateway = gateway();
    let own = Identity::Agent(Id::parse("mine").unwrap());
    let push = async |requests: Vec<PushEventsRequest>| {
        let requests = stream::iter(requests.into_iter().map(Ok));
        push_events(&gateway.ingest, &own, requests).await.map(|response| response.into_inner().ack.unwrap())
    };
    // Without a handshake it is itself, too.
    let ack = push(vec![raw_batch(vec![encode(&event("mine", 1, "x"))])]).await.unwrap();
    assert_eq!(ack.status(), Accepted);
    let foreign = push(vec![handshake("another", 0)]).await.unwrap_err();
    assert_eq!(foreign.code(), Code::InvalidArgument, "{foreign}");
    let ack = push(vec![raw_batch(vec![encode(&event("another", 2, "x"))])]).await.unwrap();
    assert_eq!(ack.status(), Rejected, "a dead letter: {ack:?}");
    let stored = gateway.log.follow(0).read(usize::MAX, usize::MAX).unwrap();
    assert_eq!(stored.iter().map(|event| event.agent.as_str()).collect::<Vec<_>>(), ["mine"]);
}

#[tokio::test]
async fn nobody_is_let_in_under_the_control_planes_name() {
    let gateway = gateway();
    let requests = stream::iter([Ok(handshake("arcgate", 0))]);
    let refused = push_events(&gateway.ingest, &Identity::Anonymous, requests).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn only_people_and_scripts_send_events_that_begin_runs() {
    let push = async |identity: &Identity| {
        let gateway = gateway();
        let mut event = event("a", 1, "x");
        event.event_type = "arcentra.scm.push".into();
        let requests = stream::iter([Ok(handshake("a", 0)), Ok(raw_batch(vec![encode(&event)]))]);
        push_events(&gateway.ingest, identity, requests).await.unwrap().into_inner().ack.unwrap().rejected_seqs
    };
    for identity in [Identity::StockAgent, Identity::Agent(Id::parse("a").unwrap())] {
        assert_eq!(push(&identity).await, [1], "{identity}");
    }
    for identity in [Identity::Anonymous, Identity::named("script")] {
        assert!(push(&identity).await.is_empty(), "{identity}");
    }
}
