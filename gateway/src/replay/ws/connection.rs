//! One connection, one task: answers requests, and writes what its subscriptions have to show while the client reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control};

use super::inbox::{Incoming, MAX_REQUEST, Violation};
use super::reply;
use super::request::{self, Request, Target};
use super::shared::{Loaded, Opened, Place, Shared};
use super::socket::{Socket, Turn};
use super::subscription::{AbortOnDrop, Next, State, Subscription, Wrote};
use crate::access::Identity;
use crate::lookup::{StatusFeed, StatusItem};
use crate::replay::cursor::Seen;
use crate::store::lines::StreamTail;

/// How many log subscriptions a connection may have.
const MOST_SUBSCRIPTIONS: usize = 256;
/// A client that has not read for so long keeps no pages, and has nothing read ahead for it.
const STALL: Duration = Duration::from_millis(50);
/// How long the other side may take to close.
const CLOSING: Duration = Duration::from_secs(2);
/// How much control frames may add to what waits to be sent.
const CONTROL_BYTES: usize = 1 << 10;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What was done off the runtime's threads.
enum Done {
    Opened(Result<Opened, (Target, String)>),
    Status(Target, Result<StatusFeed, String>),
    Loaded(u64, Result<Loaded, String>),
}

/// Why the connection ends.
enum End {
    /// The client has gone, or closes.
    Gone,
    /// This side closes, for this reason.
    Close(CloseCode, String),
}

/// See the module's text.
pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    who: Identity,
    stop: watch::Receiver<bool>,
    socket: Socket<S>,
    subscriptions: Vec<Subscription>,
    /// The status subscription: a connection has one.
    status: Option<(Target, StatusFeed)>,
    /// What it has to say, until it can be sent.
    told: Option<StatusItem>,
    /// Whose turn it is.
    turn: usize,
    next_id: u64,
    waits: FuturesUnordered<Abortable<Boxed<u64>>>,
    /// The work under way, at most one.
    work: Option<Boxed<Done>>,
    /// Work that is done, but whose answer waits for the message under way to end.
    answer: Option<Done>,
    /// A request that waits for the same, or for work.
    request: Option<Incoming>,
    /// Since when something waits to be sent.
    stalled: Option<Instant>,
    /// How much of what waits is control frames.
    control_bytes: usize,
    next_ping: Instant,
    timer: Pin<Box<Sleep>>,
    _place: Place,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection over `io`, which closes when `stop` says so.
    pub(super) fn new(shared: Arc<Shared>, who: Identity, io: S, stop: watch::Receiver<bool>, place: Place) -> Self {
        let next_ping = Instant::now() + shared.settings.ping_every;
        Self {
            socket: Socket::new(io, shared.settings.max_message),
            shared,
            who,
            stop,
            subscriptions: Vec::new(),
            status: None,
            told: None,
            turn: 0,
            next_id: 0,
            waits: FuturesUnordered::new(),
            work: None,
            answer: None,
            request: None,
            stalled: None,
            control_bytes: 0,
            next_ping,
            timer: Box::pin(sleep_until(next_ping)),
            _place: place,
        }
    }

    /// Serves the client until one of the two closes.
    pub(super) async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        self.subscriptions.clear();
        self.status = None;
        self.waits.clear();
        self.work = None;
        match end {
            End::Gone => drop(timeout(CLOSING, self.flush()).await),
            End::Close(code, reason) => {
                let code: u16 = code.into();
                let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
                self.socket.outbox.suspend();
                self.socket.outbox.control(Control::Close, &payload[..payload.len().min(125)]);
                drop(timeout(CLOSING, self.drain()).await);
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        if self.socket.outbox.is_empty() {
            self.stalled = None;
            self.produce();
            if self.socket.outbox.is_empty() {
                self.socket.outbox.rest();
            } else {
                self.stalled = Some(Instant::now());
            }
        }
        let wanted = self.deadline();
        if wanted < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(wanted);
        }
        let read = self.request.is_none();
        // The socket comes last: while it takes all it is given, it would never let the others have their turn.
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => {
                Err(End::Close(CloseCode::Restart, "the gateway is stopping; connect again and resume".into()))
            }
            () = self.timer.as_mut() => self.tick(),
            done = finish(&mut self.work), if self.work.is_some() => {
                self.work = None;
                self.done(done);
                Ok(())
            }
            told = tell(&mut self.status), if self.status.is_some() && self.told.is_none() => {
                if told.is_none() {
                    self.status = None;
                }
                self.told = told;
                Ok(())
            }
            Some(woken) = self.waits.next(), if !self.waits.is_empty() => {
                if let Ok(id) = woken {
                    self.wake(id);
                }
                Ok(())
            }
            turn = self.socket.turn(read) => self.turned(turn),
        }
    }

    fn turned(&mut self, turn: Turn) -> Result<(), End> {
        match turn {
            Turn::Incoming(Incoming::Ping(payload)) => {
                self.control(Control::Pong, &payload);
                Ok(())
            }
            Turn::Incoming(Incoming::Close) => {
                self.socket.outbox.suspend();
                self.socket.outbox.control(Control::Close, &u16::from(CloseCode::Normal).to_be_bytes());
                Err(End::Gone)
            }
            Turn::Incoming(Incoming::Pong) | Turn::Flushed => Ok(()),
            Turn::Incoming(request) => {
                self.request = Some(request);
                Ok(())
            }
            Turn::Broken(violation @ Violation::Protocol(_)) => Err(End::Close(CloseCode::Protocol, violation.to_string())),
            Turn::Broken(violation @ Violation::TooLong { .. }) => Err(End::Close(CloseCode::Size, violation.to_string())),
            Turn::Gone => Err(End::Gone),
        }
    }

    /// What has to be done at the times that [`Connection::deadline`] names.
    fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        if now.duration_since(self.socket.heard) >= settings.silence {
            shared.metrics.silent.increment(1);
            let reason = format!("nothing was heard of the client for {} s", settings.silence.as_secs());
            return Err(End::Close(CloseCode::Policy, reason));
        }
        if now >= self.next_ping {
            self.next_ping = now + settings.ping_every;
            self.control(Control::Ping, b"");
        }
        if self.stalled.is_some_and(|since| now >= since + STALL) {
            for subscription in self.subscriptions.iter_mut().filter(|one| one.holds_memory()) {
                subscription.stall(&shared.pool);
            }
        }
        let quiet = settings.quiet;
        for subscription in &mut self.subscriptions {
            if matches!(subscription.state, State::Waiting { .. }) && subscription.deadline(quiet).is_some_and(|at| now >= at) {
                subscription.state = State::Ready;
            }
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let settings = &self.shared.settings;
        let mut first = self.next_ping.min(self.socket.heard + settings.silence);
        if let Some(since) = self.stalled.filter(|_| self.subscriptions.iter().any(Subscription::holds_memory)) {
            first = first.min(since + STALL);
        }
        let waiting = self.subscriptions.iter().filter(|one| matches!(one.state, State::Waiting { .. }));
        waiting.filter_map(|one| one.deadline(settings.quiet)).fold(first, Instant::min)
    }

    /// Fills the empty outbox as far as there is something to send.
    fn produce(&mut self) {
        let most = self.shared.buffer();
        if let Some(at) = self.subscriptions.iter().position(Subscription::in_message) {
            // Nothing may come between the frames of a message.
            self.advance(at, most);
            if self.socket.outbox.in_message() || self.socket.outbox.len() >= most {
                return;
            }
        }
        match self.answer.take() {
            Some(Done::Opened(opened)) => self.opened(opened),
            Some(Done::Status(target, known)) => self.follow_status(target, known),
            Some(Done::Loaded(..)) | None => {}
        }
        if let (Some((target, _)), Some(item)) = (&self.status, self.told.take()) {
            self.socket.outbox.text(&reply::status(target, &item));
        }
        if self.work.is_none()
            && let Some(request) = self.request.take()
        {
            self.take(&request);
        }
        for _ in 0..self.subscriptions.len() {
            if self.subscriptions.is_empty() || self.socket.outbox.len() >= most {
                return;
            }
            self.turn = (self.turn + 1) % self.subscriptions.len();
            self.advance(self.turn, most);
            if self.socket.outbox.in_message() {
                return;
            }
        }
    }

    /// Lets one subscription go on as far as it can.
    fn advance(&mut self, at: usize, most: usize) {
        let quiet = self.shared.settings.quiet;
        while let Some(subscription) = self.subscriptions.get_mut(at).filter(|one| matches!(one.state, State::Ready)) {
            match subscription.next(&self.shared.pool, quiet, &mut self.socket.outbox) {
                Next::Write => {
                    if subscription.write(&mut self.socket.outbox, most) == Wrote::Full {
                        return;
                    }
                }
                Next::Load => {
                    if self.work.is_none() {
                        self.load(at);
                    }
                    return;
                }
                Next::Wait(seen) => return self.wait(at, seen),
                Next::Ended => return self.end(at),
                Next::Failed(error) => return self.fail(at, &error),
            }
        }
    }

    fn load(&mut self, at: usize) {
        let Some(subscription) = self.subscriptions.get_mut(at) else { return };
        subscription.state = State::Loading;
        let id = subscription.id;
        let (cursor, tail, ahead) = (subscription.cursor.clone(), Arc::clone(&subscription.tail), subscription.ahead.take());
        let load = Arc::clone(&self.shared).load(cursor, tail, ahead);
        self.work = Some(Box::pin(async move { Done::Loaded(id, load.await) }));
    }

    fn wait(&mut self, at: usize, seen: Seen) {
        let Some(subscription) = self.subscriptions.get_mut(at) else { return };
        let (handle, registration) = AbortHandle::new_pair();
        subscription.state = State::Waiting { _until: AbortOnDrop(handle) };
        let (id, tail) = (subscription.id, Arc::clone(&subscription.tail));
        let wait = Box::pin(async move {
            changed(&tail, seen).await;
            id
        });
        self.waits.push(Abortable::new(wait, registration));
    }

    fn end(&mut self, at: usize) {
        let subscription = self.subscriptions.swap_remove(at);
        self.socket.outbox.text(&reply::plain(reply::LOG, "eof", &subscription.target));
    }

    fn fail(&mut self, at: usize, error: &str) {
        let subscription = self.subscriptions.swap_remove(at);
        self.error(reply::LOG, &subscription.target, error);
    }

    fn wake(&mut self, id: u64) {
        if let Some(subscription) = self.subscriptions.iter_mut().find(|one| one.id == id) {
            subscription.state = State::Ready;
        }
    }

    fn done(&mut self, done: Option<Done>) {
        match done {
            Some(Done::Loaded(id, loaded)) => {
                // It may have been unsubscribed meanwhile.
                if let Some(subscription) = self.subscriptions.iter_mut().find(|one| one.id == id) {
                    subscription.loaded(loaded);
                }
            }
            other => self.answer = other,
        }
    }

    fn take(&mut self, request: &Incoming) {
        let parsed = match request {
            Incoming::Message(message) => request::parse(message),
            Incoming::Overlong(bytes) => {
                let error = format!("invalid request: a request has at most {MAX_REQUEST} bytes, this one has {bytes}");
                Err(reply::error("", &Target::default(), &error))
            }
            Incoming::Ping(_) | Incoming::Pong | Incoming::Close => return,
        };
        match parsed {
            Err(error) => {
                self.shared.metrics.errors.increment(1);
                self.socket.outbox.text(&error);
            }
            Ok(Request::Log(request)) => {
                let joins = request.multi && !self.subscriptions.iter().any(|one| one.cursor.step_run() == &request.step_run);
                if joins && self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
                    let error = format!("a connection has at most {MOST_SUBSCRIPTIONS} subscriptions; open another");
                    return self.error(reply::LOG, &request.target, &error);
                }
                let target = request.target.clone();
                let open = Arc::clone(&self.shared).open(self.who.clone(), *request);
                self.work = Some(Box::pin(async move { Done::Opened(open.await.map_err(|error| (target, error))) }));
            }
            Ok(Request::EndLog(target)) => {
                if let Some(at) = self.subscriptions.iter().position(|one| one.target.step_run_id == target.step_run_id) {
                    self.subscriptions.swap_remove(at);
                } else if self.subscriptions.len() == 1 {
                    // One subscription needs no name.
                    self.subscriptions.clear();
                }
                self.socket.outbox.text(&reply::plain(reply::LOG, "unsubscribed", &target));
            }
            Ok(Request::Status { target, step_run }) => {
                let status = Arc::clone(&self.shared).status(self.who.clone(), target.clone(), step_run);
                self.work = Some(Box::pin(async move { Done::Status(target, status.await) }));
            }
            Ok(Request::EndStatus(target)) => {
                (self.status, self.told) = (None, None);
                self.socket.outbox.text(&reply::plain(reply::STATUS, "unsubscribed", &target));
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, (Target, String)>) {
        let Opened { request, tail, cursor, history_end, epoch } = match opened {
            Ok(opened) => opened,
            Err((target, error)) => return self.error(reply::LOG, &target, &error),
        };
        let replaced = |one: &Subscription| !request.multi || one.cursor.step_run() == &request.step_run;
        self.subscriptions.retain(|one| !replaced(one));
        self.socket.outbox.text(&reply::subscribed(&request.target, epoch));
        self.next_id += 1;
        let metrics = self.shared.metrics.clone();
        let start = (cursor, history_end);
        self.subscriptions.push(Subscription::new(self.next_id, request.target, tail, start, request.live_chunks, metrics));
    }

    fn follow_status(&mut self, target: Target, known: Result<StatusFeed, String>) {
        match known {
            Ok(feed) => (self.status, self.told) = (Some((target, feed)), None),
            Err(error) => self.error(reply::STATUS, &target, &error),
        }
    }

    fn error(&mut self, channel: &str, target: &Target, error: &str) {
        self.shared.metrics.errors.increment(1);
        self.socket.outbox.text(&reply::error(channel, target, error));
    }

    /// Adds a control frame, unless a client that does not read would make it one too many.
    fn control(&mut self, control: Control, payload: &[u8]) {
        self.control_bytes = if self.socket.outbox.is_empty() { 0 } else { self.control_bytes + payload.len() + 2 };
        if self.control_bytes < CONTROL_BYTES {
            self.socket.outbox.control(control, payload);
        }
    }

    async fn flush(&mut self) {
        while !self.socket.outbox.is_empty() {
            if matches!(self.socket.turn(false).await, Turn::Gone) {
                return;
            }
        }
    }

    /// Reads until the client has closed too: what it still sends must not make the system cut the connection before it has read
    /// why.
    async fn drain(&mut self) {
        while !matches!(self.socket.turn(true).await, Turn::Incoming(Incoming::Close) | Turn::Gone) {}
        self.flush().await;
    }
}

/// Resolves when `tail` is no longer like `seen`.
async fn changed(tail: &StreamTail, seen: Seen) {
    loop {
        let changed = tail.changed();
        if Seen::of(tail) != seen {
            return;
        }
        changed.await;
    }
}

/// Resolves when connections must end; also if nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await;
}

async fn tell(status: &mut Option<(Target, StatusFeed)>) -> Option<StatusItem> {
    match status {
        Some((_, feed)) => feed.next().await,
        None => None,
    }
}

async fn finish(work: &mut Option<Boxed<Done>>) -> Option<Done> {
    match work {
        Some(work) => Some(work.await),
        None => None,
    }
}
