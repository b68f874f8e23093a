//! Counts the lines of a batch that there is no memory for, so that the gap it leaves has its true size.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr_iter;

use super::{BatchBytes, Compression, Format};

/// A zstd frame whose window is larger (2^23 = 8 MiB) is not looked into: to read it would take the memory there is not.
const WINDOW_LOG: u32 = 23;

/// How many lines the batch holds; `None` if that can't be told in a small buffer, or within `limit` bytes of text.
#[must_use]
pub fn count_in_passing(batch: &BatchBytes, limit: u64) -> Option<u64> {
    if batch.format == Format::Records {
        return None;
    }
    match batch.compression {
        Compression::None => count(&batch.data[..], limit),
        Compression::Gzip => count(MultiGzDecoder::new(&batch.data[..]), limit),
        Compression::Zstd => {
            let mut reader = zstd::stream::read::Decoder::with_buffer(&batch.data[..]).ok()?;
            reader.window_log_max(WINDOW_LOG).ok()?;
            count(reader, limit)
        }
    }
}

fn count(text: impl Read, limit: u64) -> Option<u64> {
    let mut text = BufReader::with_capacity(64 << 10, text.take(limit + 1));
    let (mut lines, mut bytes, mut last) = (0, 0, b'\n');
    loop {
        let chunk = text.fill_buf().ok()?;
        let Some(end) = chunk.last() else { break };
        last = *end;
        lines += memchr_iter(b'\n', chunk).count() as u64;
        let length = chunk.len();
        bytes += length as u64;
        text.consume(length);
    }
    (bytes <= limit).then_some(lines + u64::from(last != b'\n'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_counted_without_being_held() {
        let text = "line\n".repeat(100_000) + "last";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for (compression, data) in [
            (Compression::None, text.clone().into_bytes()),
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Zstd, zstd),
        ] {
            let batch = BatchBytes {
                compression,
                data: data.into(),
                raw_size: 0,
                format: Format::Text,
                stream: crate::block::OutputStream::Unspecified,
                level: "".into(),
                plugin: "".into(),
                time: 0,
                agent: crate::id::Id::parse("a").unwrap(),
                seq: 1,
            };
            assert_eq!(count_in_passing(&batch, 1 << 20), Some(100_001));
            assert_eq!(count_in_passing(&batch, 1000), None);
        }
    }
}
