//! Who the store is stays; incarnation, epoch and cursors only rise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::store::disk::sim::SimDisk;

fn open(disk: &SimDisk, boot_id: &str) -> StoreMeta {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    StoreMeta::open(&disk, Path::new("/store"), boot_id).unwrap()
}

#[test]
fn the_epoch_rises_only_after_a_loss_of_power() {
    let disk = SimDisk::new(1);
    let first = open(&disk, "boot 1");
    assert_eq!((first.incarnation(), first.epoch()), (1, 1));
    let killed = open(&disk, "boot 1");
    assert_eq!((killed.incarnation(), killed.epoch()), (2, 1), "the page cache outlives the process");
    let disk = disk.crash();
    let rebooted = open(&disk, "boot 2");
    assert_eq!((rebooted.incarnation(), rebooted.epoch()), (3, 2));
    rebooted.close_clean().unwrap();
    let disk = disk.crash();
    let again = open(&disk, "boot 3");
    assert_eq!((again.incarnation(), again.epoch()), (4, 2), "it was closed in order");
    let disk = disk.crash();
    assert_eq!(open(&disk, "boot 4").epoch(), 3, "a clean close counts once");
    assert_eq!(open(&disk, "boot 4").store_id(), first.store_id());
}

#[test]
fn the_epoch_rises_once_after_a_poisoned_run() {
    let disk = SimDisk::new(5);
    let first = open(&disk, "boot");
    first.note_poisoned().unwrap();
    first.note_poisoned().unwrap();
    let disk = disk.crash();
    assert_eq!(open(&disk, "boot").epoch(), 2, "in the same boot");
    let second = open(&disk, "boot");
    assert_eq!(second.epoch(), 2);
    second.save_known_since(77).unwrap();
    let third = open(&disk, "boot");
    assert_eq!((third.epoch(), third.known_since()), (2, 77));
}

#[test]
fn a_cursor_is_durable_and_never_moves_back() {
    let disk = SimDisk::new(2);
    let meta = open(&disk, "boot");
    assert_eq!(meta.cursor("kafka"), 0);
    meta.save_cursor("kafka", 800).unwrap();
    meta.save_cursor("kafka", 400).unwrap();
    meta.save_cursor("clickhouse", 80).unwrap();
    assert_eq!(meta.cursor("kafka"), 800);
    let meta = open(&disk.crash(), "other");
    assert_eq!((meta.cursor("kafka"), meta.cursor("clickhouse")), (800, 80));
}

#[test]
fn a_cursor_that_could_not_be_saved_stays() {
    let disk = SimDisk::new(3);
    let meta = open(&disk, "boot");
    disk.fail_at(disk.ops() + 1);
    assert!(meta.save_cursor("kafka", 800).is_err());
    assert_eq!(meta.cursor("kafka"), 0);
    meta.save_cursor("kafka", 800).unwrap();
    assert_eq!(meta.cursor("kafka"), 800);
}

#[test]
fn a_record_without_its_fields_is_damage() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(4));
    disk.create_dir_all(Path::new("/store")).unwrap();
    let mut file = SlotFile::open(&*disk, Path::new("/store/META")).unwrap();
    file.put(Entries::from([("store_id".to_owned(), vec![1; 16])])).unwrap();
    let error = StoreMeta::open(&disk, Path::new("/store"), "boot").err().unwrap();
    assert!(error.to_string().contains("names no incarnation"), "{error}");
}
