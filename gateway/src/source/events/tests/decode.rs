//! Each event is judged alone, and what can still be read of a bad one is told.

use arcgate_api::gateway::v1::{Event, Meta};
use bytes::Bytes;
use prost::Message;

use super::super::decode::{MAX_EVENT_BYTES, decode_event, named_agent};
use super::{encode, event, text};
use crate::id::{AgentId, Id};
use crate::store::events::{DeadReason, Incoming};

fn agent() -> AgentId {
    Id::parse("a1").unwrap()
}

fn dead(incoming: &Incoming) -> Option<(u64, Option<&str>, DeadReason)> {
    match incoming {
        Incoming::Event(_) => None,
        Incoming::Dead { seq, event_id, reason, .. } => Some((*seq, event_id.as_deref(), *reason)),
    }
}

#[test]
fn a_good_event_is_taken_as_it_came() {
    for named in ["a1", ""] {
        let raw = encode(&event(named, 7, "hello"));
        let Incoming::Event(taken) = decode_event(raw.clone(), &agent(), MAX_EVENT_BYTES) else { panic!("refused") };
        assert_eq!((&*taken.event_id, taken.seq), ("evt-7", 7));
        assert_eq!(taken.raw.as_ptr(), raw.as_ptr(), "the bytes are not copied");
    }
}

#[test]
fn the_time_of_sending_is_no_content() {
    let digest = |event: &Event| match decode_event(encode(event), &agent(), MAX_EVENT_BYTES) {
        Incoming::Event(event) => event.digest,
        Incoming::Dead { reason, .. } => panic!("{reason}"),
    };
    let first = event("a1", 7, "hello");
    let mut again = first.clone();
    again.meta.as_mut().unwrap().timestamp = Some(prost_types::Timestamp { seconds: 9, nanos: 9 });
    assert_eq!(digest(&first), digest(&again));
    assert_ne!(digest(&first), digest(&event("a1", 7, "hullo")));
}

#[test]
fn each_defect_has_its_reason() {
    let with = |change: &dyn Fn(&mut Event)| {
        let mut event = event("a1", 7, "hello");
        change(&mut event);
        encode(&event)
    };
    let meta = |change: &dyn Fn(&mut Meta)| with(&|event: &mut Event| change(event.meta.as_mut().unwrap()));
    let mut not_utf8 = with(&|event| event.payload.as_mut().unwrap().fields = [("k".into(), text("\u{1}#"))].into()).to_vec();
    *not_utf8.iter_mut().rfind(|byte| **byte == 1).unwrap() = 0xff;
    let good = with(&|_| {});
    let cut = good.slice(..good.len() - 1);
    let cases: [(&str, Bytes, u64, Option<&str>, DeadReason); 13] = [
        ("no id", with(&|event| event.event_id.clear()), 7, None, DeadReason::NoId),
        ("long id", with(&|event| event.event_id = "x".repeat(257)), 7, None, DeadReason::BadId),
        ("control character", with(&|event| event.event_id = "a\nb".into()), 7, None, DeadReason::BadId),
        ("no meta", with(&|event| event.meta = None), 0, Some("evt-7"), DeadReason::NoSeq),
        ("seq 0", meta(&|meta| meta.seq = 0), 0, Some("evt-7"), DeadReason::NoSeq),
        ("other agent", meta(&|meta| meta.agent_id = "a2".into()), 7, Some("evt-7"), DeadReason::OtherAgent),
        ("long step", meta(&|meta| meta.step_id = "x".repeat(257)), 7, Some("evt-7"), DeadReason::BadName),
        ("bad pipeline", meta(&|meta| meta.pipeline_id = "\u{7}".into()), 7, Some("evt-7"), DeadReason::BadName),
        ("not UTF-8", not_utf8.into(), 7, Some("evt-7"), DeadReason::NotUtf8),
        ("cut", cut, 7, Some("evt-7"), DeadReason::Malformed),
        ("too large", with(&|event| event.event_type = "x".repeat(2000)), 7, Some("evt-7"), DeadReason::TooLarge),
        ("empty", Bytes::new(), 0, None, DeadReason::NoSeq),
        ("garbage", Bytes::from_static(&[0xff; 20]), 0, None, DeadReason::Malformed),
    ];
    for (name, raw, seq, id, reason) in cases {
        let incoming = decode_event(raw.clone(), &agent(), 1000);
        assert_eq!(dead(&incoming), Some((seq, id, reason)), "{name}");
        assert_eq!(incoming.raw(), &raw, "{name}: the bytes are kept");
    }
}

#[test]
fn reasons_keep_their_numbers() {
    for number in 1..=10 {
        assert_eq!(DeadReason::from_number(number) as u8, number);
    }
    assert_eq!(DeadReason::from_number(200), DeadReason::Unknown);
}

#[test]
fn the_agent_is_found_in_an_event() {
    assert_eq!(named_agent(&encode(&event("a9", 1, ""))), Some("a9"));
    assert_eq!(named_agent(&encode(&event("", 1, ""))), None);
    assert_eq!(named_agent(&[0xff]), None);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(raw: Vec<u8>) {
        let _ = decode_event(raw.into(), &agent(), MAX_EVENT_BYTES);
    }

    /// Whatever is done to one byte of an event: if it is taken, others can decode it too.
    #[test]
    fn what_is_taken_is_decodable(at: proptest::sample::Index, byte: u8) {
        let mut raw = encode(&event("a1", 7, "hello")).to_vec();
        let at = at.index(raw.len());
        raw[at] = byte;
        if let Incoming::Event(event) = decode_event(raw.into(), &agent(), MAX_EVENT_BYTES) {
            proptest::prop_assert!(Event::decode(event.raw.clone()).is_ok(), "{:?}", event);
        }
    }
}
