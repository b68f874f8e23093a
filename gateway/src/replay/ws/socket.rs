//! One connection's socket: reading goes on while a write waits, so that a client which stops reading is still heard.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::inbox::{Inbox, Incoming, Violation};
use super::outbox::Outbox;

const READ_BYTES: usize = 8 << 10;

/// What a turn has brought.
#[derive(Debug)]
pub(super) enum Turn {
    /// The client sent something.
    Incoming(Incoming),
    /// All that waited has been sent.
    Flushed,
    /// The client breaks the rules: close with a reason.
    Broken(Violation),
    /// The connection is gone.
    Gone,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Socket<S> {
    io: S,
    inbox: Inbox,
    pub(super) outbox: Outbox,
    /// A write has had to wait.
    blocked: bool,
    /// The client has broken the rules: what follows is not understood, and thrown away.
    lost: bool,
    /// When the client last gave a sign of life.
    pub(super) heard: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket that takes messages of at most `limit` bytes.
    pub(super) fn new(io: S, limit: u64) -> Self {
        Self { io, inbox: Inbox::new(limit), outbox: Outbox::default(), blocked: false, lost: false, heard: Instant::now() }
    }

    /// Sends what waits, and reads if `read`, until one of them brings something. May be dropped at any time.
    pub(super) async fn turn(&mut self, read: bool) -> Turn {
        poll_fn(|cx| self.poll_turn(read, cx)).await
    }

    fn poll_turn(&mut self, read: bool, cx: &mut Context<'_>) -> Poll<Turn> {
        let flushed = !self.outbox.is_empty() && {
            let before = self.outbox.len();
            let poll = self.outbox.poll_flush(&mut self.io, cx);
            if self.blocked && self.outbox.len() < before {
                // The client has read something.
                self.heard = Instant::now();
            }
            self.blocked = poll.is_pending();
            match poll {
                Poll::Ready(Err(_)) => return Poll::Ready(Turn::Gone),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            }
        };
        if read && let Poll::Ready(turn) = self.poll_read(cx) {
            return Poll::Ready(turn);
        }
        if flushed { Poll::Ready(Turn::Flushed) } else { Poll::Pending }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            match if self.lost { Ok(None) } else { self.inbox.next() } {
                Ok(Some(incoming)) => return Poll::Ready(Turn::Incoming(incoming)),
                Ok(None) => {}
                Err(violation) => {
                    self.lost = true;
                    return Poll::Ready(Turn::Broken(violation));
                }
            }
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.heard = Instant::now();
                    if !self.lost {
                        self.inbox.feed(buffer.filled());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Turn::Gone),
            }
        }
    }
}
