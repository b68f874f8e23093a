//! Each status, `last_accepted_seq`, `expected_seq` and `rejected_seqs` has one meaning: the table.

use arcgate_api::gateway::v1::IngestAck;
use arcgate_api::gateway::v1::ingest_ack::Status::{self, Accepted, OutOfOrder, PartialAccepted, Rejected};
use bytes::Bytes;

use super::super::ack::{Sent, Tally};
use super::super::mark::{Holes, StreamMark};
use crate::id::Id;
use crate::store::events::{DeadReason, EventFate, Incoming, IncomingEvent};

use EventFate::{Conflict, Dead, Repeated, Stored};

pub(super) fn sent(seq: u64, fate: EventFate) -> Sent {
    let raw = Bytes::new();
    Sent::from(&match fate {
        Dead => Incoming::Dead { seq, event_id: None, reason: DeadReason::NoId, raw },
        _ => Incoming::Event(IncomingEvent { event_id: "x".into(), seq, digest: 0, raw }),
    })
}

fn ack(mark: &mut StreamMark, holes: &mut Holes, batch: &[(u64, EventFate)], now: i64) -> IngestAck {
    let agent = Id::parse("a1").unwrap();
    let sent: Vec<_> = batch.iter().map(|(seq, fate)| sent(*seq, *fate)).collect();
    let fates: Vec<_> = batch.iter().map(|(_, fate)| *fate).collect();
    let mut tally = Tally::default();
    tally.add(&sent, &fates);
    mark.bring(sent.iter().map(|sent| sent.seq));
    let answer = mark.answer(&agent, tally.span, holes, now);
    tally.ack(answer)
}

struct Row {
    name: &'static str,
    /// `last_known_seq` of the handshake, if there is one.
    known: Option<u64>,
    batch: &'static [(u64, EventFate)],
    /// The answer: status, `last_accepted_seq`, `rejected_seqs`.
    answer: (Status, u64, &'static [u64]),
    /// The answer to the same batch a second later, if another.
    later: Option<(Status, u64)>,
}

const TABLE: &[Row] = &[
    Row { name: "all new", known: Some(0), batch: &[(1, Stored), (2, Stored)], answer: (Accepted, 2, &[]), later: None },
    Row { name: "all repeats", known: Some(0), batch: &[(1, Repeated), (2, Conflict)], answer: (Accepted, 2, &[]), later: None },
    Row { name: "any order", known: Some(4), batch: &[(6, Stored), (5, Stored)], answer: (Accepted, 6, &[]), later: None },
    Row { name: "no event", known: Some(9), batch: &[], answer: (Accepted, 9, &[]), later: None },
    Row { name: "no event, no handshake", known: None, batch: &[], answer: (Accepted, 0, &[]), later: None },
    Row { name: "no handshake", known: None, batch: &[(501, Stored)], answer: (Accepted, 501, &[]), later: None },
    Row { name: "below the mark", known: Some(9), batch: &[(3, Stored), (5, Stored)], answer: (Accepted, 5, &[]), later: None },
    Row {
        name: "across the mark",
        known: Some(9),
        batch: &[(9, Repeated), (10, Stored)],
        answer: (Accepted, 10, &[]),
        later: None,
    },
    Row {
        name: "one rejected",
        known: Some(0),
        batch: &[(1, Stored), (2, Dead), (3, Stored)],
        answer: (PartialAccepted, 3, &[2]),
        later: None,
    },
    Row { name: "all rejected", known: Some(0), batch: &[(2, Dead), (1, Dead)], answer: (Rejected, 2, &[1, 2]), later: None },
    Row {
        name: "rejected without seq",
        known: Some(0),
        batch: &[(1, Stored), (0, Dead)],
        answer: (PartialAccepted, 1, &[0]),
        later: None,
    },
    Row { name: "nothing but unreadable", known: Some(7), batch: &[(0, Dead)], answer: (Rejected, 7, &[0]), later: None },
    Row {
        name: "a hole inside",
        known: Some(0),
        batch: &[(1, Stored), (3, Stored), (4, Stored)],
        answer: (PartialAccepted, 1, &[]),
        later: None,
    },
    Row {
        name: "a hole inside, and one rejected",
        known: Some(0),
        batch: &[(1, Dead), (3, Stored)],
        answer: (PartialAccepted, 1, &[1]),
        later: None,
    },
    Row {
        name: "a hole before the first",
        known: Some(4),
        batch: &[(7, Stored), (8, Stored)],
        answer: (OutOfOrder, 4, &[]),
        later: Some((Accepted, 8)),
    },
    Row {
        name: "a hole before the first, one inside",
        known: Some(4),
        batch: &[(7, Stored), (9, Stored)],
        answer: (OutOfOrder, 4, &[]),
        later: Some((PartialAccepted, 7)),
    },
    Row {
        name: "a hole before the first, one rejected",
        known: Some(4),
        batch: &[(7, Stored), (8, Dead)],
        answer: (OutOfOrder, 4, &[8]),
        later: Some((PartialAccepted, 8)),
    },
    Row {
        name: "a hole before the first, all rejected",
        known: Some(4),
        batch: &[(7, Dead)],
        answer: (OutOfOrder, 4, &[7]),
        later: Some((Rejected, 7)),
    },
    Row {
        name: "the highest seq there is",
        known: Some(u64::MAX - 1),
        batch: &[(u64::MAX, Stored)],
        answer: (Accepted, u64::MAX, &[]),
        later: None,
    },
];

#[test]
fn i4_every_answer_has_one_meaning() {
    for Row { name, known, batch, answer: (status, mark, rejected), later } in TABLE {
        let mut holes = Holes::default();
        for (now, (status, mark)) in [(0, (*status, *mark)), (999, (*status, *mark)), (1_000, later.unwrap_or((*status, *mark)))]
        {
            let mut stream = StreamMark::default();
            if let Some(known) = known {
                stream.handshake(*known);
            }
            let ack = ack(&mut stream, &mut holes, batch, now);
            assert_eq!((ack.status(), ack.last_accepted_seq), (status, mark), "{name}, at {now}");
            assert_eq!(ack.expected_seq, mark.saturating_add(1), "{name}");
            assert_eq!(ack.rejected_seqs, *rejected, "{name}");
            assert_eq!(ack.message.is_empty(), status == Accepted && !batch.iter().any(|event| event.1 == Conflict), "{name}");
            let count = |fates: &[EventFate]| batch.iter().filter(|event| fates.contains(&event.1)).count() as u64;
            assert_eq!((ack.taken, ack.repeated), (count(&[Stored]), count(&[Repeated, Conflict])), "{name}");
        }
    }
}

#[test]
fn messages_say_what_happened_and_what_to_do() {
    let message = |known, batch: &[(u64, EventFate)]| {
        let mut stream = StreamMark::default();
        stream.handshake(known);
        ack(&mut stream, &mut Holes::default(), batch, 0).message
    };
    assert_eq!(message(0, &[(1, Dead)]), "1 event rejected, do not send again: seq 1: it has no event_id.");
    assert_eq!(message(0, &[(1, Stored), (3, Stored)]), "seq 2 is missing; send it, then what follows, again.");
    assert_eq!(message(0, &[(3, Stored)]), "seq 1 is missing before the first event; it is waited for up to a second.");
    assert_eq!(message(0, &[(1, Conflict)]), "1 event had the event_id of an earlier one with other content; the earlier stays.");
    let many: Vec<_> = (1..=5).map(|seq| (seq, Dead)).collect();
    assert!(message(0, &many).ends_with("seq 3: it has no event_id; and others."), "{}", message(0, &many));
}

#[test]
fn a_session_goes_on_from_what_it_was_told() {
    let mut stream = StreamMark::default();
    let mut holes = Holes::default();
    stream.handshake(0);
    let mut last = |batch: &[(u64, EventFate)], now| ack(&mut stream, &mut holes, batch, now).last_accepted_seq;
    assert_eq!(last(&[(1, Stored), (2, Stored)], 0), 2);
    assert_eq!(last(&[(4, Stored), (5, Stored)], 0), 2, "3 is missing");
    assert_eq!(last(&[(6, Stored)], 10), 2);
    assert_eq!(last(&[(3, Stored)], 20), 3, "never above the batch that is answered");
    assert_eq!(last(&[], 20), 6, "what was above the hole is not asked for again");
    assert_eq!(last(&[(7, Stored)], 20), 7);
    assert_eq!(last(&[(9, Stored)], 20), 7);
    assert_eq!(last(&[(10, Stored)], 1_019), 7);
    assert_eq!(last(&[(11, Stored)], 1_020), 11, "8 was waited for");
}

#[test]
fn a_clock_that_jumps_back_stalls_nobody() {
    let mut holes = Holes::default();
    let mut answer = |now| {
        let mut stream = StreamMark::default();
        stream.handshake(0);
        ack(&mut stream, &mut holes, &[(5, Stored)], now).last_accepted_seq
    };
    assert_eq!(answer(1_000_000), 0);
    assert_eq!(answer(500), 0);
    assert_eq!(answer(1_500), 5);
}
