//! Reads a file or stdin to its end, with a line of progress on a terminal.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lines::LineSplitter;
use super::shared::SharedSpool;
use super::signals::Signals;
use super::spool::Stream;

const READ_BYTES: usize = 64 << 10;
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What is read, and how much of it there is, if that is known.
pub(crate) struct Input {
    from: Box<dyn Read + Send>,
    size: Option<u64>,
}

impl Input {
    /// The file, or stdin for `None` and `-`.
    ///
    /// # Errors
    /// The file cannot be opened, or is a folder.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        match path.filter(|path| *path != Path::new("-")) {
            None => Ok(Self { from: Box::new(io::stdin()), size: None }),
            Some(path) => {
                let file = File::open(path)?;
                let metadata = file.metadata().ok();
                if metadata.as_ref().is_some_and(std::fs::Metadata::is_dir) {
                    return Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder; name a file in it"));
                }
                let size = metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
                Ok(Self { from: Box::new(file), size })
            }
        }
    }

    /// Reads all of it into the spool, waiting for room while the gateway takes lines at least every `patience`. A signal that
    /// asks to end ends it; gives that signal's number, or why reading failed.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) async fn read(self, spool: &SharedSpool, patience: Duration, signals: &mut Signals) -> io::Result<Option<i32>> {
        let (done, mut finished) = oneshot::channel();
        let read = Arc::new(AtomicU64::new(0));
        let reader = (spool.clone(), read.clone());
        std::thread::Builder::new().name("input".into()).spawn(move || {
            let _ = done.send(copy(self.from, &reader.0, patience, &reader.1));
        })?;
        let mut progress = Progress::new(self.size);
        loop {
            tokio::select! {
                outcome = &mut finished => {
                    progress.clear();
                    return outcome.unwrap_or_else(|_| Err(io::Error::other("the reading thread has failed"))).map(|()| None);
                }
                signal = signals.end() => {
                    progress.clear();
                    return Ok(Some(signal.as_raw()));
                }
                () = tokio::time::sleep(PROGRESS_EVERY), if progress.shown => {
                    progress.show(read.load(Ordering::Relaxed), spool.with(|spool| spool.counted()));
                }
            }
        }
    }
}

fn copy(mut from: impl Read, spool: &SharedSpool, patience: Duration, read: &AtomicU64) -> io::Result<()> {
    let (mut buffer, mut splitter) = (vec![0; READ_BYTES], LineSplitter::default());
    let mut push = |lines: &[u8]| spool.push_patiently(Stream::Stdout, lines, patience);
    let outcome = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                splitter.feed(&buffer[..count], &mut push);
                read.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    splitter.finish(&mut push);
    outcome
}

/// One line on a terminal's stderr that is written over again.
struct Progress {
    shown: bool,
    size: Option<u64>,
    start: Instant,
}

impl Progress {
    fn new(size: Option<u64>) -> Self {
        // What is typed on a terminal shows its own progress.
        let typed = size.is_none() && io::stdin().is_terminal();
        Self { shown: io::stderr().is_terminal() && !typed, size, start: Instant::now() }
    }

    fn show(&self, bytes: u64, lines: u64) {
        let _ = write!(io::stderr(), "\r\x1b[K{}", describe(bytes, self.size, lines, self.start.elapsed()));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn describe(bytes: u64, size: Option<u64>, lines: u64, took: Duration) -> String {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024);
    let of = match size {
        Some(size) if size > 0 => format!(" of {} ({}%)", mib(size), bytes.min(size) * 100 / size),
        _ => String::new(),
    };
    let rate = u128::from(lines) * 1_000 / took.as_millis().max(1);
    format!("arcgate: {lines} lines, {}{of}, {rate} lines/s", mib(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_it_is() {
        let line = describe(3 << 19, Some(6 << 20), 1_000, Duration::from_secs(2));
        assert_eq!(line, "arcgate: 1000 lines, 1.5 MiB of 6.0 MiB (25%), 500 lines/s");
        assert_eq!(describe(0, None, 0, Duration::ZERO), "arcgate: 0 lines, 0.0 MiB, 0 lines/s");
    }

    #[test]
    fn all_of_an_input_is_spooled() {
        let spool = SharedSpool::new(1 << 20);
        let read = AtomicU64::new(0);
        let outcome = copy(&b"one\ntwo"[..], &spool, Duration::ZERO, &read);
        assert!(outcome.is_ok());
        assert_eq!((spool.with(|spool| spool.counted()), read.into_inner()), (2, 7));
    }
}
