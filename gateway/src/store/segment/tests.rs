//! The log against a disk that fails and forgets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod basic;
mod crash;
mod damage;
mod failure;
mod golden;
mod threads;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::sim::SimDisk;

const DIR: &str = "/store/events";
const KIND: FrameKind = FrameKind(0x81);

/// A store id whose bytes, as stored, are 0, 1, 2, … 15.
const STORE: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;

fn options(incarnation: u64) -> SegmentOptions {
    SegmentOptions {
        kind: LogKind::Events,
        segment_bytes: 4096,
        store_id: STORE,
        incarnation,
        clock: Clock::manual(1_700_000_000_000),
    }
}

/// An opened log and what the opening has found.
struct Opened {
    log: SegmentLog,
    writer: LogWriter,
    recovery: Recovery,
    items: Vec<Scanned>,
}

fn try_open(disk: &SimDisk, options: SegmentOptions, scan_from: Position) -> Result<Opened, StoreError> {
    let mut items = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, writer, recovery) = SegmentLog::open(disk, Path::new(DIR), options, scan_from, &mut |item| {
        items.push(item);
        Ok(())
    })?;
    Ok(Opened { log, writer, recovery, items })
}

fn open(disk: &SimDisk, scan_from: Position) -> Opened {
    try_open(disk, options(3), scan_from).unwrap()
}

/// Appends bodies as frames, in one write.
fn append(writer: &mut LogWriter, bodies: &[Vec<u8>]) -> Result<Vec<Position>, StoreError> {
    let parts: Vec<[Bytes; 1]> = bodies.iter().map(|body| [Bytes::copy_from_slice(body)]).collect();
    let drafts: Vec<_> = parts.iter().map(|parts| FrameDraft { kind: KIND, parts }).collect();
    let mut positions = Vec::new();
    writer.append(&drafts, &mut positions)?;
    Ok(positions)
}

fn append_one(writer: &mut LogWriter, body: &[u8]) -> Position {
    append(writer, &[body.to_vec()]).unwrap()[0]
}

/// The frames of what was scanned, as position and body.
fn frames(items: &[Scanned]) -> Vec<(Position, Vec<u8>)> {
    let frame = |item: &Scanned| match item {
        Scanned::Frame(frame) => Some((frame.position, frame.body.to_vec())),
        Scanned::Damage { .. } => None,
    };
    items.iter().filter_map(frame).collect()
}

/// The damaged regions of what was scanned.
fn damages(items: &[Scanned]) -> Vec<(Position, Position)> {
    let damage = |item: &Scanned| match item {
        Scanned::Frame(_) => None,
        Scanned::Damage { from, to, .. } => Some((*from, *to)),
    };
    items.iter().filter_map(damage).collect()
}

fn scan(log: &SegmentLog, from: Position) -> Vec<Scanned> {
    log.scan(from, Position::MAX).map(Result::unwrap).collect()
}

fn segment_path(base: Position) -> std::path::PathBuf {
    Path::new(DIR).join(format::file_name(base))
}
