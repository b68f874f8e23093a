//! A front before a broker of Kafka, which lets bytes pass, holds them on either side of the broker, or lets so many pass and no more.
//!
//! What a test does with it happens at a moment of its own choice: before a send, after it and before the confirmation, in the middle
//! of a backlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Outcome, SOON, eventually};

/// What passes is looked at in pieces of this size.
const PIECE: usize = 16 << 10;

/// What may pass.
#[derive(Debug, Clone, Default)]
struct Valves {
    /// Where the broker is.
    broker: String,
    /// So many bytes to the broker, all that have passed before included.
    requests: u64,
    /// Whether those from the broker may.
    answers: bool,
    /// Connections of earlier generations are over.
    generation: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    address: String,
    valves: watch::Sender<Valves>,
    passed: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
}

impl Wire {
    /// One that leads nowhere yet.
    pub(crate) async fn new() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let valves = watch::Sender::new(Valves { requests: u64::MAX, answers: true, ..Valves::default() });
        let wire = Self { address, valves: valves.clone(), passed: Arc::default(), held: Arc::default() };
        let (passed, held) = (Arc::clone(&wire.passed), Arc::clone(&wire.held));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (valves, passed, held) = (valves.subscribe(), Arc::clone(&passed), Arc::clone(&held));
                // A connection that breaks is the client's concern.
                tokio::spawn(async move { drop(connect(client, valves, &passed, &held).await) });
            }
        });
        Ok(wire)
    }

    /// Where clients connect to: `address:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connections go to the broker there from now on.
    pub(crate) fn lead_to(&self, broker: &str) {
        self.valves.send_modify(|valves| broker.clone_into(&mut valves.broker));
    }

    /// All may pass.
    pub(crate) fn pass(&self) {
        self.valves.send_modify(|valves| (valves.requests, valves.answers) = (u64::MAX, true));
    }

    /// The broker gets about so many more bytes, and then nothing.
    pub(crate) fn pass_only(&self, bytes: u64) {
        self.valves.send_modify(|valves| valves.requests = self.passed.load(Ordering::SeqCst) + bytes);
    }

    /// The broker gets what comes, but nobody hears of it.
    pub(crate) fn hold_answers(&self) {
        self.valves.send_modify(|valves| valves.answers = false);
    }

    /// Waits until bytes to the broker are held.
    pub(crate) async fn holds(&self) -> Outcome<()> {
        eventually(SOON, "requests at the front", async || Ok((self.held.load(Ordering::SeqCst) > 0).then_some(()))).await
    }

    /// Ends all connections; what they hold is gone.
    pub(crate) fn cut(&self) {
        self.valves.send_modify(|valves| valves.generation += 1);
    }
}

/// A piece that is held, until it passes or its connection is cut.
pub(crate) struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    pub(crate) fn one_more(held: &'a AtomicU64) -> Self {
        held.fetch_add(1, Ordering::SeqCst);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connect(client: TcpStream, valves: watch::Receiver<Valves>, passed: &AtomicU64, held: &AtomicU64) -> Outcome<()> {
    let Valves { broker, generation, .. } = valves.borrow().clone();
    let server = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut ends = valves.clone();
    tokio::select! {
        // First: what is held when a connection is cut never passes, though all may pass right after.
        biased;
        cut = ends.wait_for(|valves| valves.generation > generation) => {
            cut?;
            Ok(())
        }
        ended = requests(from_client, to_server, valves.clone(), passed, held) => ended,
        ended = answers(from_server, to_client, valves) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut valves: watch::Receiver<Valves>,
    passed: &AtomicU64,
    held: &AtomicU64,
) -> Outcome<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let bytes = from.read(&mut piece).await?;
        if bytes == 0 {
            return Ok(());
        }
        if valves.borrow().requests <= passed.load(Ordering::SeqCst) {
            let _held = Held::one_more(held);
            valves.wait_for(|valves| valves.requests > passed.load(Ordering::SeqCst)).await?;
        }
        passed.fetch_add(bytes as u64, Ordering::SeqCst);
        to.write_all(&piece[..bytes]).await?;
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut valves: watch::Receiver<Valves>) -> Outcome<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let bytes = from.read(&mut piece).await?;
        if bytes == 0 {
            return Ok(());
        }
        valves.wait_for(|valves| valves.answers).await?;
        to.write_all(&piece[..bytes]).await?;
    }
}
