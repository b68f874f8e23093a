//! Answers that have no end of their own, such as channels with agents, end when the gateway stops: then the client hears so and
//! connects again, instead of being cut off after the grace.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arcgate_gateway::stop::Stop;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// An answer's body.
pub(super) struct UntilStop {
    /// Absent: it has ended.
    inner: Option<Body>,
    stopped: BoxFuture<'static, ()>,
}

impl UntilStop {
    pub(super) fn new(inner: Body, mut stop: Stop) -> Self {
        Self { inner: Some(inner), stopped: async move { stop.asked().await }.boxed() }
    }
}

impl HttpBody for UntilStop {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
            if frame.is_none() {
                this.inner = None;
            }
            return Poll::Ready(frame);
        }
        // What is there to be said was said; only whoever waits for more is told.
        ready!(this.stopped.poll_unpin(context));
        this.inner = None;
        let mut trailers = HeaderMap::new();
        let why = Status::unavailable("the gateway is stopping; connect again");
        Poll::Ready(Some(why.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
