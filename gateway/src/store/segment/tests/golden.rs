//! The bytes on disk are the documented ones. The golden files were made by another program from the tables in `format`.

use super::*;

fn file(disk: &SimDisk, base: Position) -> Vec<u8> {
    let file = disk.open(&segment_path(base)).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn the_layout_is_the_documented_one() {
    let segment = include_bytes!("../golden/segment.bin");
    let disk = SimDisk::new(0);
    let options = SegmentOptions { segment_bytes: segment.len() as u64, ..options(3) };
    let Opened { mut writer, .. } = try_open(&disk, options.clone(), 0).unwrap();
    options.clock.set(1_700_000_000_123);
    append_one(&mut writer, b"first frame");
    options.clock.set(1_700_000_000_456);
    writer.append(&[FrameDraft { kind: FrameKind(2), parts: &[] }], &mut Vec::new()).unwrap();
    assert_eq!(file(&disk, 0), segment);

    append_one(&mut writer, b"the next segment's");
    let base = segment.len() as u64;
    assert_eq!(file(&disk, base)[..64], *include_bytes!("../golden/successor.bin"));
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [format::file_name(0), format!("{base:020}.seg")]);
    assert!(FrameKind(0x81).must_be_understood());
    assert!(!FrameKind(2).must_be_understood());
}
