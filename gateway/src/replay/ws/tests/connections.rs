//! Who may connect, and how a connection ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::protocol::{BOUND, NotTheLog, Server, settings};
use crate::access::AllowAll;
use crate::lookup::NoLookup;
use crate::replay::ReplaySettings;

#[tokio::test]
async fn only_who_has_a_token_connects() {
    let server = Server::with(settings(), Some("alice s3cret\nbob other\n"), Arc::new(NotTheLog), Arc::new(NoLookup)).await;
    for (headers, code) in [
        (vec![], 4406),
        (vec![("authorization", "Bearer nope")], 4405),
        (vec![("authorization", "Basic s3cret")], 4408),
        (vec![("cookie", "a=b; accessToken=nope")], 4405),
        (vec![("cookie", "a=b")], 4406),
    ] {
        let (status, body) = server.handshake(&headers).await.err().unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["code"].as_u64(), &body["path"]), (401, Some(code), &json!("/api/v1/ws")), "{headers:?}");
        assert!(body["errMsg"].is_string() && body["timestamp"].is_i64());
    }
    let mut alice = server.handshake(&[("cookie", "a=b; accessToken=s3cret")]).await.ok().unwrap();
    alice.subscribe("s", json!({})).await;
    alice.expect("subscribed").await;
    alice.expect("history_done").await;
    alice.subscribe("secret", json!({})).await;
    assert_eq!(alice.expect("error").await["error"], "alice may not read the log of this step run");
    let mut bob = server.handshake(&[("authorization", "bearer other")]).await.ok().unwrap();
    bob.subscribe("s", json!({})).await;
    assert_eq!(bob.expect("error").await["error"], "bob may not read the log of this step run");
}

/// Sends a request as it is, returns the beginning of the answer.
async fn raw(address: &str, headers: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket
        .write_all(format!("GET /api/v1/ws HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(BOUND, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let server = Server::start().await;
    let answer = raw(&server.address, "").await;
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required"), "{answer}");
    let answer = raw(&server.address, "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required"), "{answer}");
}

#[tokio::test]
async fn connections_are_counted() {
    let settings = ReplaySettings { max_connections: 2, ..settings() };
    let server = Server::with(settings, None, Arc::new(AllowAll), Arc::new(NoLookup)).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let (status, body) = server.handshake(&[]).await.err().unwrap();
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()["code"].as_u64()), (503, Some(503)));
    drop(first);
    for _ in 0..100 {
        if server.handshake(&[]).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn stopping_closes_with_1012() {
    let server = Server::start().await;
    server.source.numbered("s", 3);
    let mut idle = server.connect().await;
    let mut reading = server.connect().await;
    reading.subscribe("s", json!({})).await;
    assert_eq!(reading.lines(3).await.0, [1, 2, 3]);
    let closing = tokio::spawn({
        let replay = server.replay.clone();
        async move { replay.close(BOUND).await }
    });
    for client in [&mut idle, &mut reading] {
        let (code, reason) = client.closed().await;
        assert_eq!((code, reason.as_str()), (CloseCode::Restart, "the gateway is stopping; connect again and resume"));
        // Reading on answers the close.
        assert!(client.0.next().await.is_none());
    }
    assert!(closing.await.unwrap(), "all connections have ended");
    assert_eq!(server.handshake(&[]).await.err().unwrap().0, 503);
}

#[tokio::test]
async fn a_client_may_close_and_ping() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(Message::Ping("hello".into())).await;
    assert_eq!(client.0.next().await.unwrap().unwrap(), Message::Pong("hello".into()));
    client.0.close(None).await.unwrap();
    assert!(matches!(client.0.next().await, Some(Ok(Message::Close(_)))));
    assert!(client.0.next().await.is_none());
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_closed() {
    let settings = ReplaySettings { ping_every: Duration::from_millis(100), silence: Duration::from_millis(500), ..settings() };
    let server = Server::with(settings, None, Arc::new(AllowAll), Arc::new(NoLookup)).await;
    let mut alive = server.connect().await;
    let mut dead = server.connect().await;
    // Reading is what answers pings.
    let mut pings = 0;
    while pings < 12 {
        assert!(matches!(timeout(BOUND, alive.0.next()).await.unwrap().unwrap().unwrap(), Message::Ping(_)));
        pings += 1;
    }
    assert_eq!(dead.closed().await.0, CloseCode::Policy);
}
