//! Operations that fail: what was refused leaves no trace, what cannot be mended poisons.

use super::*;

#[test]
fn a_failed_sync_poisons_and_reads_go_on() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let synced = append_one(&mut writer, b"synced");
    log.sync().unwrap();
    let unsynced = append_one(&mut writer, b"not synced");
    let before = log.synced();
    disk.fail_at(disk.ops());
    let error = log.sync().unwrap_err();
    assert!(error.to_string().starts_with("cannot sync /store/events/0"), "{error}");
    assert_eq!(log.synced(), before);
    let error = append(&mut writer, &[vec![1]]).unwrap_err();
    assert!(error.to_string().contains("because it could not sync /store/events/0"), "{error}");
    assert!(matches!(log.sync(), Err(StoreError::Poisoned { .. })), "a later sync would lie");
    assert!(log.poisoned().is_some());
    assert_eq!(log.read(synced).unwrap().body, "synced");
    assert_eq!(log.read(unsynced).unwrap().body, "not synced");

    // What the page cache still holds is made durable by the next opening, before anyone is told of it.
    let reopened = open(&disk, synced);
    assert_eq!(reopened.recovery.frames, 2);
    assert_eq!(open(&disk.crash(), 0).recovery.frames, 2);
}

#[test]
fn poison_from_outside_ends_acceptance() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    log.poison("write the index");
    log.poison("something later");
    let error = append(&mut writer, &[vec![1]]).unwrap_err().to_string();
    assert!(error.ends_with("because it could not write the index"), "{error}");
    assert!(log.sync().is_err());
}

#[test]
fn a_failed_write_leaves_nothing() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let Opened { log, mut writer, .. } = open(&disk, 0);
        append_one(&mut writer, b"before");
        let end = log.appended();
        disk.fail_at(disk.ops());
        let error = append(&mut writer, &[b"failed".to_vec(), vec![7; 1000]]).unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert_eq!((log.appended(), writer.end()), (end, end));
        let after = append_one(&mut writer, b"after");
        assert_eq!(after, end);
        // Not even a loss of power brings it back.
        let found = frames(&open(&disk.crash(), 0).items);
        assert!(found.iter().all(|(_, body)| body == b"before" || body == b"after"), "seed {seed}");
        assert_eq!(found[0].1, b"before", "the cut was synced, and with it what was before");
    }
}

#[test]
fn a_failed_write_that_cannot_be_cut_off_poisons() {
    for failing in [1, 2] {
        let disk = SimDisk::new(0);
        let Opened { log, mut writer, .. } = open(&disk, 0);
        append_one(&mut writer, b"before");
        // The disk is full, and then the truncation or its sync fails.
        disk.enospc(true);
        disk.fail_at(disk.ops() + failing);
        assert!(append(&mut writer, &[b"failed".to_vec()]).is_err());
        disk.enospc(false);
        assert!(matches!(append(&mut writer, &[b"refused".to_vec()]), Err(StoreError::Poisoned { .. })));
        assert!(log.poisoned().is_some());
    }
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let mut expected = Vec::new();
    for n in 0..12 {
        // At the second round a segment is full too, so that the new one cannot be begun.
        let body = vec![n; 1200];
        disk.enospc(true);
        let error = append(&mut writer, std::slice::from_ref(&body)).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }) && error.is_retryable(), "{error}");
        disk.enospc(false);
        // A small frame may still fit where the large one did not.
        expected.push((append_one(&mut writer, &[n]), vec![n]));
        expected.push((append_one(&mut writer, &body), body));
    }
    log.sync().unwrap();
    assert!(log.poisoned().is_none());
    assert_eq!(frames(&scan(&log, 0)), expected);
    let reopened = open(&disk.crash(), 0);
    assert_eq!(frames(&reopened.items), expected);
    assert!(damages(&reopened.items).is_empty());
}

#[test]
fn a_frame_that_is_too_large_is_refused() {
    let Opened { log, mut writer, .. } = open(&SimDisk::new(0), 0);
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    let parts: Vec<_> = (0..129).map(|_| mebibyte.clone()).collect();
    let error = writer.append(&[FrameDraft { kind: KIND, parts: &parts }], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("longer than any may be"), "{error}");
    assert!(log.poisoned().is_none());
    writer.append(&[FrameDraft { kind: KIND, parts: &parts[..128] }], &mut Vec::new()).unwrap();
    assert_eq!(log.read(64).unwrap().body.len(), MAX_BODY_BYTES);
    assert_eq!(scan(&log, 0).len(), 1);
}

#[test]
fn a_segment_that_cannot_be_unlinked_stays() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let first = append_one(&mut writer, &[1; 3000]);
    append_one(&mut writer, &[2; 3000]);
    append_one(&mut writer, &[3; 3000]);
    disk.fail_at(disk.ops());
    assert!(log.trim(Position::MAX).is_err());
    assert_eq!(log.start(), 0);
    assert_eq!(log.read(first).unwrap().body[0], 1);
    assert_eq!(log.trim(Position::MAX).unwrap(), log.segments()[0].start);
    assert!(log.start() > 0);
}
