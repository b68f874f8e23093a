#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::store::disk::sim::SimDisk;

fn letters(disk: &SimDisk) -> DeadLetters {
    DeadLetters::new(Arc::new(disk.clone()), Path::new("/store"), "s")
}

fn letter(position: Position) -> DeadLetter {
    let rejected = Rejected { position, line: Some(3), reason: "too wide".into(), record: "{}".into(), ..Rejected::default() };
    DeadLetter::new("s", rejected, 5)
}

fn positions(letters: &DeadLetters) -> Vec<Position> {
    letters.list().unwrap().into_iter().map(|letter| letter.id.position).collect()
}

#[test]
fn what_was_put_is_there_after_a_crash_whole() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut kept = letters(&disk);
        assert_eq!(kept.count().unwrap(), 0);
        kept.put(&[letter(8), letter(16)]).unwrap();
        disk.fail_at(disk.ops() + seed % 8);
        let more = kept.put(&[letter(24), letter(8)]);
        let after = disk.crash();
        let mut found = letters(&after);
        let count = found.count().unwrap();
        assert!(count == 3 || (count == 2 && (more.is_err())), "{count}");
        for at in found.list().unwrap() {
            assert_eq!(found.read(at.id).unwrap(), letter(at.id.position));
        }
    }
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
    let disk = SimDisk::new(1);
    let mut kept = letters(&disk).bounded(3, u64::MAX);
    kept.count().unwrap();
    assert_eq!(kept.put(&[letter(8), letter(16), letter(24)]).unwrap(), 0);
    assert_eq!(kept.put(&[letter(32), letter(40)]).unwrap(), 2);
    assert_eq!(positions(&kept), [24, 32, 40]);
    let mut kept = letters(&disk).bounded(100, 1);
    kept.count().unwrap();
    assert_eq!(kept.put(&[letter(48)]).unwrap(), 4, "all of them");
}

#[test]
fn a_letter_is_renamed_to_be_sent_again_and_removed_by_either_name() {
    let disk = SimDisk::new(1);
    let mut kept = letters(&disk);
    kept.count().unwrap();
    kept.put(&[letter(8), letter(16)]).unwrap();
    let id = letter(8).id();
    assert_eq!(id.to_string().parse::<LetterId>().unwrap(), id);
    kept.ask_retry(id).unwrap();
    kept.ask_retry(id).unwrap();
    assert_eq!(kept.list().unwrap()[0], LetterInfo { id, retry: true });
    assert_eq!(kept.read(id).unwrap(), letter(8));
    assert!(kept.remove(id).unwrap());
    assert!(!kept.remove(id).unwrap());
    assert!(matches!(kept.ask_retry(id), Err(LetterError::Missing(_))));
    assert!(matches!(kept.read(id), Err(LetterError::Missing(_))));
    assert_eq!(positions(&kept), [16]);
    for name in ["", "8", "-", "8-", "+8-1", "../8-1", "8-1.json"] {
        assert!(name.parse::<LetterId>().is_err(), "{name}");
    }
}

#[test]
fn what_is_too_large_is_cut_and_says_so() {
    let record = Bytes::from(vec![b'x'; MAX_KEPT_RECORD + 1]);
    let cut = DeadLetter::new("s", Rejected { record, ..Rejected::default() }, 0);
    assert!(cut.cut && cut.record.len() == MAX_KEPT_RECORD);
    assert!(!letter(8).cut);
}

#[test]
fn only_a_record_that_is_there_whole_is_sent_again() {
    let of = |record: Bytes| DeadLetter::new("s", Rejected { record, ..Rejected::default() }, 5).check_whole();
    assert_eq!(of("{}".into()), Ok(()));
    for (record, why) in [(Bytes::new(), "nothing to send again"), (vec![b'x'; MAX_KEPT_RECORD + 1].into(), "too large")] {
        assert!(matches!(of(record), Err(DeliveryError::Permanent { why: ref said }) if said.contains(why)), "{why}");
    }
}
