//! Small batches become one block.

use super::*;
use crate::block::{Block, Content};

/// The blocks of a stream as they are stored.
fn blocks(rig: &mut Rig, step_run: &str) -> Vec<Block> {
    rig.flush();
    let found = rig.log.store.blocks_from(&id(step_run), 1, usize::MAX).unwrap();
    found.iter().map(|block| rig.log.store.read(&block.place).unwrap()).collect()
}

fn runs(block: &Block) -> &[Run] {
    let Content::Text { runs, .. } = &block.content else { panic!("a gap") };
    runs
}

#[test]
fn many_small_batches_become_one_block() {
    let mut rig = Rig::new();
    for n in 0..500 {
        rig.send(counted_here("s", n, &format!("line {n}\n"))).unwrap();
    }
    let blocks = blocks(&mut rig, "s");
    assert_eq!((blocks.len(), blocks[0].lines, runs(&blocks[0]).len()), (1, 500, 1));
    let Content::Text { codec, raw_bytes, bytes, .. } = &blocks[0].content else { panic!("a gap") };
    assert!(*codec == Codec::Lz4 && bytes.len() < *raw_bytes as usize / 2);
    assert_eq!(rig.texts("s")[499], "line 499");
    assert_rebuilt_alike(rig);
}

#[test]
fn stdout_and_stderr_in_turn_are_one_block_with_a_run_each() {
    let mut rig = Rig::new();
    for n in 0..6_u64 {
        let text = format!("{n}\n{n}\n");
        let stream = if n % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
        let run = Run { stream, ..run(&text, 1000 + n as i64 / 4) };
        rig.send(Submission { payload: Payload::Lines(vec![piece(&text, run)]), ..counted_here("s", n, "") }).unwrap();
    }
    let blocks = blocks(&mut rig, "s");
    assert_eq!((blocks.len(), runs(&blocks[0]).len()), (1, 6));
    let shown = rig.shown("s");
    for (at, line) in shown.iter().enumerate() {
        let Shown::Line { text, run, .. } = line else { panic!("a gap") };
        assert_eq!(*text, (at / 2).to_string());
        assert_eq!(run.stream, if at / 2 % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr });
        assert_eq!(run.time, 1000 + at as i64 / 8);
    }
}

#[test]
fn a_last_line_without_newline_is_a_line() {
    let mut rig = Rig::new();
    for (n, text) in ["a\nb", "c", "\n", "d\r\ne"].iter().enumerate() {
        rig.send(counted_here("s", n as u64, text)).unwrap();
    }
    assert_eq!(rig.texts("s"), ["a", "b", "c", "", "d", "e"]);
    assert_eq!(blocks(&mut rig, "s").len(), 1);
    assert_rebuilt_alike(rig);
}

#[test]
fn a_cut_line_stays_alone() {
    let mut rig = Rig::new();
    let cut = |n| {
        let run = Run { truncated: true, ..run("x\n", 1000) };
        Submission { payload: Payload::Lines(vec![piece("x\n", run)]), ..counted_here("s", n, "") }
    };
    for batch in [counted_here("s", 1, "a\n"), cut(2), cut(3), counted_here("s", 4, "b\n")] {
        rig.send(batch).unwrap();
    }
    let blocks = blocks(&mut rig, "s");
    assert_eq!(
        runs(&blocks[0]).iter().map(|run| (run.lines, run.truncated)).collect::<Vec<_>>(),
        [(1, false), (1, true), (1, true), (1, false)]
    );
}

#[test]
fn large_batches_are_kept_as_they_came() {
    let mut rig = Rig::new();
    let large: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    rig.send(counted_here("s", 1, "small\n")).unwrap();
    let compressed = zstd_piece(&large, run(&large, 5));
    let came = compressed.bytes.clone();
    rig.send(Submission { payload: Payload::Lines(vec![compressed]), ..counted_here("s", 2, "") }).unwrap();
    rig.send(counted_here("s", 3, &large)).unwrap();
    rig.send(counted_here("s", 4, "small\n")).unwrap();
    let stored = blocks(&mut rig, "s");
    assert_eq!(stored.iter().map(|block| block.lines).collect::<Vec<_>>(), [1, 20_000, 20_000, 1]);
    assert!(matches!(&stored[1].content, Content::Text { codec: Codec::Zstd, bytes, .. } if *bytes == came));
    assert!(matches!(&stored[2].content, Content::Text { codec: Codec::Lz4, .. }));
    assert_eq!(rig.texts("s").len(), 40_002);
    assert_rebuilt_alike(rig);
}

#[test]
fn a_block_is_closed_before_a_quarter_of_a_megabyte() {
    let mut rig = Rig::new();
    let text = format!("{}\n", "x".repeat(40_000));
    (0..30).for_each(|n| drop(rig.send(counted_here("s", n, &text)).unwrap()));
    let lines: Vec<_> = blocks(&mut rig, "s").iter().map(|block| block.lines).collect();
    assert_eq!(lines, [6, 6, 6, 6, 6]);
}

#[test]
fn lines_beside_a_hole_are_not_one_block() {
    let mut rig = Rig::new();
    rig.send(counted_there("s", 1, "1\n")).unwrap();
    rig.send(counted_there("s", 3, "3\n")).unwrap();
    rig.send(counted_there("s", 4, "4\n")).unwrap();
    let firsts: Vec<_> = blocks(&mut rig, "s").iter().map(|block| (block.first_line, block.lines)).collect();
    assert_eq!(firsts, [(1, 1), (3, 2)]);
}
