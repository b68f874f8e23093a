//! What waits to be sent on one connection: frames, built in place in one buffer.
//!
//! A message may go out in several frames (RFC 6455, fragmentation), so that a line of any length needs no more memory than the
//! buffer has.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The header of a frame of 126 to 65,535 bytes; others are moved when their length is known.
const HEADER: usize = 4;
/// Emptied buffers larger than this are not kept while there is nothing to send.
const KEPT: usize = 4 << 10;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the payload of the open frame begins.
    frame: Option<usize>,
    /// The payload of the frames of the open message that are complete; none if no message is open.
    message: Option<usize>,
}

impl Outbox {
    /// Whether all has been sent.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The buffer, to write the payload of the open frame into. Opens a frame if none is.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        if self.frame.is_none() {
            self.bytes.extend_from_slice(&[0; HEADER]);
            self.frame = Some(self.bytes.len());
            self.message.get_or_insert(0);
        }
        &mut self.bytes
    }

    /// Whether a message has begun and not ended.
    pub(super) fn in_message(&self) -> bool {
        self.message.is_some()
    }

    /// How many bytes of the open message there are, those already sent included.
    pub(super) fn message_len(&self) -> usize {
        self.message.unwrap_or(0) + self.frame.map_or(0, |at| self.bytes.len() - at)
    }

    /// Ends the open message.
    pub(super) fn finish(&mut self) {
        self.end_frame(true);
        self.message = None;
    }

    /// Ends the open frame; the message goes on in another.
    pub(super) fn suspend(&mut self) {
        match self.frame {
            Some(at) if at == self.bytes.len() => {
                self.bytes.truncate(at - HEADER);
                self.frame = None;
            }
            _ => self.end_frame(false),
        }
    }

    /// Adds a whole text message.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.payload().extend_from_slice(text);
        self.finish();
    }

    /// Adds a control frame. No frame may be open, but a message may.
    pub(super) fn control(&mut self, control: Control, payload: &[u8]) {
        let header = FrameHeader { opcode: OpCode::Control(control), ..FrameHeader::default() };
        // Writing into a Vec cannot fail.
        let _ = header.format(payload.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(payload);
    }

    fn end_frame(&mut self, is_final: bool) {
        let Some(at) = self.frame.take() else { return };
        let length = self.bytes.len() - at;
        let before = self.message.unwrap_or(0);
        let opcode = OpCode::Data(if before == 0 { Data::Text } else { Data::Continue });
        let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
        let mut head = Vec::with_capacity(10);
        // Writing into a Vec cannot fail.
        let _ = header.format(length as u64, &mut head);
        if let Some(place) = self.bytes.get_mut(at - HEADER..at).filter(|place| place.len() == head.len()) {
            place.copy_from_slice(&head);
        } else {
            self.bytes.splice(at - HEADER..at, head);
        }
        self.message = Some(before + length);
    }

    /// Writes as much as the socket takes; ready once all is written.
    pub(super) fn poll_flush(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.sent < self.bytes.len() {
            let count = ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.bytes.clear();
        self.sent = 0;
        Pin::new(io).poll_flush(cx)
    }

    /// Gives a large buffer back: there is nothing to send for now.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }
}
