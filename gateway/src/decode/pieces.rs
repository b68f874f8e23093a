//! Cuts a batch's text at line ends into pieces that each fit a block.

use bytes::Bytes;
use memchr::{memchr_iter, memrchr};

use super::cut::count_lines;
use super::room::{Owner, Room};
use super::{Decoded, Piece};
use crate::block::format::MAX_RUNS;
use crate::block::{Codec, MAX_RAW_BYTES, Run};

/// The text of a batch, no line too long, and what its lines have beside it.
pub(super) struct Text {
    pub(super) owner: Owner,
    /// Cover all lines.
    pub(super) runs: Vec<Run>,
    pub(super) lines: usize,
    pub(super) truncated: u32,
}

/// The pieces of `text`, for which `room` has taken the memory.
pub(super) fn cut(text: Text, room: Room) -> Decoded {
    let Text { owner, runs, lines, truncated } = text;
    let bytes = owner.into_bytes();
    let raw_bytes = bytes.len() as u64;
    let pieces = match bytes.len() {
        0 => Vec::new(),
        1..=MAX_RAW_BYTES if runs.len() <= MAX_RUNS => vec![plain(bytes, lines, runs)],
        _ => cut_up(bytes, runs),
    };
    Decoded { pieces, lines: lines as u64, raw_bytes, truncated, memory: room.into_permit() }
}

fn plain(bytes: Bytes, lines: usize, runs: Vec<Run>) -> Piece {
    Piece {
        lines: saturated(lines),
        raw_bytes: saturated(bytes.len()),
        codec: Codec::Plain,
        ends_with_newline: bytes.ends_with(b"\n"),
        bytes,
        runs,
    }
}

fn cut_up(mut rest: Bytes, runs: Vec<Run>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(rest.len() / (MAX_RAW_BYTES / 2) + runs.len() / MAX_RUNS + 1);
    let mut runs = Stretches { runs, next: 0 };
    while !rest.is_empty() {
        let mut end = rest.len();
        if end > MAX_RAW_BYTES {
            // There is one: a line with its end is shorter than a block.
            end = memrchr(b'\n', &rest[..MAX_RAW_BYTES]).map_or(MAX_RAW_BYTES, |newline| newline + 1);
        }
        let mut lines = count_lines(&rest[..end]);
        let (taken, covered) = runs.take(lines);
        if covered < lines && covered > 0 {
            lines = covered;
            end = memchr_iter(b'\n', &rest).nth(covered - 1).map_or(end, |newline| newline + 1);
        }
        pieces.push(plain(rest.split_to(end), lines, taken));
    }
    pieces
}

/// What is left of the runs.
struct Stretches {
    runs: Vec<Run>,
    next: usize,
}

impl Stretches {
    /// Takes the runs of the next `lines` lines, or as many of them as one block may have; says how many lines that are.
    fn take(&mut self, lines: usize) -> (Vec<Run>, usize) {
        let mut taken = Vec::with_capacity((self.runs.len() - self.next).min(MAX_RUNS));
        let mut covered = 0;
        while covered < lines
            && taken.len() < MAX_RUNS
            && let Some(run) = self.runs.get_mut(self.next)
        {
            let part = run.lines.min(saturated(lines - covered));
            taken.push(Run { lines: part, ..run.clone() });
            run.lines -= part;
            self.next += usize::from(run.lines == 0);
            covered += part as usize;
        }
        (taken, covered)
    }
}

/// A count that fits by what is accepted: a batch has fewer bytes than 4 GiB.
pub(super) fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
