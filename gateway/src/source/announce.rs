//! Bounds the memory of messages that are still on their way in.
//!
//! gRPC puts five bytes before each message: whether it is compressed, and its length (big-endian). The layer reads them as the
//! frames of the body pass, and takes the announced length from a [`Budget`] before it lets more of the body in; until then
//! HTTP/2's flow control holds the sender back, and the last byte of the prefix is held back too: the reader makes a buffer for
//! the whole message once it knows the length, and that may be made of memory that was freed a moment ago and still counts. The memory goes back when the message's reader asks for what follows it, or with
//! the body. So a stream waits for memory only while it holds none, and none waits for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tower::{BoxError, Layer, Service};

use crate::budget::{Budget, Permit, Take};

#[cfg(test)]
mod tests;

/// How messages on their way in are bounded.
#[derive(Debug, Clone)]
pub struct AnnouncedLengths {
    /// Where their memory is taken from.
    pub budget: Budget,
    /// Longer messages are let through as they are: who reads them refuses them at their length already.
    pub max_message: u64,
    /// Shorter ones are not counted: they come with few frames, and the windows of HTTP/2 have their own bound.
    pub free: u64,
    /// A message that has memory and does not go on for this long ends its stream, since others wait for the memory.
    pub stall: Duration,
}

impl AnnouncedLengths {
    /// The usual bounds, with `budget` for the memory.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, max_message: 104_857_600, free: 64 << 10, stall: Duration::from_secs(60) }
    }
}

impl<S> Layer<S> for AnnouncedLengths {
    type Service = Announced<S>;

    fn layer(&self, inner: S) -> Announced<S> {
        Announced { inner, settings: self.clone() }
    }
}

/// A service whose requests' bodies are bounded; see [`AnnouncedLengths`].
#[derive(Debug, Clone)]
pub struct Announced<S> {
    inner: S,
    settings: AnnouncedLengths,
}

impl<S, B> Service<Request<B>> for Announced<S>
where
    S: Service<Request<AnnouncedBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.inner.call(request.map(|body| AnnouncedBody::new(body, self.settings.clone())))
    }
}

/// A body that is not read further than there is memory for; see the module.
pub struct AnnouncedBody<B> {
    inner: B,
    settings: AnnouncedLengths,
    scan: Scan,
    memory: Memory,
    /// What of a frame waits for the memory of the message that it begins.
    held: Option<Bytes>,
    stall: Option<Pin<Box<Sleep>>>,
    stalled: bool,
}

/// What the message that is being read has.
enum Memory {
    /// Nothing: it is small, or there is none.
    None,
    /// Asked for.
    Waiting(Take),
    /// Its length.
    Held(Permit),
}

impl<B> AnnouncedBody<B> {
    /// Bounds `inner`.
    pub fn new(inner: B, settings: AnnouncedLengths) -> Self {
        let scan = Scan { max: settings.max_message, ..Scan::default() };
        Self { inner, settings, scan, memory: Memory::None, held: None, stall: None, stalled: false }
    }

    /// Gives back the memory of the message that has been read, and waits for that of the message that has begun.
    fn poll_memory(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.scan.ended) {
            self.memory = Memory::None;
        }
        if let Some(length) = self.scan.begun.take().filter(|length| *length > self.settings.free) {
            self.memory = Memory::Waiting(self.settings.budget.take(length));
        }
        if let Memory::Waiting(take) = &mut self.memory {
            self.memory = Memory::Held(ready!(Pin::new(take).poll(context)));
        }
        Poll::Ready(())
    }

    /// Looks at a frame, and gives what of it may be read before there is memory: all, or what comes before the end of the
    /// prefix of a message that needs some.
    fn pass(&mut self, mut data: Bytes) -> Bytes {
        self.scan.pass(&data);
        if let Some(length) = self.scan.begun.filter(|length| *length > self.settings.free) {
            // Fits: it is a part of this frame.
            let come = (length - self.scan.left) as usize;
            self.held = Some(data.split_off(data.len() - come - 1));
        }
        data
    }

    /// Resolves when a message that holds memory has not gone on for too long.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let Memory::Held(permit) = &self.memory else { return Poll::Pending };
        let patience = self.settings.stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !std::mem::replace(&mut self.stalled, true) {
            stall.as_mut().reset(Instant::now() + patience);
        }
        ready!(stall.as_mut().poll(context));
        let bytes = permit.bytes();
        self.memory = Memory::None;
        let seconds = patience.as_secs();
        Poll::Ready(Status::deadline_exceeded(format!(
            "a message of {bytes} bytes did not go on for {seconds} s; its stream is ended, since others wait for the memory; \
             send it again in a new stream"
        )))
    }
}

impl<B> Body for AnnouncedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            ready!(this.poll_memory(context));
            if let Some(rest) = this.held.take() {
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
                return this.poll_stall(context).map(|status| Some(Err(status.into())));
            };
            this.stalled = false;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let data = this.pass(data);
                    if this.held.is_none() || !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => {
                    this.memory = Memory::None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    this.memory = Memory::None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.held.is_none() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// Where in the messages the body is.
#[derive(Debug, Default)]
struct Scan {
    /// The longest message that is followed.
    max: u64,
    /// The prefix of the next message, as far as it has come.
    prefix: [u8; 5],
    come: usize,
    /// How much of a message is still to come.
    left: u64,
    /// The length of the last message that has begun and not ended, if nobody has asked yet.
    begun: Option<u64>,
    /// A message has ended since somebody asked.
    ended: bool,
    /// A message was too long: nothing is looked at any more.
    lost: bool,
}

impl Scan {
    fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() && !self.lost {
            if self.left > 0 {
                let part = self.left.min(data.len() as u64);
                self.left -= part;
                data = data.get(part as usize..).unwrap_or_default();
                if self.left == 0 {
                    self.begun = None;
                    self.ended = true;
                }
                continue;
            }
            let part = data.len().min(self.prefix.len() - self.come);
            let (taken, rest) = data.split_at(part);
            self.prefix[self.come..self.come + part].copy_from_slice(taken);
            self.come += part;
            data = rest;
            if self.come == self.prefix.len() {
                let [_, a, b, c, d] = self.prefix;
                self.begin(u64::from(u32::from_be_bytes([a, b, c, d])));
            }
        }
    }

    fn begin(&mut self, length: u64) {
        self.come = 0;
        self.lost = length > self.max;
        if length > 0 && !self.lost {
            self.left = length;
            self.begun = Some(length);
        }
    }
}
