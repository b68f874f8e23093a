//! Reads what a program writes, a thread a pipe: whole lines, without secrets, into the spool.
//!
//! While the gateway takes lines, however slowly, a program that writes faster waits for it, so that no line is lost. If it takes
//! none for [`PATIENCE`], the program goes on, and the oldest lines go: readers see a gap.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::agent::mask::Mask;
use crate::push::lines::{LineSplitter, MAX_LINE};
use crate::push::pipes::Source;
use crate::push::shared::SharedSpool;
use crate::push::spool::Stream;

/// Read at once; as much as a pipe holds.
const READ_BYTES: usize = 64 << 10;
/// How long a gateway that takes nothing may hold a program up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program's pipes, each with its thread.
pub(super) struct Output {
    spool: SharedSpool,
    mask: Arc<Mask>,
    /// Closed when the program and all that it started have ended.
    running: PipeWriter,
    seen_by_threads: PipeReader,
    read: Vec<oneshot::Receiver<()>>,
}

impl Output {
    /// Before the program starts.
    ///
    /// # Errors
    /// The system has no more files for us.
    pub(super) fn new((spool, mask): (SharedSpool, Arc<Mask>)) -> io::Result<Self> {
        let (seen_by_threads, running) = io::pipe()?;
        Ok(Self { spool, mask, running, seen_by_threads, read: Vec::new() })
    }

    /// Reads `from` until it ends.
    ///
    /// # Errors
    /// There is no thread or file to be had.
    pub(super) fn take(&mut self, from: impl Read + AsFd + Send + 'static, stream: Stream) -> io::Result<()> {
        let source = Source::new(from, self.seen_by_threads.try_clone()?);
        let mut sink = Sink { spool: self.spool.clone(), mask: self.mask.clone(), stream, hurried: false };
        let (done, read) = oneshot::channel();
        std::thread::Builder::new().name(stream.name().to_owned()).spawn(move || {
            copy(source, &mut sink);
            let _ = done.send(());
        })?;
        self.read.push(read);
        Ok(())
    }

    /// Resolves when nobody holds the pipes any more.
    pub(super) async fn ended(&mut self) {
        while let Some(read) = self.read.last_mut() {
            let _ = read.await;
            self.read.pop();
        }
    }

    /// The program has ended, and what it started with it: waits for the rest of what they wrote. What has left the process group
    /// and holds a pipe is waited for a second.
    pub(super) async fn finish(self) {
        drop(self.running);
        for read in self.read {
            let _ = read.await;
        }
    }
}

fn copy(mut source: Source<impl Read + AsFd>, sink: &mut Sink) {
    let (mut buffer, mut splitter) = (vec![0; READ_BYTES], LineSplitter::default());
    while let Some(count) = source.read(&mut buffer) {
        splitter.feed(&buffer[..count], &mut |lines| sink.put(lines));
    }
    splitter.finish(&mut |lines| sink.put(lines));
}

struct Sink {
    spool: SharedSpool,
    mask: Arc<Mask>,
    stream: Stream,
    /// The gateway took nothing for too long: nobody waits until there is room again.
    hurried: bool,
}

impl Sink {
    fn put(&mut self, lines: &[u8]) {
        // A line that was cut may end with a part of a secret.
        let cut = lines.len() > MAX_LINE && memchr::memchr(b'\n', lines) == Some(lines.len() - 1);
        let shown = if cut { &lines[..MAX_LINE - self.mask.longest()] } else { lines };
        let mut masked = self.mask.lines(shown);
        if cut {
            masked.to_mut().push(b'\n');
        }
        self.hurried &= !self.spool.with(|spool| spool.has_room(masked.len()));
        let patience = if self.hurried { Duration::ZERO } else { PATIENCE };
        let began = Instant::now();
        self.spool.push_patiently(self.stream, &masked, patience);
        self.hurried |= began.elapsed() >= PATIENCE;
    }
}
