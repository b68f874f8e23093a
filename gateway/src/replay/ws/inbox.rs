//! What comes in on one connection: frames, put together to messages.
//!
//! No request is long, so only the beginning of a message is kept: a client that sends megabytes costs no memory.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A request has at most this many bytes; a longer message is read to its end and answered with an error.
pub(super) const MAX_REQUEST: usize = 64 << 10;
const MAX_CONTROL: u64 = 125;

/// Something that the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A text or binary message.
    Message(Vec<u8>),
    /// A message of more than [`MAX_REQUEST`] bytes; this many.
    Overlong(u64),
    /// A ping; answer it with the same bytes.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes.
    Close,
}

/// Why the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// Not what RFC 6455 allows.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message longer than is read.
    #[error("a message may have at most {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
}

#[derive(Debug)]
struct OpenFrame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    at: usize,
    left: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Inbox {
    limit: u64,
    unread: Vec<u8>,
    frame: Option<OpenFrame>,
    /// The message that is coming in: its beginning, and its length so far.
    message: Option<(Vec<u8>, u64)>,
    control: Vec<u8>,
}

impl Inbox {
    /// An inbox that takes messages of at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, unread: Vec::new(), frame: None, message: None, control: Vec::new() }
    }

    /// Takes bytes from the socket.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// What the bytes so far contain; none if more are needed.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(frame) = &mut self.frame else {
                if !self.begin_frame()? {
                    return Ok(None);
                }
                continue;
            };
            let count = usize::try_from(frame.left).unwrap_or(usize::MAX).min(self.unread.len());
            let (keep, most) = match (frame.opcode, &mut self.message) {
                (OpCode::Data(_), Some((message, _))) => (message, MAX_REQUEST),
                _ => (&mut self.control, MAX_CONTROL as usize),
            };
            let kept = count.min(most.saturating_sub(keep.len()));
            let masked = self.unread[..kept].iter().enumerate();
            keep.extend(masked.map(|(at, byte)| byte ^ frame.mask[(frame.at + at) & 3]));
            self.unread.drain(..count);
            frame.at = (frame.at + count) & 3;
            frame.left -= count as u64;
            if frame.left > 0 {
                self.rest();
                return Ok(None);
            }
            let (opcode, is_final) = (frame.opcode, frame.is_final);
            self.frame = None;
            if let Some(incoming) = self.end_frame(opcode, is_final) {
                self.rest();
                return Ok(Some(incoming));
            }
        }
    }

    fn begin_frame(&mut self) -> Result<bool, Violation> {
        let mut cursor = Cursor::new(&self.unread);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol("unknown opcode"))?;
        let Some((header, length)) = header else {
            self.rest();
            return Ok(false);
        };
        let size = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        self.unread.drain(..size.min(self.unread.len()));
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol("a reserved bit is set, but no extension was agreed on"));
        }
        let Some(mask) = header.mask else {
            return Err(Violation::Protocol("a client's frames must be masked"));
        };
        match header.opcode {
            OpCode::Control(_) if length > MAX_CONTROL || !header.is_final => {
                return Err(Violation::Protocol("a control frame has at most 125 bytes and is not fragmented"));
            }
            OpCode::Control(_) => self.control.clear(),
            OpCode::Data(Data::Continue) if self.message.is_none() => {
                return Err(Violation::Protocol("a continuation without a beginning"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.message.is_some() => {
                return Err(Violation::Protocol("a message began before the last one ended"));
            }
            OpCode::Data(_) => {
                let (_, total) = self.message.get_or_insert_default();
                *total = total.saturating_add(length);
                if *total > self.limit {
                    return Err(Violation::TooLong { limit: self.limit });
                }
            }
        }
        self.frame = Some(OpenFrame { opcode: header.opcode, is_final: header.is_final, mask, at: 0, left: length });
        Ok(true)
    }

    fn end_frame(&mut self, opcode: OpCode, is_final: bool) -> Option<Incoming> {
        match opcode {
            OpCode::Control(Control::Ping) => Some(Incoming::Ping(std::mem::take(&mut self.control))),
            OpCode::Control(Control::Pong) => Some(Incoming::Pong),
            OpCode::Control(_) => Some(Incoming::Close),
            OpCode::Data(_) if !is_final => None,
            OpCode::Data(_) => {
                let (message, length) = self.message.take()?;
                Some(if length > MAX_REQUEST as u64 { Incoming::Overlong(length) } else { Incoming::Message(message) })
            }
        }
    }

    /// The memory that it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |(message, _)| message.capacity());
        self.unread.capacity() + self.control.capacity() + message
    }

    /// Gives the buffer back if it is empty: most connections are silent most of the time.
    fn rest(&mut self) {
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
    }
}
