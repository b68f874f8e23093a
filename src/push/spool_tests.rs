//! The spool: what waits to be sent, within its bound.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use Stream::{Stderr, Stdout};

/// A spool in which each of `texts` is a chunk of its own.
fn spool_of(limit: usize, texts: &[&str]) -> Spool {
    let mut spool = Spool::new(limit);
    for (index, text) in texts.iter().enumerate() {
        spool.push(if index % 2 == 0 { Stdout } else { Stderr }, text.as_bytes(), 0);
    }
    spool
}

fn numbers(chunk: Option<Chunk>) -> Option<(u64, u32)> {
    chunk.map(|chunk| (chunk.first_line, chunk.lines))
}

#[test]
fn lines_are_counted_and_cut_into_chunks_by_stream_size_and_time() {
    let mut spool = Spool::new(SPOOL_BYTES);
    spool.push(Stdout, b"a\nb\n", 100);
    assert_eq!(spool.take(149), None, "not due yet");
    assert_eq!(numbers(spool.take(150)), Some((1, 2)));
    spool.push(Stdout, b"c\n", 200);
    spool.push(Stderr, b"d\n", 200);
    let chunk = spool.take(200).unwrap();
    assert_eq!((chunk.first_line, chunk.stream, &chunk.bytes[..]), (3, Stdout, &b"c\n"[..]));
    assert_eq!(spool.take(200), None);
    spool.push(Stderr, "x\n".repeat(2_500).as_bytes(), 210);
    assert_eq!(numbers(spool.take(210)), Some((4, 1_000)));
    assert_eq!(numbers(spool.take(210)), Some((1_004, 1_000)));
    assert_eq!(spool.take(210), None);
    spool.end();
    assert_eq!(numbers(spool.take(210)), Some((2_004, 501)), "the end makes the rest due");
    assert_eq!(spool.counted(), 2_504);

    let mut spool = Spool::new(SPOOL_BYTES);
    let long = format!("{}\n", "y".repeat(CHUNK_BYTES));
    spool.push(Stdout, format!("short\n{long}short\n").as_bytes(), 0);
    assert_eq!(numbers(spool.take(0)), Some((1, 2)));
    assert_eq!(numbers(spool.take(0)), None);
}

#[test]
fn what_is_durable_is_forgotten_and_what_the_gateway_lacks_is_sent_again() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n2\n", "3\n", "4\n5\n", "6\n"]);
    spool.end();
    spool.meet(1, 0);
    assert_eq!(spool.end_to_send(), None);
    for first in [1, 3, 4, 6] {
        assert_eq!(spool.take(0).unwrap().first_line, first);
    }
    assert_eq!(spool.end_to_send(), Some(7));
    spool.answered(7, 3);
    assert_eq!(spool.undelivered(), 3);

    // The gateway was killed: it kept what it had synced, and line 4.
    spool.meet(5, 4);
    assert_eq!(numbers(spool.take(0)), Some((4, 2)), "the whole chunk that holds the first line it lacks");
    assert_eq!(numbers(spool.take(0)), Some((6, 1)));
    spool.answered(7, 6);
    assert!(!spool.is_done());
    spool.end_acked();
    assert!(spool.is_done());
    assert_eq!((spool.undelivered(), spool.bytes(), spool.end_to_send()), (0, 0, None));
}

#[test]
fn a_full_spool_gives_up_the_oldest_lines_and_keeps_their_numbers() {
    let text = format!("{}\n", "z".repeat(999));
    let mut spool = Spool::new(3 * (1_000 + CHUNK_COST));
    for index in 0..10 {
        spool.push(if index % 2 == 0 { Stdout } else { Stderr }, text.as_bytes(), 0);
    }
    spool.end();
    assert!(!spool.has_room(1_000));
    spool.meet(1, 0);
    assert_eq!(numbers(spool.take(0)), Some((8, 1)), "8, 9 and 10 are left");
    assert!(spool.bytes() <= 3 * (1_000 + CHUNK_COST));
    spool.take(0);
    spool.take(0);
    spool.answered(11, 10);
    assert_eq!((spool.undelivered(), spool.counted()), (7, 10));
}

#[test]
fn lines_given_up_after_they_were_sent_count_as_the_gateway_says() {
    let cost = 2 + CHUNK_COST;
    let mut spool = spool_of(3 * cost, &["1\n", "2\n", "3\n", ""]);
    spool.meet(1, 0);
    spool.push(Stderr, b"4\n", 0);
    assert_eq!([1, 2, 3].map(|_| spool.take(0).unwrap().first_line), [1, 2, 3]);
    spool.push(Stdout, b"5\n", 0);
    spool.push(Stderr, b"6\n", 0);
    assert_eq!(spool.undelivered(), 6, "1 and 2 had to go, nobody knows yet whether they arrived");
    spool.answered(2, 0);
    assert_eq!(spool.undelivered(), 5, "1 did");
    spool.meet(2, 0);
    assert_eq!([3, 4, 5].map(|_| spool.take(0).unwrap().first_line), [3, 4, 5]);
    spool.answered(6, 5);
    assert_eq!(spool.undelivered(), 2, "2 did not, and 6 is still open");
}

#[test]
fn what_another_wrote_under_our_numbers_is_not_taken_for_ours() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n", "3\n4\n"]);
    spool.end();
    spool.meet(1, 0);
    let chunk = spool.take(0).unwrap();
    assert_eq!((chunk.first_line, chunk.sent), (1, false));
    // Another process has written 2 and 3 meanwhile, and they are on disk.
    spool.answered(4, 3);
    assert_eq!(spool.undelivered(), 3, "2 to 4 were never sent");
    spool.meet(4, 3);
    assert_eq!(numbers(spool.take(0)), Some((2, 1)), "the gateway's answer to it will say");
    spool.not_kept(2, 1);
    assert_eq!(numbers(spool.take(0)), Some((3, 2)));
    spool.not_kept(3, 1);
    spool.answered(5, 4);
    assert_eq!((spool.undelivered(), spool.is_waiting(), spool.end_to_send()), (2, false, Some(5)));
}

#[test]
fn a_chunk_tells_whether_it_was_sent_before() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n", ""]);
    spool.meet(1, 0);
    assert!(!spool.take(0).unwrap().sent);
    spool.meet(1, 0);
    assert_eq!([1, 2].map(|_| spool.take(50).unwrap().sent), [true, false]);
}

#[test]
fn numbers_that_no_line_can_have_are_no_reason_to_panic() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n"]);
    spool.meet(u64::MAX, u64::MAX);
    assert_eq!(spool.take(50).unwrap().first_line, 1 << 31);
    spool.answered(u64::MAX, u64::MAX);
    spool.meet(0, 0);
}

#[test]
fn a_step_run_that_has_lines_already_is_continued() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n"]);
    spool.meet(101, 100);
    assert_eq!(spool.take(50).unwrap().first_line, 101);
    assert_eq!(spool.take(50).unwrap().first_line, 102);
    assert_eq!(spool.counted(), 2);
    spool.meet(102, 101);
    assert_eq!(spool.take(50).unwrap().first_line, 102, "only the first meeting moves the numbers");
}

#[test]
fn a_gateway_that_forgot_everything_gets_what_is_left() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n", "3\n"]);
    spool.end();
    spool.meet(1, 0);
    while spool.take(0).is_some() {}
    spool.answered(4, 2);
    spool.meet(1, 0);
    assert_eq!(spool.take(0).unwrap().first_line, 3);
}

#[test]
fn refused_lines_are_not_sent_again() {
    let mut spool = spool_of(SPOOL_BYTES, &["1\n", "2\n", "3\n"]);
    spool.end();
    spool.meet(1, 0);
    while spool.take(0).is_some() {}
    spool.refused(2);
    spool.refused(17);
    spool.meet(1, 0);
    assert_eq!([1, 3].map(|_| spool.take(0).unwrap().first_line), [1, 3]);
    spool.answered(4, 3);
    assert_eq!((spool.undelivered(), spool.is_waiting()), (1, false));
}

/// Any gateway that forgets what it had not synced, at any moment: nothing is lost, nothing is out of order.
#[test]
fn random_connections_lose_nothing() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..200 {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let mut spool = Spool::new(SPOOL_BYTES);
        let (mut has, mut durable, mut written) = (0u64, 0u64, 0u64);
        spool.meet(1, 0);
        for step in 0.. {
            match rng.random_range(0..10) {
                0..3 if step < 300 => {
                    let count = rng.random_range(1..5);
                    let stream = if rng.random() { Stdout } else { Stderr };
                    let lines: String = (0..count).map(|line| format!("{}\n", written + line + 1)).collect();
                    written += count;
                    spool.push(stream, lines.as_bytes(), step * 10);
                }
                0..7 => {
                    if let Some(chunk) = spool.take(step * 10) {
                        assert!(chunk.first_line <= has + 1, "a hole before {}", chunk.first_line);
                        let text = std::str::from_utf8(&chunk.bytes).unwrap();
                        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
                        assert_eq!(numbers, (chunk.first_line..chunk.end()).collect::<Vec<_>>());
                        has = has.max(chunk.end() - 1);
                    }
                }
                7 => durable = rng.random_range(durable..=has),
                8 => spool.answered(has + 1, durable),
                _ => {
                    has = durable;
                    spool.meet(has + 1, durable);
                }
            }
            if step >= 300 && durable == written {
                break;
            }
        }
        spool.answered(has + 1, durable);
        assert_eq!((spool.undelivered(), spool.counted()), (0, written), "seed {seed}");
    }
}
