//! Damage costs what it hits and nothing else, and nothing else is taken for a frame.

use std::io::IoSlice;

use super::*;

/// Bodies of 10 frames over several segments, where they lie, and the disk that holds them durably.
fn filled(seed: u64) -> (SimDisk, Vec<(Position, Vec<u8>)>) {
    let disk = SimDisk::new(seed);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let bodies: Vec<Vec<u8>> = (0..10).map(|n| vec![n as u8; 700 + 100 * n]).collect();
    let frames = bodies.into_iter().map(|body| (append_one(&mut writer, &body), body)).collect();
    log.sync().unwrap();
    (disk, frames)
}

fn base_of(log: &SegmentLog, position: Position) -> Position {
    log.segments().iter().rfind(|segment| segment.start <= position).unwrap().start
}

fn disk_size(log: &SegmentLog, base: Position) -> u64 {
    log.shared.files.handle(base).unwrap().size().unwrap()
}

fn write_at(disk: &SimDisk, base: Position, position: Position, bytes: &[u8]) {
    let file = disk.open(&segment_path(base)).unwrap();
    file.write_all_at(&mut [IoSlice::new(bytes)], position - base).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_damaged_frame_is_reported_and_the_others_stay() {
    // A byte of the header, of the body, of both of two neighbours' headers; in the first, a middle and (body only) the last frame
    // of the log but one.
    for (hit, offsets) in
        [(0, vec![9]), (0, vec![50]), (3, vec![0]), (4, vec![100]), (8, vec![36]), (8, vec![300]), (4, vec![20, 41])]
    {
        let (disk, all) = filled(0);
        let log = open(&disk, 0).log;
        for offset in &offsets {
            disk.corrupt(&segment_path(base_of(&log, all[hit].0)), all[hit].0 + offset - base_of(&log, all[hit].0));
        }
        let error = log.read(all[hit].0).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { position, .. } if position == all[hit].0), "{error}");
        let mut rest = all.clone();
        rest.remove(hit);
        let items = scan(&log, 0);
        assert_eq!(frames(&items), rest, "frame {hit}, {offsets:?}");
        assert_eq!(damages(&items).len(), 1);
        assert_eq!(damages(&items)[0].0, all[hit].0);
        // It is kept as it is, however often the log is opened and whatever power does.
        let reopened = open(&disk.crash(), 0);
        assert_eq!(reopened.items, items);
        assert_eq!((reopened.recovery.damages, reopened.recovery.frames, reopened.recovery.cut_bytes), (1, 9, 0));
    }
}

#[test]
fn what_follows_the_last_frame_is_cut_and_overwritten() {
    for size in [1, 7, 8, 100, 5000] {
        let (disk, all) = filled(0);
        let opened = open(&disk, 0);
        let end = opened.log.appended();
        let base = base_of(&opened.log, end);
        write_at(&disk, base, end, &vec![0x5a; size]);
        let mut opened = open(&disk.crash(), all[9].0);
        assert_eq!((opened.recovery.end, opened.recovery.cut_bytes, opened.recovery.damages), (end, size as u64, 0));
        assert_eq!(disk_size(&opened.log, base), end - base);
        assert_eq!(opened.log.read(append_one(&mut opened.writer, b"next")).unwrap().body, "next");
    }
    // A torn last frame.
    let (disk, all) = filled(0);
    let log = open(&disk, 0).log;
    let base = base_of(&log, all[9].0);
    disk.corrupt(&segment_path(base), all[9].0 - base + 1000);
    let opened = open(&disk, 0);
    assert_eq!(opened.recovery.end, all[9].0);
    assert_eq!(frames(&opened.items), all[..9]);
}

#[test]
fn a_damaged_segment_header_costs_no_frame() {
    let (disk, all) = filled(0);
    let segments = open(&disk, 0).log.segments();
    for segment in &segments {
        disk.corrupt(&segment_path(segment.start), 3);
    }
    let opened = open(&disk, 0);
    assert_eq!(frames(&opened.items), all);
    let headers: Vec<_> = segments.iter().map(|segment| (segment.start, segment.start + 64)).collect();
    assert_eq!(damages(&opened.items), headers[..headers.len() - 1], "the newest segment's is written anew");
    assert_eq!(opened.log.segments(), segments);
}

#[test]
fn a_shortened_or_missing_segment_is_damage() {
    let (disk, all) = filled(0);
    let segments = open(&disk, 0).log.segments();
    let file = disk.open(&segment_path(segments[1].start)).unwrap();
    let lost: Vec<_> = all.iter().filter(|(at, _)| (segments[1].start..segments[1].end).contains(at)).collect();
    assert!(lost.len() > 1);
    file.truncate(lost[1].0 - segments[1].start + 17).unwrap();
    let before = disk.ops();
    let opened = open(&disk, 0);
    assert!(disk.ops() - before < 60, "missing bytes are not searched");
    assert_eq!(damages(&opened.items), [(lost[1].0, segments[1].end)]);
    assert!(opened.log.read(lost[1].0).is_err());

    disk.remove(&segment_path(segments[1].start)).unwrap();
    let opened = open(&disk, 0);
    assert_eq!(damages(&opened.items), [(segments[0].end, segments[1].end)]);
    assert_eq!(frames(&opened.items).len(), all.len() - lost.len());
}

#[test]
fn a_large_damaged_region_is_passed_in_few_reads() {
    let disk = SimDisk::new(0);
    let options = SegmentOptions { segment_bytes: 64 << 20, ..options(3) };
    let Opened { log, mut writer, .. } = try_open(&disk, options, 0).unwrap();
    append_one(&mut writer, b"before");
    let hit = append_one(&mut writer, &vec![0xee; 20 << 20]);
    let after = append_one(&mut writer, b"after");
    log.sync().unwrap();
    for at in [0, 8, 100] {
        disk.corrupt(&segment_path(0), hit + at);
    }
    let before = disk.ops();
    let items = scan(&log, 0);
    assert_eq!((damages(&items), frames(&items).len()), (vec![(hit, after)], 2));
    assert!(disk.ops() - before < 100, "{} reads", disk.ops() - before);
}

#[test]
fn stale_foreign_and_forged_bytes_are_no_frames() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk, 0);
    let mut stale = Vec::new();
    let first = append_one(&mut opened.writer, b"a frame that is to turn up elsewhere");
    let identity = format::Identity::new(LogKind::Events, STORE, 9);
    let frame = |identity: &format::Identity, position, incarnation, out: &mut Vec<u8>| {
        let header = format::FrameHeader { len: 0, kind: KIND, position, incarnation, received: 0, body_crc: 0 };
        identity.encode_frame(&header, out);
    };
    // A body full of what may be taken for headers of frames that lie where these bytes lie.
    let place = opened.log.appended() + 40;
    frame(&identity, first, 3, &mut stale);
    let later = place + stale.len() as u64;
    frame(&identity, later, 4, &mut stale);
    let of_another_store = format::Identity::new(LogKind::Events, STORE + 1, 9);
    frame(&of_another_store, place + stale.len() as u64, 3, &mut stale);
    let of_another_log = format::Identity::new(LogKind::Lines, STORE, 9);
    frame(&of_another_log, place + stale.len() as u64, 3, &mut stale);
    let hit = append_one(&mut opened.writer, &stale);
    let after = append_one(&mut opened.writer, b"after");
    // Both its own header and the next frame are damaged, so all of it is searched.
    disk.corrupt(&segment_path(0), hit);
    let last = append_one(&mut opened.writer, b"last");
    disk.corrupt(&segment_path(0), after);
    let items = scan(&opened.log, 0);
    assert_eq!(damages(&items), [(hit, last)]);
    assert_eq!(frames(&items).len(), 2);
    // Only its incarnation kept the second from being one.
    assert_eq!(frames(&try_open(&disk, options(4), 0).unwrap().items).last().unwrap().0, later);
}

#[test]
fn frames_of_an_earlier_incarnation_behind_a_later_one_are_stale() {
    let disk = SimDisk::new(0);
    let mut opened = try_open(&disk, options(5), 0).unwrap();
    append_one(&mut opened.writer, b"of the fifth");
    let mut older = try_open(&disk, options(4), opened.log.appended()).unwrap();
    append_one(&mut older.writer, b"of the fourth");
    let items = try_open(&disk, options(5), 0).unwrap().items;
    assert_eq!(frames(&items).len(), 1);
}

#[test]
fn unknown_formats_and_files_of_others_are_refused() {
    let refused = |change: &dyn Fn(&mut SegmentOptions, &SimDisk)| {
        let (disk, _) = filled(0);
        let mut options = options(3);
        change(&mut options, &disk);
        try_open(&disk, options, 0).err().unwrap()
    };
    let error = refused(&|options, _| options.store_id += 1);
    assert!(error.to_string().contains("another store"), "{error}");
    let error = refused(&|options, _| options.kind = LogKind::Lines);
    assert!(error.to_string().contains("another log"), "{error}");
    let error = refused(&|_, disk| {
        let last = open(disk, 0).log.segments().last().unwrap().start;
        let identity = format::Identity::new(LogKind::Events, STORE, 3);
        let mut header = identity.encode_segment(&format::SegmentHeader { base: last, newest_before: 0 });
        header[8] = 2;
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        write_at(disk, last, last, &header);
    });
    assert!(matches!(error, StoreError::Version { found: 2, oldest: 1, newest: 1, .. }), "{error}");
}

#[test]
fn reading_where_no_frame_begins_is_an_error_and_no_more() {
    let (disk, all) = filled(0);
    let log = open(&disk, 0).log;
    for position in [0, 8, all[1].0 + 8, all[1].0 + 1, log.appended(), log.appended() + (1 << 40)] {
        assert!(matches!(log.read(position), Err(StoreError::Damaged { .. })), "{position}");
    }
}
