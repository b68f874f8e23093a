//! One appends, one syncs, others read: on the machine's own file system.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::store::disk::RealDisk;

#[test]
fn readers_and_the_syncer_never_see_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = SegmentOptions { segment_bytes: 100_000, clock: Clock::system(), ..options(1) };
    let open = || {
        let mut found = 0;
        let (log, writer, _) = SegmentLog::open(Arc::new(RealDisk), dir.path(), options.clone(), 0, &mut |item| {
            found += u32::from(matches!(item, Scanned::Frame(_)));
            Ok(())
        })
        .unwrap();
        (log, writer, found)
    };
    let (log, mut writer, _) = open();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let before = log.appended();
                let synced = log.sync().unwrap();
                assert!(before <= synced && synced <= log.appended());
            }
        });
        scope.spawn(|| {
            let (mut at, mut next) = (0, 0_u32);
            while next < 3000 {
                let end = log.appended();
                for item in log.scan(at, end) {
                    let Scanned::Frame(frame) = item.unwrap() else { panic!("damage") };
                    assert_eq!(frame.body[..4], next.to_le_bytes());
                    assert_eq!(log.read(frame.position).unwrap(), frame);
                    next += 1;
                }
                at = end;
            }
        });
        for group in 0..1000_u32 {
            let bodies: Vec<_> = (0..3).map(|n| [&(group * 3 + n).to_le_bytes()[..], &[1; 700]].concat()).collect();
            append(&mut writer, &bodies).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert!(log.segments().len() > 10);
    drop((log, writer));
    assert_eq!(open().2, 3000);
}
