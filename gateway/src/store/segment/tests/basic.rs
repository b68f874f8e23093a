//! The seven verbs on a disk that works.

use super::*;

#[test]
fn what_is_appended_is_read_back_and_scanned_in_order() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk, 0);
    assert_eq!(opened.recovery, Recovery { end: 64, ..Recovery::default() });
    // Of each padding, within and beyond the first read and the scan's window, across segments.
    let lens = (0..20).chain([4050, 4056, 4057, 4096, 30_000, 262_104, 262_105, 300_000, 1, 2_000, 2_000, 2_000]);
    let mut expected = Vec::new();
    for (n, len) in lens.enumerate() {
        let body: Vec<u8> = (0..len).map(|at| (at * 31 + n) as u8).collect();
        let (front, back) = body.split_at(len / 3);
        let parts = [Bytes::copy_from_slice(front), Bytes::new(), Bytes::copy_from_slice(back)];
        let draft = FrameDraft { kind: FrameKind(n as u8), parts: &parts };
        let mut positions = vec![7];
        opened.writer.append(&[draft, draft], &mut positions).unwrap();
        assert_eq!(positions.remove(0), 7, "positions are added to what is there");
        expected.extend(positions.into_iter().map(|position| (position, body.clone())));
    }
    let Opened { log, writer, .. } = opened;
    assert_eq!(log.appended(), writer.end());
    assert!(log.segments().len() > 5);
    for (position, body) in &expected {
        assert_eq!(position % 8, 0);
        let frame = log.read(*position).unwrap();
        assert_eq!((frame.position, &frame.body[..], frame.incarnation), (*position, &body[..], 3));
    }
    assert_eq!(frames(&scan(&log, log.start())), expected);
    assert!(damages(&scan(&log, log.start())).is_empty());

    let from = expected[30].0;
    assert_eq!(frames(&scan(&log, from)), expected[30..]);
    let some: Vec<_> = log.scan(from, expected[33].0).map(Result::unwrap).collect();
    assert_eq!(frames(&some), expected[30..33]);
    let end = log.read(expected[29].0).unwrap().next;
    assert_eq!(frames(&scan(&log, end)), expected[30..], "a frame's end is a place to go on");

    let reopened = open(&disk, from);
    assert_eq!(frames(&reopened.items), expected[30..]);
    assert_eq!(reopened.recovery.end, log.appended());
    assert_eq!(reopened.log.segments(), log.segments());
}

#[test]
fn synced_follows_appended() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    append_one(&mut writer, b"one");
    assert!(log.synced() < log.appended());
    assert_eq!(log.sync().unwrap(), log.appended());
    assert_eq!(log.synced(), log.appended());
    let before = disk.ops();
    log.sync().unwrap();
    assert_eq!(disk.ops(), before, "nothing to sync, nothing done");
    writer.append(&[], &mut Vec::new()).unwrap();
    assert_eq!(disk.ops(), before, "nothing to append, nothing done");
}

#[test]
fn trimming_takes_whole_segments_and_never_the_newest() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let positions: Vec<_> = (0..20).map(|n| append_one(&mut writer, &[n; 1500])).collect();
    log.sync().unwrap();
    let segments = log.segments();
    assert_eq!(segments.len(), 10);
    let mut reader = log.scan(0, Position::MAX);
    reader.next().unwrap().unwrap();

    assert_eq!(log.trim(segments[0].end - 1).unwrap(), 0, "a segment that ends later stays");
    assert_eq!(log.trim(positions[5]).unwrap(), segments[2].start);
    assert!(matches!(log.read(positions[3]), Err(StoreError::Trimmed(_))));
    assert_eq!(log.read(positions[4]).unwrap().body[0], 4);
    assert!(matches!(reader.next(), Some(Ok(Scanned::Frame(_)))), "a reader finishes the file it has open");
    assert!(matches!(reader.next(), Some(Err(StoreError::Trimmed(_)))));
    assert!(reader.next().is_none());

    assert_eq!(log.trim(Position::MAX).unwrap(), segments[9].start);
    assert_eq!(log.segments(), segments[9..]);
    let reopened = open(&disk.crash(), 0);
    assert_eq!(reopened.recovery.start, segments[9].start);
    assert_eq!(frames(&reopened.items).len(), 2);
}

#[test]
fn received_never_goes_back_and_each_segment_knows_its_newest() {
    let disk = SimDisk::new(0);
    let options = options(1);
    let clock = options.clock.clone();
    let Opened { log, mut writer, .. } = try_open(&disk, options, 0).unwrap();
    assert_eq!(log.segments()[0].newest, Millis::MIN);
    let times = [50, 100, 80, 200, 150, 300];
    let mut received = Vec::new();
    for time in times {
        clock.set(time);
        let position = append_one(&mut writer, &[0; 2500]);
        received.push(log.read(position).unwrap().received);
    }
    assert_eq!(received, [50, 100, 100, 200, 200, 300]);
    let newest = |log: &SegmentLog| log.segments().iter().map(|segment| segment.newest).collect::<Vec<_>>();
    assert_eq!(newest(&log), received);

    // Nothing is scanned, so it is found from the end backwards.
    let end = log.appended();
    let mut reopened = open(&disk, end);
    assert!(reopened.items.is_empty());
    assert_eq!(newest(&reopened.log), received);
    let position = append_one(&mut reopened.writer, b"");
    assert!(reopened.log.read(position).unwrap().received >= 300);

    // A successor's damaged header costs a look into the segment itself.
    let third = reopened.log.segments()[3].start;
    disk.corrupt(&segment_path(third), 20);
    assert_eq!(newest(&open(&disk, end).log)[..5], received[..5]);
}

#[test]
fn opening_does_not_grow_with_what_is_stored() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk, 0);
    let mut costs = Vec::new();
    for _ in 0..2 {
        for _ in 0..30 {
            append_one(&mut opened.writer, &[1; 3000]);
        }
        let before = disk.ops();
        opened = open(&disk, opened.log.appended());
        costs.push(disk.ops() - before);
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn few_files_stay_open() {
    let disk = SimDisk::new(0);
    let Opened { log, mut writer, .. } = open(&disk, 0);
    let positions: Vec<_> = (0..200).map(|_| append_one(&mut writer, &[1; 3000])).collect();
    for _ in 0..2 {
        for position in &positions {
            log.read(*position).unwrap();
        }
    }
    let before = disk.ops();
    for position in &positions[140..] {
        log.read(*position).unwrap();
    }
    assert_eq!(disk.ops() - before, 60, "the last ones are open: one read each");
}

#[test]
fn an_index_that_is_ahead_is_told_everything() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk, 0);
    for n in 0..5 {
        append_one(&mut opened.writer, &[n; 2500]);
    }
    let end = opened.log.appended();
    let ahead = open(&disk, end + 8);
    assert!(ahead.recovery.index_ahead);
    assert_eq!(frames(&ahead.items).len(), 5);
    let level = open(&disk, end);
    assert!(!level.recovery.index_ahead);
    assert!(level.items.is_empty());
    let gone = try_open(&SimDisk::new(1), options(3), 4096).unwrap();
    assert!(gone.recovery.index_ahead, "the log's folder was deleted");
}

#[test]
fn an_error_of_the_listener_ends_the_opening() {
    let disk = SimDisk::new(0);
    append_one(&mut open(&disk, 0).writer, b"one");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let result = SegmentLog::open(disk, Path::new(DIR), options(3), 0, &mut |_| Err(StoreError::Closed));
    assert!(matches!(result, Err(StoreError::Closed)));
}
