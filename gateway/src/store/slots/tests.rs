//! The slot file survives torn writes, failed syncs and crashes, and its layout stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::store::disk::sim::SimDisk;

const PATH: &str = "/store/META";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/store")).unwrap();
    disk
}

fn open(disk: &SimDisk) -> SlotFile {
    SlotFile::open(disk, Path::new(PATH)).unwrap()
}

fn entries(n: u64) -> Entries {
    // Longer than a sector, so that a write can tear.
    Entries::from([("n".to_owned(), n.to_le_bytes().repeat(500))])
}

fn number_of(file: &SlotFile) -> u64 {
    file.get().get("n").map_or(0, |value| u64::from_le_bytes(value[..8].try_into().unwrap()))
}

#[test]
fn the_layout_is_the_documented_one() {
    let disk = disk(0);
    let mut file = open(&disk);
    let first = Entries::from([
        ("cursor.kafka".to_owned(), 4096_u64.to_le_bytes().to_vec()),
        ("boot_id".to_owned(), b"a boot".to_vec()),
        ("empty".to_owned(), Vec::new()),
    ]);
    file.put(first.clone()).unwrap();
    let raw = disk.open(Path::new(PATH)).unwrap();
    let mut bytes = vec![0; raw.size().unwrap() as usize];
    raw.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, include_bytes!("golden.bin"));
    assert_eq!(*open(&disk).get(), first);
    open(&disk).put(entries(2)).unwrap();
    let mut magic = [0; 8];
    raw.read_at(&mut magic, SLOT_BYTES as u64).unwrap();
    assert_eq!(&magic, MAGIC, "the second version lies in the second slot");
}

#[test]
fn what_was_put_survives_crashes_and_what_was_not_is_the_version_before() {
    for seed in 0..200 {
        let mut disk = disk(seed);
        let mut done = 0;
        for n in 1..8 {
            let mut file = open(&disk);
            let held = number_of(&file);
            assert!(held == done || held == n - 1, "seed {seed}: {held} of {}", n - 1);
            // Every second put fails at its write or its sync; then power fails, or only the process ends.
            if n % 2 == 0 {
                disk.fail_at(disk.ops() + (seed + n) % 2);
                assert!(file.put(entries(n)).is_err());
                assert_eq!(number_of(&file), held);
                done = held;
            } else {
                file.put(entries(n)).unwrap();
                done = n;
            }
            if (seed >> n) & 1 == 0 {
                disk = disk.crash();
            }
        }
    }
}

#[test]
fn a_retry_after_a_failed_sync_is_durable() {
    for seed in 0..50 {
        let disk = disk(seed);
        let mut file = open(&disk);
        file.put(entries(1)).unwrap();
        disk.fail_at(disk.ops() + 1);
        assert!(file.put(entries(2)).is_err());
        file.put(entries(2)).unwrap();
        assert_eq!(number_of(&open(&disk.crash())), 2, "seed {seed}");
    }
}

#[test]
fn a_damaged_slot_leaves_the_other_and_two_are_an_error() {
    let disk = disk(3);
    let mut file = open(&disk);
    file.put(entries(1)).unwrap();
    file.put(entries(2)).unwrap();
    disk.corrupt(Path::new(PATH), SLOT_BYTES as u64 + 100);
    assert_eq!(number_of(&open(&disk)), 1);
    disk.corrupt(Path::new(PATH), 100);
    let error = SlotFile::open(&disk, Path::new(PATH)).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn an_unknown_format_and_too_large_entries_are_refused() {
    let disk = disk(4);
    let mut file = open(&disk);
    let large = Entries::from([("large".to_owned(), vec![0; SLOT_BYTES])]);
    assert!(file.put(large).unwrap_err().to_string().contains("do not fit"));
    let mut bytes = encode(1, &entries(1)).unwrap();
    bytes[12] = 9;
    let crc = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.open(Path::new(PATH)).unwrap().write_all_at(&mut [IoSlice::new(&bytes)], 0).unwrap();
    let error = SlotFile::open(&disk, Path::new(PATH)).err().unwrap();
    assert!(matches!(error, StoreError::Version { found: 9, .. }), "{error}");
}
