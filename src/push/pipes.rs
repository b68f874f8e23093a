//! Passes the command's output on: to this process's own stdout and stderr at once, then to the spool.
//!
//! A thread a pipe, because they must go on whatever the rest of the process waits for. A thread waits for the command and for
//! its own output only, as the command itself would.

#![expect(clippy::disallowed_types, reason = "held by the pipe's thread, and once by the one who waits for its end")]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::lines::LineSplitter;
use super::shared::SharedSpool;
use super::spool::Stream;

/// Read at once; as much as a pipe holds.
const READ_BYTES: usize = 64 << 10;
/// After the command's end, something that it has left running may still hold the pipe. So long a silence ends the waiting.
const SILENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(5);

/// One pipe that is passed on.
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    spool: SharedSpool,
    stream: Stream,
}

struct Shared {
    splitter: Mutex<LineSplitter>,
    ended: AtomicBool,
    bytes: AtomicU64,
}

impl Pipe {
    /// Passes `from` on to `to` and the spool until it ends.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn pass_on(
        from: impl Read + Send + 'static,
        to: impl AsFd,
        stream: Stream,
        spool: SharedSpool,
    ) -> io::Result<Self> {
        let to = File::from(to.as_fd().try_clone_to_owned()?);
        let (ended, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { splitter: Mutex::default(), ended, bytes });
        let pipe = Self { shared: shared.clone(), spool: spool.clone(), stream };
        std::thread::Builder::new().name(stream.name().to_owned()).spawn(move || {
            copy(from, to, stream, &spool, &shared);
            shared.ended.store(true, Ordering::Release);
        })?;
        Ok(pipe)
    }

    /// Waits for what the ended command has written; a last line without newline goes to the spool too.
    pub(crate) async fn finish(&self) {
        let (mut seen, mut silent) = (0, Duration::ZERO);
        while !self.shared.ended.load(Ordering::Acquire) && silent < SILENCE {
            sleep(TICK).await;
            let bytes = self.shared.bytes.load(Ordering::Acquire);
            silent = if bytes == seen { silent + TICK } else { Duration::ZERO };
            seen = bytes;
        }
        self.shared.splitter.lock().finish(&mut |lines| self.spool.push(self.stream, lines));
    }
}

fn copy(mut from: impl Read, to: File, stream: Stream, spool: &SharedSpool, shared: &Shared) {
    let mut buffer = vec![0; READ_BYTES];
    let mut to = Some(to);
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        shared.bytes.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        let shown = to.as_mut().map_or(Ok(()), |to| write_all(to, bytes));
        shared.splitter.lock().feed(bytes, &mut |lines| spool.push(stream, lines));
        match shown {
            Ok(()) => {}
            // Our reader has gone, as in `… | head`: the command learns it as it would without us, by the end of its pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
            // A terminal that is gone, a full disk: no reason to end the command.
            Err(_) => to = None,
        }
    }
}

/// Writes all, also to something that is set not to block.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, not one of a runtime")]
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
