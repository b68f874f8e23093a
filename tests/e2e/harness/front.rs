//! A front before ClickHouse: lets requests pass, refuses them as a server would, or holds them at a point of their way.
//!
//! The codes that only a server in trouble gives come from here; so do the moments at which a gateway is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::wire::Held;
use super::{Outcome, SOON, eventually};

/// What happens to inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// They pass.
    Pass,
    /// All requests are refused with this code and name.
    Refuse(u32, &'static str),
    /// They are held before the server has any of it.
    HoldRequests,
    /// The server has them, but its answer is held.
    HoldAnswers,
}

/// See the module.
pub(crate) struct Front {
    url: String,
    way: watch::Sender<Way>,
    /// How often connections have been cut.
    cuts: watch::Sender<u64>,
    held: Arc<AtomicU64>,
}

impl Front {
    /// Before the server at `url`.
    pub(crate) async fn before(url: &str) -> Outcome<Self> {
        let server = url.strip_prefix("http://").ok_or("no address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let way = watch::Sender::new(Way::Pass);
        let cuts = watch::Sender::new(0);
        let front = Self { url, way: way.clone(), cuts: cuts.clone(), held: Arc::default() };
        let held = Arc::clone(&front.held);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, way, mut cuts, held) = (server.clone(), way.subscribe(), cuts.subscribe(), Arc::clone(&held));
                tokio::spawn(async move {
                    tokio::select! {
                        // First: what is held when a connection is cut never passes, though all may pass right after.
                        biased;
                        _ = cuts.changed() => {}
                        // A connection that breaks is the client's concern.
                        _ = pass(client, &server, way, &held) => {}
                    }
                });
            }
        });
        Ok(front)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Ends all connections; what they hold is gone.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until an insert is held.
    pub(crate) async fn holds(&self) -> Outcome<()> {
        eventually(SOON, "an insert at the front", async || Ok((self.held.load(Ordering::SeqCst) > 0).then_some(()))).await
    }
}

/// One connection, which has one request: both sides are told to close after it.
async fn pass(mut client: TcpStream, server: &str, mut way: watch::Receiver<Way>, held: &AtomicU64) -> Outcome<()> {
    client.set_nodelay(true)?;
    let (head, rest) = head(&mut client).await?;
    let is_insert = head.contains("query=INSERT") || head.contains("query=insert");
    let now = way.borrow().clone();
    if let Way::Refuse(code, name) = now {
        let body = format!("Code: {code}. DB::Exception: the front says so. ({name}) (version 26.9)\n");
        let answer = format!(
            "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes()).await?;
        // Until the client has said all: a connection that is cut before may take the answer with it.
        let mut nothing = [0; 4096];
        while client.read(&mut nothing).await? > 0 {}
        return Ok(());
    }
    if is_insert && now == Way::HoldRequests {
        let _held = Held::one_more(held);
        way.wait_for(|way| *way != Way::HoldRequests).await?;
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    upstream.write_all(with_close(&head).as_bytes()).await?;
    upstream.write_all(&rest).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let (head, rest) = self::head(&mut from_server).await?;
    if is_insert && *way.borrow() == Way::HoldAnswers {
        let _held = Held::one_more(held);
        way.wait_for(|way| *way != Way::HoldAnswers).await?;
    }
    to_client.write_all(with_close(&head).as_bytes()).await?;
    to_client.write_all(&rest).await?;
    tokio::io::copy(&mut from_server, &mut to_client).await?;
    to_client.shutdown().await?;
    up.abort();
    Ok(())
}

/// The head of a request or an answer, and what came with it of the body.
async fn head(from: &mut (impl AsyncRead + Unpin)) -> Outcome<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes)?, rest));
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Err("the connection ended within a head".into());
        }
    }
}

fn with_close(head: &str) -> String {
    head.replacen("\r\n", "\r\nConnection: close\r\n", 1)
}
