//! Passes the command's output on: to this process's own stdout and stderr at once, then to the spool.
//!
//! A thread a pipe, because they must go on whatever the rest of the process waits for. A thread waits for the command and for
//! its own output only, as the command itself would.
//!
//! When the command has ended, all that it wrote is in the pipes, and is passed on however long that takes. Something that it
//! has left running may still hold them: for their end, or for more, both threads wait [`LEFT_OVER`] at most.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use tokio::sync::oneshot;

use super::lines::LineSplitter;
use super::notes::Notes;
use super::shared::SharedSpool;
use super::spool::Stream;

/// Read at once; as much as a pipe holds.
const READ_BYTES: usize = 64 << 10;
/// How long what the command has left running may go on writing after its end.
const LEFT_OVER: Duration = Duration::from_secs(1);
/// So long a silence ends the waiting for it.
const SILENCE: Duration = Duration::from_millis(500);

/// The command's pipes, each with its thread.
pub(crate) struct Pipes {
    spool: SharedSpool,
    notes: Notes,
    /// Closed at the command's end: the threads see that, whatever else they wait for.
    running: PipeWriter,
    seen_by_threads: PipeReader,
    passed_on: Vec<oneshot::Receiver<()>>,
}

impl Pipes {
    /// Before the command starts.
    ///
    /// # Errors
    /// The system has no more files for us.
    pub(crate) fn new(spool: SharedSpool, notes: Notes) -> io::Result<Self> {
        let (seen_by_threads, running) = io::pipe()?;
        Ok(Self { spool, notes, running, seen_by_threads, passed_on: Vec::new() })
    }

    /// Passes `from` on to `to` and the spool until it ends.
    ///
    /// # Errors
    /// There is no thread or file to be had.
    pub(crate) fn pass_on(&mut self, from: impl Read + AsFd + Send + 'static, to: impl AsFd, stream: Stream) -> io::Result<()> {
        let here = File::from(to.as_fd().try_clone_to_owned()?);
        let source = Source::new(from, self.seen_by_threads.try_clone()?);
        let mut sink = Sink { here: Some(here), stream, spool: self.spool.clone(), notes: self.notes.clone() };
        let (done, passed_on) = oneshot::channel();
        std::thread::Builder::new().name(stream.name().to_owned()).spawn(move || {
            copy(source, &mut sink);
            let _ = done.send(());
        })?;
        self.passed_on.push(passed_on);
        Ok(())
    }

    /// The command has ended: waits until all that it wrote is passed on, a last line without newline too.
    pub(crate) async fn finish(self) {
        drop(self.running);
        for thread in self.passed_on {
            let _ = thread.await;
        }
    }
}

fn copy(mut source: Source<impl Read + AsFd>, sink: &mut Sink) {
    let (mut buffer, mut splitter) = (vec![0; READ_BYTES], LineSplitter::default());
    while let Some(count) = source.read(&mut buffer) {
        // Locally first, but the spool gets also what our reader does not want any more.
        let wanted = sink.show(&buffer[..count]);
        splitter.feed(&buffer[..count], &mut |lines| sink.spool.push(sink.stream, lines));
        if !wanted {
            break;
        }
    }
    splitter.finish(&mut |lines| sink.spool.push(sink.stream, lines));
}

/// Where a pipe's bytes come from.
pub(crate) struct Source<F> {
    from: F,
    /// At its end when the command has ended.
    running: PipeReader,
    after: Option<After>,
}

/// After the command's end.
struct After {
    /// How many bytes the pipe held then: the command's own, or what came before them.
    owed: u64,
    /// When the waiting for more ends.
    deadline: Instant,
}

impl<F: Read + AsFd> Source<F> {
    /// Reads `from`; `running` is at its end when the command has ended.
    pub(crate) fn new(from: F, running: PipeReader) -> Self {
        Self { from, running, after: None }
    }

    /// The next bytes; `None` at the end, or when the waiting for it has ended.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            if !self.wait().ok()? {
                return None;
            }
            match self.from.read(buffer) {
                Ok(0) => return None,
                Ok(count) => {
                    if let Some(after) = &mut self.after {
                        after.owed = after.owed.saturating_sub(count as u64);
                    }
                    return Some(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits until there is something to read, or the end. Gives whether there is.
    fn wait(&mut self) -> Result<bool, Errno> {
        if self.after.is_none() {
            let [readable, ended] = ready([self.from.as_fd(), self.running.as_fd()], None)?;
            if ended {
                self.after = Some(After { owed: ioctl_fionread(&self.from)?, deadline: Instant::now() + LEFT_OVER });
            } else if readable {
                return Ok(true);
            }
        }
        match &self.after {
            Some(after) if after.owed == 0 => {
                let left = after.deadline.saturating_duration_since(Instant::now());
                let [readable] = ready([self.from.as_fd()], Some(left.min(SILENCE)))?;
                Ok(readable && !left.is_zero())
            }
            _ => Ok(true),
        }
    }
}

/// Waits until one of these can be read or has ended, at most `limit`; gives which.
fn ready<const N: usize>(files: [BorrowedFd<'_>; N], limit: Option<Duration>) -> Result<[bool; N], Errno> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut polled = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    loop {
        match poll(&mut polled, limit.as_ref()) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map(|_| polled.map(|file| !file.revents().is_empty())),
        }
    }
}

/// Where a pipe's bytes go.
struct Sink {
    /// This process's own output, as long as it can be written.
    here: Option<File>,
    stream: Stream,
    spool: SharedSpool,
    notes: Notes,
}

impl Sink {
    /// Shows bytes here. Gives whether more are wanted.
    fn show(&mut self, bytes: &[u8]) -> bool {
        match self.here.as_mut().map_or(Ok(()), |here| write_all(here, bytes)) {
            Ok(()) => true,
            // Our reader has gone, as in `… | head`: the command learns it as it would without us, by the end of its pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
            // A terminal that is gone, a full disk: no reason to end the command.
            Err(error) => {
                self.here = None;
                let stream = self.stream.name();
                self.notes
                    .say(&format!("cannot write the command's {stream} here: {error}; from there on only the gateway gets it"));
                true
            }
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
