#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

use super::*;

const MB: u64 = 1 << 20;
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A body that sends these frames, then ends or says nothing more.
struct Frames {
    frames: VecDeque<Bytes>,
    silent: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            None if self.silent => Poll::Pending,
            frame => Poll::Ready(frame.map(|data| Ok(Frame::data(data)))),
        }
    }
}

fn prefix(length: u64) -> Bytes {
    [&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat().into()
}

/// A message's frames: what comes first is its prefix alone.
fn message(length: u64) -> impl Iterator<Item = Bytes> {
    let chunk = move |n: u64| Bytes::from_static(&ZEROS[..(length - n * MB).min(MB) as usize]);
    std::iter::once(prefix(length)).chain((0..length.div_ceil(MB)).map(chunk))
}

fn settings(budget: &Budget) -> AnnouncedLengths {
    AnnouncedLengths { stall: Duration::from_millis(30), ..AnnouncedLengths::new(budget.clone()) }
}

fn body(frames: impl IntoIterator<Item = Bytes>, budget: &Budget) -> AnnouncedBody<Frames> {
    AnnouncedBody::new(Frames { frames: frames.into_iter().collect(), silent: false }, settings(budget))
}

/// The next frame, if it can be had at once.
fn next(body: &mut AnnouncedBody<Frames>) -> Option<Option<Bytes>> {
    body.frame().now_or_never().map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
}

/// Reads messages as tonic does: asks for more only when it has not got a whole one.
async fn read(mut body: AnnouncedBody<Frames>, messages: Vec<u64>, in_flight: Arc<AtomicU64>, most: Arc<AtomicU64>) {
    for length in messages {
        let mut have = 0;
        while have < length + 5 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            have += frame.len() as u64;
            most.fetch_max(in_flight.fetch_add(frame.len() as u64, SeqCst) + frame.len() as u64, SeqCst);
            tokio::task::yield_now().await;
        }
        in_flight.fetch_sub(have, SeqCst);
    }
    assert!(body.frame().await.is_none());
}

/// I8, for half-received messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i8_announced_bodies_never_have_more_than_the_budget_in_flight() {
    let budget = Budget::new(256 * MB);
    let (in_flight, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let lengths = vec![64 * MB, 10, 64 * MB];
            let body = body(lengths.iter().flat_map(|length| message(*length)), &budget);
            tokio::spawn(read(body, lengths, Arc::clone(&in_flight), Arc::clone(&most)))
        })
        .collect();
    for reader in readers {
        timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
    let most = most.load(SeqCst);
    // The prefix of each comes before its memory.
    assert!(most <= 256 * MB + 64 * 100, "{most}");
    assert!(most >= 128 * MB, "more than one at a time: {most}");
    assert_eq!((budget.used(), in_flight.load(SeqCst)), (0, 0));
}

#[test]
fn a_message_waits_for_its_memory_before_more_of_it_is_read() {
    let budget = Budget::new(10 * MB);
    let held = budget.try_take(6 * MB).unwrap();
    let mut body = body(message(5 * MB), &budget);
    assert_eq!(next(&mut body), Some(Some(prefix(5 * MB).slice(..4))), "its length is not known yet");
    assert_eq!((next(&mut body), budget.waiting()), (None, 1));
    drop(held);
    // The rest of the prefix, and 1 MiB each.
    for _ in 0..6 {
        assert!(next(&mut body).is_some_and(|frame| frame.is_some()));
        assert_eq!(budget.used(), 5 * MB);
    }
    assert_eq!((next(&mut body), budget.used()), (Some(None), 0));
}

#[test]
fn one_larger_than_the_budget_gets_all_of_it() {
    let budget = Budget::new(2 * MB);
    let small = budget.try_take(1).unwrap();
    let mut body = body(message(50 * MB), &budget);
    assert!(next(&mut body).is_some());
    assert_eq!(next(&mut body), None);
    drop(small);
    assert!(next(&mut body).is_some());
    assert_eq!(budget.used(), 2 * MB);
    drop(body);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_body_that_is_dropped_while_it_waits_keeps_nobody_waiting() {
    let budget = Budget::new(2 * MB);
    let held = budget.try_take(MB).unwrap();
    let mut first = body(message(2 * MB), &budget);
    let mut second = body(message(MB), &budget);
    assert!(next(&mut first).is_some() && next(&mut second).is_some());
    assert!(next(&mut first).is_none() && next(&mut second).is_none());
    drop(first);
    assert!(next(&mut second).is_some());
    drop((second, held));
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[test]
fn the_memory_of_a_message_is_kept_until_its_reader_asks_on() {
    let budget = Budget::new(10 * MB);
    // The end of the first, a whole second and the begin of a third in one frame.
    let end = [&ZEROS[..], &prefix(100_000), &ZEROS[..100_000], &prefix(3 * MB), &[0]].concat();
    let mut body = body([prefix(2 * MB), Bytes::from_static(&ZEROS), end.into(), Bytes::from_static(&ZEROS)], &budget);
    assert!(next(&mut body).is_some());
    assert_eq!(budget.used(), 0);
    for used in [2 * MB, 2 * MB, 2 * MB, 3 * MB] {
        assert!(next(&mut body).is_some());
        assert_eq!(budget.used(), used);
    }
}

#[test]
fn short_messages_and_those_that_are_refused_take_nothing() {
    let budget = Budget::new(MB);
    let all = budget.try_take(MB).unwrap();
    let frames = message(64 << 10).chain(message(0)).chain(message(104_857_601)).chain(message(500 << 10));
    let mut body = body(frames, &budget);
    while next(&mut body).expect("nothing waits").is_some() {}
    drop(all);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_message_that_does_not_go_on_ends_its_stream() {
    let budget = Budget::new(2 * MB);
    let frames: VecDeque<_> = message(2 * MB).take(2).collect();
    let mut body = AnnouncedBody::new(Frames { frames, silent: true }, settings(&budget));
    let second = budget.take(MB);
    let mut second = std::pin::pin!(second);
    assert!((&mut second).now_or_never().is_some());
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    let third = budget.take(MB);
    let error = timeout(Duration::from_secs(10), body.frame()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.downcast::<Status>().unwrap().code(), tonic::Code::DeadlineExceeded);
    timeout(Duration::from_secs(10), third).await.unwrap();
}

#[tokio::test]
async fn a_stream_without_an_open_message_may_be_silent() {
    let budget = Budget::new(2 * MB);
    let frames: VecDeque<_> = message(MB).collect();
    let mut body = AnnouncedBody::new(Frames { frames, silent: true }, settings(&budget));
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert!(timeout(Duration::from_millis(100), body.frame()).await.is_err());
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn the_layer_bounds_the_bodies_of_requests() {
    let budget = Budget::new(10 * MB);
    let seen = budget.clone();
    let service = settings(&budget).layer(service_fn(move |request: Request<AnnouncedBody<Frames>>| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            body.frame().await;
            body.frame().await;
            Ok::<_, Infallible>(seen.used())
        }
    }));
    let request = Request::new(Frames { frames: message(3 * MB).collect(), silent: false });
    assert_eq!((service.oneshot(request).await.unwrap(), budget.used()), (3 * MB, 0));
}

proptest! {
    /// However a body is cut into frames, what is announced is what was written.
    #[test]
    fn lengths_are_found_however_the_body_is_cut(lengths in prop::collection::vec(0_u64..300, 0..10), cuts in prop::collection::vec(1_usize..50, 1..50)) {
        let whole: Vec<u8> = lengths.iter().flat_map(|length| [&prefix(*length)[..], &vec![9; *length as usize]].concat()).collect();
        let mut scan = Scan { max: 1000, ..Scan::default() };
        let (mut rest, mut ends) = (&whole[..], 0);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (frame, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            scan.pass(frame);
            // Where the body is now, by the lengths alone.
            let mut at = whole.len() - rest.len();
            let open = lengths.iter().find_map(|length| {
                let end = 5 + *length as usize;
                if at < end { Some((at >= 5).then_some(*length)) } else { at -= end; None }
            });
            prop_assert_eq!(scan.begun, open.flatten());
            ends += usize::from(std::mem::take(&mut scan.ended));
        }
        prop_assert!(ends <= lengths.len() && scan.left == 0 && scan.come == 0 && !scan.lost);
    }
}
