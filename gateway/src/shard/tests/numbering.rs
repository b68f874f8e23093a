//! Who counts, which number comes next, and what is refused.

use super::super::MAX_LINE;
use super::*;
use crate::block::GapReason;

fn numbers(shown: &[Shown]) -> Vec<u64> {
    shown.iter().filter_map(|it| if let Shown::Line { number, .. } = it { Some(*number) } else { None }).collect()
}

#[test]
fn i6_the_gateway_counts_in_order_of_arrival_whoever_sends() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(counted_here("s", 1, "a\nb\n")), [2, 0, 0, 3]);
    assert_eq!(rig.counts(Submission { agent: id("other"), ..counted_here("s", 2, "c\n") }), [1, 0, 0, 4]);
    assert_eq!(rig.counts(counted_here("t", 3, "x\n")), [1, 0, 0, 2], "another stream");
    assert_eq!(rig.texts("s"), ["a", "b", "c"]);
    assert_eq!(numbers(&rig.shown("s")), [1, 2, 3]);
}

#[test]
fn i6_the_agents_count_is_kept() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(counted_there("s", 1, "1\n2\n3\n")), [3, 0, 0, 4]);
    assert_eq!(rig.counts(counted_there("s", 1, "1\n2\n3\n")), [0, 3, 0, 4], "a repeat");
    assert_eq!(rig.counts(counted_there("s", 2, "2\n3\n4\n5\n")), [2, 2, 0, 6], "half a repeat");
    assert_eq!(rig.counts(counted_there("s", 9, "9\n10\n")), [2, 0, 0, 11], "a hole");
    assert_eq!(rig.counts(counted_there("s", 5, "5\n6\n7\n8\n9\n")), [0, 2, 3, 11], "late");
    assert_eq!(rig.texts("s"), ["1", "2", "3", "4", "5", "(3)", "9", "10"]);
    let gap = Shown::Gap { first: 6, count: 3, reason: GapReason::NeverSent };
    assert!(rig.shown("s").contains(&gap));
    let mut rig = assert_rebuilt_alike(rig);
    assert_eq!(rig.counts(counted_there("s", 5, "5\n6\n7\n8\n9\n10\n11\n")), [1, 3, 3, 12], "as before a restart");
    assert_eq!(rig.texts("s"), ["1", "2", "3", "4", "5", "(3)", "9", "10", "11"]);
}

#[test]
fn a_stream_may_begin_with_a_hole() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(counted_there("s", 4, "4\n")), [1, 0, 0, 5]);
    assert_eq!(rig.counts(counted_there("s", 1, "1\n2\n3\n4\n")), [0, 1, 3, 5]);
    assert_eq!(rig.texts("s"), ["(3)", "4"]);
}

#[test]
fn half_a_repeat_is_found_however_its_bytes_are_kept() {
    let text = "1\n2\n3\n4\n";
    let long: String = (1..=9000).map(|n| format!("line {n}\n")).collect();
    for (piece, all) in [(zstd_piece(text, run(text, 5)), 4), (piece(&long, run(&long, 5)), 9000)] {
        let mut rig = Rig::new();
        rig.send(counted_there("s", 1, "1\n2\n")).unwrap();
        let again = Submission { payload: Payload::Lines(vec![piece]), ..counted_there("s", 1, "") };
        assert_eq!(rig.counts(again), [all - 2, 2, 0, all + 1]);
        let texts = rig.texts("s");
        assert_eq!((texts.len() as u64, &texts[2][..]), (all, if all == 4 { "3" } else { "line 3" }));
        assert_rebuilt_alike(rig);
    }
}

#[test]
fn only_one_agent_counts() {
    let mut rig = Rig::new();
    rig.send(counted_there("s", 1, "1\n")).unwrap();
    let foreign = rig.refusal(Submission { agent: id("b"), ..counted_there("s", 2, "2\n") });
    assert!(foreign.starts_with("foreign_writer: step run s is written by agent a"), "{foreign}");
    assert_eq!(rig.texts("s"), ["1"]);
    let mut rig = assert_rebuilt_alike(rig);
    assert_eq!(rig.refusal(Submission { agent: id("b"), ..counted_there("s", 2, "2\n") }), foreign, "after a restart too");
}

#[test]
fn the_two_ways_of_counting_do_not_mix() {
    let mut rig = Rig::new();
    rig.send(counted_there("s", 1, "1\n")).unwrap();
    rig.send(counted_here("t", 1, "1\n")).unwrap();
    for _ in 0..2 {
        assert!(rig.refusal(counted_here("s", 2, "2\n")).contains("numbered by its agent"), "also when it comes again");
        assert!(rig.refusal(from_event("s", 8, &["2\n"])).contains("numbered by its agent"));
        assert!(rig.refusal(counted_there("t", 2, "2\n")).contains("numbered by the gateway"));
    }
    assert_eq!((rig.texts("s"), rig.texts("t")), (vec!["1".into()], vec!["1".into()]));
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let refused = Submission { pipeline_id: arc("p"), ..counted_there("s", MAX_LINE + 1, "x\n") };
    assert!(rig.refusal(refused).contains("2147483647"));
    assert!(rig.refusal(counted_there("s", u64::MAX, "x\n")).contains("begin another step run"));
    assert_eq!(rig.counts(counted_here("s", 1, "a\n")), [1, 0, 0, 2], "the gateway may still count");
    assert_eq!(rig.texts("s"), ["a"]);
}

#[test]
fn the_last_number_is_taken_and_none_after_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(counted_there("s", MAX_LINE, "last\n"))[3], MAX_LINE + 1);
    rig.refusal(counted_there("s", MAX_LINE, "last\nafter\n"));
    assert_eq!(rig.counts(counted_there("s", MAX_LINE, "last\n")), [0, 1, 0, MAX_LINE + 1]);
    let lost = Lost { lines: MAX_LINE, more: false };
    rig.send(Submission { lost, ..counted_here("t", 1, "") }).unwrap();
    for _ in 0..2 {
        rig.refusal(counted_here("t", 2, "x\n"));
    }
    assert_eq!(rig.texts("t"), [format!("({MAX_LINE})")]);
}

#[test]
fn what_was_dropped_keeps_its_place() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 1, "1\n")).unwrap();
    let lost = Lost { lines: 3, more: true };
    assert_eq!(rig.counts(Submission { lost, ..counted_here("s", 2, "5\n") }), [1, 0, 0, 6]);
    rig.send(Submission { payload: Payload::Unreadable, ..counted_here("s", 3, "") }).unwrap();
    let gap = |first, count, reason| Shown::Gap { first, count, reason };
    let shown = rig.shown("s");
    assert_eq!(numbers(&shown), [1, 5]);
    assert_eq!(shown[1], gap(2, 3, GapReason::QueueFull));
    assert_eq!(shown[2], gap(5, 0, GapReason::QueueFull));
    assert_eq!(shown[4], gap(6, 0, GapReason::Unreadable));
    let mut rig = assert_rebuilt_alike(rig);
    assert_eq!(rig.shown("s"), shown);
}

#[test]
fn the_agents_count_knows_no_drops() {
    let mut rig = Rig::new();
    let lost = Lost { lines: 3, more: true };
    rig.send(Submission { lost, ..counted_there("s", 1, "1\n2\n") }).unwrap();
    assert_eq!(rig.texts("s"), ["1", "2"]);
}

#[test]
fn an_end_without_lines_leaves_open_who_counts() {
    let mut rig = Rig::new();
    // The event that ends a step may come before the first of its lines, and may come for one whose agent counts.
    rig.send(Submission { end_of_log: true, ..from_event("s", 8, &[]) }).unwrap();
    let mut rig = assert_rebuilt_alike(rig);
    assert!(rig.log.store.stream(&id("s")).unwrap().unwrap().ended);
    assert_eq!(rig.counts(counted_there("s", 1, "1\n")), [1, 0, 0, 2]);
    rig.send(Submission { end_of_log: true, ..from_event("s", 16, &[]) }).unwrap();
    rig.refusal(Submission { end_of_log: true, ..counted_here("s", 1, "") });
    let mut rig = assert_rebuilt_alike(rig);
    assert!(rig.refusal(Submission { agent: id("b"), ..counted_there("s", 2, "2\n") }).contains("foreign_writer"));
    assert_eq!(rig.texts("s"), ["1"]);
}

#[test]
fn a_question_changes_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(batch("s", Numbering::Gateway { fingerprint: 1 })), [0, 0, 0, 1]);
    assert_eq!(rig.log.store.stream(&id("s")).unwrap(), None);
    rig.send(counted_there("s", 1, "1\n")).unwrap();
    rig.flush();
    let outcome = rig.send(Submission { agent: id("b"), ..batch("s", Numbering::Gateway { fingerprint: 1 }) }).unwrap();
    assert_eq!((outcome.next_line, outcome.next_durable), (2, 1));
    rig.log.sync();
    assert_eq!(rig.send(batch("s", Numbering::Gateway { fingerprint: 1 })).unwrap().next_durable, 2);
}

#[test]
fn a_poisoned_store_takes_nothing() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 1, "1\n")).unwrap();
    rig.log.disk.fail_at(rig.log.disk.ops());
    rig.flush();
    assert!(matches!(rig.send(counted_here("s", 2, "2\n")), Err(Refusal::Store(error)) if !error.is_retryable()));
    assert_eq!(rig.log.texts("s"), [] as [&str; 0], "nothing was shown that was not written");
    let mut rig = rig.restart();
    assert_eq!(rig.counts(counted_here("s", 3, "3\n")), [1, 0, 0, 2]);
}
