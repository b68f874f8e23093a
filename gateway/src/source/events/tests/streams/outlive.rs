//! Answers that wait for a sink: never before its cursor has passed, and never for ever.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::*;
use crate::store::Position;

/// Long enough never to be up in a test.
const LONG: Duration = Duration::from_hours(1);
/// Short enough to be up in a test.
const SHORT: Duration = Duration::from_millis(1);

fn waiting(patience: Duration) -> (Gateway, watch::Sender<Position>) {
    let (sink, cursor) = watch::channel(0);
    (gateway_outliving(Some(Outlive { cursor, patience })), sink)
}

impl Gateway {
    /// Waits until so many events are on disk, and tells where each ends.
    async fn ends(&self, count: usize) -> Vec<Position> {
        let mut synced = self.log.synced();
        loop {
            let ends: Vec<_> = self.log.follow(0).read(usize::MAX, usize::MAX).unwrap().iter().map(|event| event.next).collect();
            if ends.len() >= count {
                return ends;
            }
            synced.changed().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_waits_until_the_sink_has_the_events_for_repeats_too() {
    let (gateway, sink) = waiting(LONG);
    for round in 0..2 {
        let push = gateway.push(vec![handshake("a1", 0), batch(1..=10)]);
        let mut push = std::pin::pin!(push);
        let ends = tokio::select! {
            _ = &mut push => panic!("the sink has nothing"),
            ends = gateway.ends(10) => ends,
        };
        sink.send_replace(ends[8]);
        assert!((&mut push).now_or_never().is_none(), "the last one is missing");
        sink.send_replace(ends[9]);
        let ack = push.await.unwrap();
        assert_eq!((ack.status(), ack.last_accepted_seq), (Accepted, 10));
        assert_eq!((ack.taken, ack.repeated), if round == 0 { (10, 0) } else { (0, 10) });
        sink.send_replace(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_time_is_up_the_answer_says_what_the_sink_has_and_no_more() {
    let (gateway, sink) = waiting(SHORT);
    let push = || gateway.push(vec![handshake("a1", 0), batch(1..=10)]);
    let ack = push().await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken, ack.repeated), (PartialAccepted, 0, 0, 0));
    let ends = gateway.ends(10).await;
    sink.send_replace(ends[4]);
    let ack = push().await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.expected_seq, ack.repeated), (PartialAccepted, 5, 6, 5));
    assert_eq!(ack.message, "5 events stored, but not delivered yet; send seq 6 and what follows again.");
    // An agent that says it knows more is told no more, either.
    let ack = gateway.push(vec![handshake("a1", 100), batch(1..=10)]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq), (PartialAccepted, 5));
    sink.send_replace(ends[9]);
    let ack = push().await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.repeated), (Accepted, 10, 10));
    assert_eq!(gateway.stored(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_s_mark_never_passes_what_the_sink_lacks_and_moves_on_once_it_has_it() {
    let (gateway, sink) = waiting(SHORT);
    let ack = gateway.push(vec![handshake("a1", 10), batch(11..=20)]).await.unwrap();
    assert_eq!(ack.taken, 0);
    let old = *gateway.ends(10).await.last().unwrap();
    sink.send_replace(old);

    let (requests, mut answers) = gateway.session();
    requests.send(Ok(handshake("a1", 0))).await.unwrap();
    requests.send(Ok(batch(1..=10))).await.unwrap();
    let ack = answer(&mut answers).await;
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken), (PartialAccepted, 0, 0));
    for _ in 0..3 {
        // These are there, but the ten before are not: no hole that time makes real.
        requests.send(Ok(batch(11..=20))).await.unwrap();
        let ack = answer(&mut answers).await;
        assert_eq!((ack.last_accepted_seq, ack.repeated), (0, 10));
        gateway.clock.set(gateway.clock.now() + 2_000);
    }
    sink.send_replace(*gateway.ends(20).await.last().unwrap());
    requests.send(Ok(batch([21]))).await.unwrap();
    let ack = answer(&mut answers).await;
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.taken), (PartialAccepted, 20, 0));
    sink.send_replace(*gateway.ends(21).await.last().unwrap());
    requests.send(Ok(batch([21]))).await.unwrap();
    let ack = answer(&mut answers).await;
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.repeated), (Accepted, 21, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_is_rejected_waits_for_no_sink_behind_it() {
    let (gateway, sink) = waiting(SHORT);
    let mut bad = event("a1", 1, "");
    bad.event_id.clear();
    let ack = gateway.push(vec![handshake("a1", 0), raw_batch(vec![encode(&bad)])]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq), (PartialAccepted, 0), "the cursor passes its place in the log, too");
    sink.send_replace(Position::MAX);
    let ack = gateway.push(vec![handshake("a1", 0), raw_batch(vec![encode(&bad)])]).await.unwrap();
    assert_eq!((ack.status(), ack.last_accepted_seq, ack.rejected_seqs), (Rejected, 1, vec![1]));
}
