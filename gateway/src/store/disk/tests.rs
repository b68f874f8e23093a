//! The simulated disk forgets what it must and keeps what it must; the real one writes long vectors whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::sim::SimDisk;
use super::{Disk, DiskFile, RealDisk};

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(&mut [IoSlice::new(bytes)], at)
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn new_file(disk: &SimDisk) -> Arc<dyn DiskFile> {
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = new_file(&disk);
        write(&file, &[1; 1000], 0).unwrap();
        file.sync_data().unwrap();
        write(&file, &[2; 1000], 1000).unwrap();
        assert_eq!(read(&disk, Path::new("/d/f")).len(), 2000);
        let after = disk.crash();
        assert!(file.size().is_err(), "the old view is dead");
        let bytes = read(&after, Path::new("/d/f"));
        assert_eq!(bytes[..1000], [1; 1000]);
        assert!(bytes[1000..].iter().all(|&byte| byte == 0 || byte == 2));
        lost += usize::from(bytes[1000..] != [2; 1000]);
    }
    assert!((10..50).contains(&lost), "{lost} of 50 lost something");
}

#[test]
fn names_are_durable_after_the_folder_s_sync_only() {
    let mut found = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let kept = new_file(&disk);
        kept.sync_data().unwrap();
        let other = disk.create(Path::new("/d/g")).unwrap();
        write(&other, b"x", 0).unwrap();
        other.sync_data().unwrap();
        let names = disk.crash().list(Path::new("/d")).unwrap();
        assert!(names.contains(&"f".to_owned()));
        found += usize::from(names.contains(&"g".to_owned()));
    }
    assert!((1..50).contains(&found), "{found} of 50 found the file");
}

#[test]
fn after_a_failed_sync_the_next_one_makes_nothing_durable() {
    let survived = (0..50).filter(|&seed| {
        let disk = SimDisk::new(seed);
        let file = new_file(&disk);
        write(&file, &[1; 4096], 0).unwrap();
        disk.fail_at(disk.ops());
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        read(&disk.crash(), Path::new("/d/f")) == [1; 4096]
    });
    assert_eq!(survived.count(), 0);
    let disk = SimDisk::new(0);
    let file = new_file(&disk);
    write(&file, &[1; 4096], 0).unwrap();
    disk.fail_at(disk.ops());
    assert!(file.sync_data().is_err());
    write(&file, &[1; 4096], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&disk.crash(), Path::new("/d/f")), [1; 4096], "written again, it is durable");
}

#[test]
fn a_full_disk_takes_no_growth_and_a_lying_one_keeps_nothing() {
    let disk = SimDisk::new(1);
    let file = new_file(&disk);
    write(&file, &[1; 100], 0).unwrap();
    disk.enospc(true);
    write(&file, &[2; 100], 0).unwrap();
    assert_eq!(write(&file, &[3; 100], 50).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.space(Path::new("/d")).unwrap().free, 0);
    disk.enospc(false);
    write(&file, &[3; 100], 50).unwrap();

    let lost = (0..50).filter(|&seed| {
        let disk = SimDisk::new(seed);
        let file = new_file(&disk);
        disk.lie_on_sync(true);
        write(&file, &[1; 4096], 0).unwrap();
        file.sync_data().unwrap();
        read(&disk.crash(), Path::new("/d/f")) != [1; 4096]
    });
    assert!(lost.count() > 10);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let disk = SimDisk::new(7);
        let file = new_file(&disk);
        for at in 0..20 {
            write(&file, &[at as u8 + 1; 300], at * 300).unwrap();
        }
        read(&disk.crash(), Path::new("/d/f"))
    };
    assert_eq!(run(), run());
}

#[test]
fn the_real_disk_writes_more_parts_than_one_call_takes() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    RealDisk.create_dir_all(&deep).unwrap();
    let path = deep.join("file");
    let file = RealDisk.create(&path).unwrap();
    assert_eq!(RealDisk.create(&path).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    let lines: Vec<String> = (0..3000).map(|n| format!("{n}\n")).collect();
    let mut parts: Vec<_> = lines.iter().map(|line| IoSlice::new(line.as_bytes())).collect();
    file.write_all_at(&mut parts, 3).unwrap();
    file.sync_data().unwrap();
    RealDisk.sync_dir(&deep).unwrap();
    assert_eq!(read(&RealDisk, &path)[3..], *lines.concat().as_bytes());
    file.truncate(10).unwrap();
    assert_eq!(file.size().unwrap(), 10);
    let mut buffer = [0; 20];
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 5, "less only at the end");
    assert!(RealDisk.space(&deep).unwrap().total > 0);
    assert_eq!(RealDisk.list(&deep).unwrap(), ["file"]);
    RealDisk.remove(&path).unwrap();
    assert_eq!(RealDisk.open(&path).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
}
