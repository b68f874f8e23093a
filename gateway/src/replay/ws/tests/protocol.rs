//! The interface over real sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::access::{Access, AllowAll, Callers, Everyone, Identity, Tokens, Verb};
use crate::block::GapReason;
use crate::id::StepRunId;
use crate::lookup::{NoLookup, Parents, StatusFeed, StatusItem, StatusTarget, StepRunLookup};
use crate::replay::fake::{Fake, id};
use crate::replay::{LineSource as _, Replay, ReplaySettings};

pub(super) const BOUND: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) source: Arc<Fake>,
    pub(super) replay: Replay,
    pub(super) address: String,
}

pub(super) fn settings() -> ReplaySettings {
    ReplaySettings { quiet: Duration::from_millis(100), ..ReplaySettings::default() }
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(settings(), None, Arc::new(AllowAll), Arc::new(NoLookup)).await
    }

    pub(super) async fn with(
        settings: ReplaySettings,
        tokens: Option<&str>,
        access: Arc<dyn Access>,
        lookup: Arc<dyn StepRunLookup>,
    ) -> Self {
        let callers: Arc<dyn Callers> = match tokens {
            None => Arc::new(Everyone),
            Some(text) => {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("tokens"), text).unwrap();
                Arc::new(Tokens::read(&folder.path().join("tokens")).unwrap())
            }
        };
        let source = Fake::new();
        let replay = Replay::new(source.clone(), access, lookup, callers, settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = replay.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { source, replay, address }
    }

    pub(super) async fn connect(&self) -> Client {
        Client(connect_async(format!("ws://{}/api/v1/ws", self.address)).await.unwrap().0)
    }

    pub(super) async fn handshake(&self, headers: &[(&'static str, &str)]) -> Result<Client, (u16, String)> {
        let mut request = format!("ws://{}/api/v1/ws", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(other) => panic!("{other}"),
        }
    }
}

pub(super) struct Client(pub(super) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(super) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    pub(super) async fn subscribe(&mut self, step_run: &str, params: Value) {
        self.request("subscribe", step_run, params, json!({})).await;
    }

    async fn request(&mut self, action: &str, step_run: &str, params: Value, top: Value) {
        let mut request = json!({ "channel": "channel_log", "action": action, "params": target(step_run) });
        merge(&mut request["params"], params);
        merge(&mut request, top);
        self.send(request.to_string()).await;
    }

    pub(super) async fn text(&mut self) -> String {
        loop {
            match timeout(BOUND, self.0.next()).await.expect("a message in time").expect("still open").unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Waits for a message of a kind; panics at another.
    pub(super) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The numbers of all lines up to `last`, and what came beside them.
    pub(super) async fn lines(&mut self, last: u64) -> (Vec<u64>, Vec<String>) {
        let (mut numbers, mut kinds) = (Vec::new(), Vec::new());
        while numbers.last().is_none_or(|number| *number < last) {
            let message = self.next().await;
            match &message["data"] {
                Value::Array(entries) => numbers.extend(entries.iter().map(number)),
                entry @ Value::Object(_) => numbers.push(number(entry)),
                _ => {}
            }
            kinds.push(message["type"].as_str().unwrap().to_owned());
        }
        kinds.dedup();
        (numbers, kinds)
    }

    pub(super) async fn closed(&mut self) -> (CloseCode, String) {
        loop {
            match timeout(BOUND, self.0.next()).await.expect("closed in time") {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code, frame.reason.to_string()),
                Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn quiet(&mut self) {
        let message = timeout(Duration::from_millis(300), self.0.next()).await;
        assert!(message.is_err(), "{message:?}");
    }
}

fn number(entry: &Value) -> u64 {
    let number = entry["line_number"].as_u64().unwrap();
    assert!(entry["level"] == "gap" || entry["content"] == format!("line {number}"), "{entry}");
    number
}

fn target(step_run: &str) -> Value {
    json!({ "pipelineId": "p", "jobId": "j", "stepRunId": step_run })
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { panic!() };
    into.as_object_mut().unwrap().extend(from);
}

fn all(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    numbers.collect()
}

#[tokio::test]
async fn history_then_live_in_the_words_of_the_interface() {
    let server = Server::start().await;
    server.source.numbered("s", 450);
    server.source.index("s", 1);
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    let params = r#""params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}"#;
    assert_eq!(client.text().await, format!(r#"{{"channel":"channel_log","type":"subscribed",{params},"data":null,"epoch":1}}"#));
    for (first, count) in [(1, 200), (201, 200), (401, 50)] {
        let chunk = client.expect("log_chunk").await;
        assert_eq!(chunk["params"], target("s"));
        let entries = chunk["data"].as_array().unwrap();
        assert_eq!((entries.len(), number(&entries[0])), (count, first));
        assert_eq!(
            entries[0],
            json!({
                "step_run_id": "s", "timestamp": 1_700_000_000, "timestamp_ms": 1_700_000_000_123_i64, "line_number": first,
                "level": "info", "content": format!("line {first}"), "stream": "stdout", "plugin_name": "shell",
                "agent_id": "agent-1",
            })
        );
    }
    assert_eq!(client.text().await, format!(r#"{{"channel":"channel_log","type":"history_done",{params},"data":null}}"#));
    client.quiet().await;
    server.source.numbered("s", 452);
    for expected in [451, 452] {
        assert_eq!(number(&client.expect("log").await["data"]), expected);
    }
    client.request("unsubscribe", "s", json!({}), json!({})).await;
    assert_eq!(client.text().await, format!(r#"{{"channel":"channel_log","type":"unsubscribed",{params},"data":null}}"#));
    server.source.numbered("s", 460);
    client.quiet().await;
}

#[tokio::test]
async fn a_step_run_without_a_line_gets_its_first_when_it_comes() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    server.source.numbered("s", 1);
    assert_eq!(number(&client.expect("log").await["data"]), 1);
}

#[tokio::test]
async fn a_client_begins_where_it_likes() {
    let server = Server::start().await;
    server.source.numbered("s", 100);
    server.source.index("s", 1);
    let mut client = server.connect().await;
    for (params, first) in [
        (json!({ "fromLine": 91 }), 91),
        (json!({ "tail": 5 }), 96),
        (json!({ "tail": 1000 }), 1),
        (json!({ "fromLine": 91, "epoch": 1 }), 91),
    ] {
        client.subscribe("s", params).await;
        assert_eq!(client.lines(100).await.0, all(first..=100));
        client.expect("history_done").await;
    }
    // After a power loss, line 101 and those after it are others than the client has seen.
    server.source.epoch.store(2, Ordering::SeqCst);
    server.source.numbered("s", 110);
    assert_eq!(client.lines(110).await.0, all(101..=110));
    client.subscribe("s", json!({ "fromLine": 106, "epoch": 1 })).await;
    assert_eq!(client.expect("subscribed").await["epoch"], 2);
    assert_eq!(client.lines(110).await.0, all(101..=110));
    client.expect("history_done").await;
    client.subscribe("s", json!({ "fromLine": 106, "epoch": 2 })).await;
    assert_eq!(client.lines(110).await.0, all(106..=110));
    client.expect("history_done").await;
    client.subscribe("s", json!({ "tail": 0 })).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    server.source.numbered("s", 111);
    assert_eq!(client.lines(111).await.0, [111]);
    client.subscribe("s", json!({ "fromLine": 115 })).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    server.source.numbered("s", 116);
    assert_eq!(client.lines(116).await.0, [115, 116]);
    client.subscribe("s", json!({ "fromLine": 2_147_483_648_u64 })).await;
    let error = client.expect("error").await;
    assert_eq!(error["error"], "params.fromLine must be a whole number from 1 to 2147483647");
    server.source.numbered("s", 117);
    assert_eq!(client.lines(117).await.0, [117], "the subscription stays");
}

#[tokio::test]
async fn live_lines_may_come_in_chunks() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.subscribe("s", json!({ "liveChunks": true })).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    server.source.numbered("s", 300);
    let (numbers, kinds) = client.lines(300).await;
    assert_eq!((numbers, kinds), (all(1..=300), vec!["log_chunk".to_owned()]));
}

#[tokio::test]
async fn bad_requests_are_answered_and_cost_nothing_else() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    let invalid = r#"{"channel":"","type":"error","error":"invalid request: message must be a JSON object"}"#;
    client.send("nonsense").await;
    assert_eq!(client.text().await, invalid);
    client.send(Message::binary(vec![0xff, 0xfe])).await;
    assert_eq!(client.text().await, invalid);
    client.send(Message::text(" ".repeat(10_000_000))).await;
    let error = client.expect("error").await;
    assert_eq!(error["error"], "invalid request: a request has at most 65536 bytes, this one has 10000000");
    client.send(r#"{"channel":"channel_log"}"#).await;
    assert_eq!(client.expect("error").await["error"], "pipelineId, jobId and stepRunId are required");
    server.source.numbered("s", 1);
    assert_eq!(client.lines(1).await.0, [1]);
    // Binary frames may hold requests too.
    let request = json!({ "channel": "channel_log", "action": "unsubscribe", "params": target("s") });
    client.send(Message::binary(request.to_string().into_bytes())).await;
    client.expect("unsubscribed").await;
    client.send(Message::text(" ".repeat((10 << 20) + 1))).await;
    assert_eq!(client.closed().await, (CloseCode::Size, "a message may have at most 10485760 bytes".into()));
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first_unless_it_is_multi() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for step in ["a", "b"] {
        client.subscribe(step, json!({})).await;
        client.expect("subscribed").await;
        client.expect("history_done").await;
    }
    server.source.numbered("a", 1);
    client.quiet().await;
    server.source.numbered("b", 1);
    assert_eq!(client.expect("log").await["data"]["step_run_id"], "b");
    client.request("subscribe", "a", json!({}), json!({ "multi": true })).await;
    client.expect("subscribed").await;
    assert_eq!(client.lines(1).await.0, [1]);
    client.expect("history_done").await;
    for step in ["a", "b"] {
        server.source.numbered(step, 2);
        let message = client.expect("log").await;
        assert_eq!((&message["params"]["stepRunId"], &message["data"]["step_run_id"]), (&json!(step), &json!(step)));
    }
    // The same step run again begins anew.
    client.request("subscribe", "a", json!({ "fromLine": 2 }), json!({ "multi": true })).await;
    assert_eq!(client.lines(2).await.0, [2]);
    client.expect("history_done").await;
    client.request("unsubscribe", "a", json!({}), json!({})).await;
    client.expect("unsubscribed").await;
    server.source.numbered("a", 3);
    client.quiet().await;
    server.source.numbered("b", 3);
    assert_eq!(client.expect("log").await["data"]["step_run_id"], "b");
    client.subscribe("c", json!({})).await;
    client.expect("subscribed").await;
    client.expect("history_done").await;
    server.source.numbered("b", 4);
    client.quiet().await;
}

#[tokio::test]
async fn many_subscriptions_share_a_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for step in 0..256 {
        server.source.numbered(&format!("s{step}"), 300);
        server.source.index(&format!("s{step}"), 1);
    }
    for step in 0..257 {
        client.request("subscribe", &format!("s{step}"), json!({}), json!({ "multi": true })).await;
    }
    let (mut done, mut seen, mut refused) = (0, vec![0; 256], 0);
    while done < 256 || refused == 0 {
        let message = client.next().await;
        match message["type"].as_str().unwrap() {
            "history_done" => done += 1,
            "log_chunk" => {
                for entry in message["data"].as_array().unwrap() {
                    let step: usize = entry["step_run_id"].as_str().unwrap()[1..].parse().unwrap();
                    seen[step] += 1;
                    assert_eq!(number(entry), seen[step]);
                }
            }
            "error" => {
                assert_eq!(message["error"], "a connection has at most 256 subscriptions; open another");
                refused += 1;
            }
            kind => assert_eq!(kind, "subscribed"),
        }
    }
    assert!(seen.iter().all(|seen| *seen == 300));
}

#[tokio::test]
async fn eof_comes_when_the_stream_has_ended_and_is_quiet() {
    let server = Server::start().await;
    server.source.numbered("s", 3);
    let tail = server.source.tail(&id("s")).unwrap();
    let feeder = tail.enter_feeder();
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    assert_eq!(client.lines(3).await.0, [1, 2, 3]);
    client.expect("history_done").await;
    server.source.end("s");
    client.quiet().await;
    server.source.numbered("s", 4);
    assert_eq!(client.lines(4).await.0, [4]);
    drop(feeder);
    let params = r#""params":{"pipelineId":"p","jobId":"j","stepRunId":"s"}"#;
    assert_eq!(client.text().await, format!(r#"{{"channel":"channel_log","type":"eof",{params},"data":null}}"#));
    // It can be asked for again.
    client.subscribe("s", json!({ "tail": 1 })).await;
    assert_eq!(client.lines(4).await.0, [4]);
    client.expect("history_done").await;
    client.expect("eof").await;
}

#[tokio::test]
async fn gaps_are_entries() {
    let server = Server::start().await;
    server.source.numbered("s", 2);
    server.source.gap("s", 3, GapReason::QueueFull);
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    client.expect("subscribed").await;
    let chunk = client.expect("log_chunk").await;
    assert_eq!(
        chunk["data"][2],
        json!({
            "step_run_id": "s", "timestamp": 1_700_000_000, "timestamp_ms": 1_700_000_000_000_i64, "line_number": 3, "level": "gap",
            "content": "3 lines are missing: the gateway was too busy to take them", "gap": { "count": 3, "reason": "queue_full" },
        })
    );
    client.expect("history_done").await;
    server.source.gap("s", 0, GapReason::Unreadable);
    assert_eq!(client.expect("log").await["data"]["gap"], json!({ "count": 0, "reason": "unreadable" }));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_says_so() {
    let server = Server::start().await;
    server.source.numbered("s", 2);
    server.source.index("s", 1);
    server.source.broken.store(true, Ordering::SeqCst);
    let mut client = server.connect().await;
    client.subscribe("s", json!({})).await;
    client.expect("subscribed").await;
    let error = client.expect("error").await["error"].to_string();
    assert!(error.starts_with("\"load history failed: index: on fire"), "{error}");
    server.source.broken.store(false, Ordering::SeqCst);
    client.quiet().await;
    client.subscribe("s", json!({})).await;
    assert_eq!(client.lines(2).await.0, [1, 2]);
}

#[derive(Default)]
struct Known {
    /// What happens to step runs while they are followed.
    happens: tokio::sync::watch::Sender<Option<&'static str>>,
}

impl StepRunLookup for Known {
    fn status(&self, target: StatusTarget) -> BoxFuture<'_, Option<StatusFeed>> {
        let known = target.step_run_id == "known" && target.job_id == "j";
        let now = json!({ "stepRunId": target.step_run_id, "status": 3 });
        let changes = WatchStream::from_changes(self.happens.subscribe());
        let changes = changes.take_while(|what| ready(what.is_some())).map(|what| StatusItem::Change(json!({ "status": what })));
        let feed = stream::iter([StatusItem::Snapshot(now)]).chain(changes).boxed();
        ready(known.then_some(feed)).boxed()
    }

    fn parents(&self, step_run: &StepRunId) -> Option<Parents> {
        let job_id = match step_run.as_str() {
            "known" => "j",
            "elsewhere" => "other",
            _ => return None,
        };
        Some(Parents { pipeline_id: "p".into(), job_id: job_id.into() })
    }
}

pub(super) struct NotTheLog;

impl Access for NotTheLog {
    fn may<'a>(&'a self, who: &'a Identity, verb: Verb, step_run: Option<&'a StepRunId>) -> BoxFuture<'a, bool> {
        let secret = step_run.is_none_or(|step_run| step_run.as_str() == "secret");
        ready(*who == Identity::named("alice") && verb == Verb::ReadLogs && !secret).boxed()
    }
}

#[tokio::test]
async fn what_contradicts_what_is_known_is_not_found() {
    let server = Server::with(settings(), None, Arc::new(AllowAll), Arc::new(Known::default())).await;
    let mut client = server.connect().await;
    let not_found = |step_run: &str| json!({ "channel": "channel_log", "type": "error", "params": target(step_run), "error": "step run not found" });
    client.subscribe("elsewhere", json!({})).await;
    assert_eq!(client.next().await, not_found("elsewhere"));
    for step_run in ["known", "unknown"] {
        client.subscribe(step_run, json!({})).await;
        client.expect("subscribed").await;
        client.expect("history_done").await;
    }
    *server.source.pipeline.lock() = "another".to_owned();
    server.source.numbered("s", 1);
    client.subscribe("s", json!({})).await;
    assert_eq!(client.next().await, not_found("s"));
    // Who does not know contradicts nobody.
    client.subscribe("s", json!({ "pipelineId": "-", "jobId": "-" })).await;
    assert_eq!(client.lines(1).await.0, [1]);
    client.expect("history_done").await;
    *server.source.pipeline.lock() = "p".to_owned();
    server.source.numbered("t", 1);
    client.subscribe("t", json!({})).await;
    assert_eq!(client.lines(1).await.0, [1]);
}

#[tokio::test]
async fn a_subscription_before_the_first_line_is_not_found_once_the_line_contradicts_it() {
    let server = Server::start().await;
    *server.source.pipeline.lock() = "another".to_owned();
    let mut clients = Vec::new();
    for pipeline in ["p", "-", "another"] {
        let mut client = server.connect().await;
        client.subscribe("s", json!({ "pipelineId": pipeline })).await;
        client.expect("subscribed").await;
        client.expect("history_done").await;
        clients.push(client);
    }
    server.source.numbered("s", 2);
    assert_eq!(clients[0].expect("error").await["error"], "step run not found");
    for client in &mut clients[1..] {
        assert_eq!(client.lines(2).await.0, [1, 2]);
    }
    server.source.numbered("s", 3);
    clients[0].quiet().await;
}

#[tokio::test]
async fn a_status_is_what_the_lookup_knows() {
    let status = |step_run: &str, action: &str| {
        json!({ "channel": "channel_status", "action": action, "params": target(step_run) }).to_string()
    };
    let server = Server::with(settings(), None, Arc::new(AllowAll), Arc::new(Known::default())).await;
    let mut client = server.connect().await;
    client.send(status("known", "subscribe")).await;
    let snapshot = client.next().await;
    let expected = json!({
        "channel": "channel_status", "type": "status_snapshot", "params": target("known"), "data": { "stepRunId": "known", "status": 3 },
    });
    assert_eq!(snapshot, expected);
    for step_run in ["elsewhere", "unknown"] {
        client.send(status(step_run, "subscribe")).await;
        let error = client.expect("error").await;
        assert_eq!((&error["channel"], &error["error"]), (&json!("channel_status"), &json!("step run not found")));
    }
    client.send(status("unknown", "unsubscribe")).await;
    assert_eq!(client.expect("unsubscribed").await["channel"], "channel_status");
}

#[tokio::test]
async fn a_status_subscription_is_told_each_change_until_it_ends_or_another_takes_its_place() {
    let request = |step_run: &str, action: &str| {
        json!({ "channel": "channel_status", "action": action, "params": target(step_run) }).to_string()
    };
    let lookup = Arc::new(Known::default());
    let server = Server::with(settings(), None, Arc::new(AllowAll), lookup.clone()).await;
    let mut client = server.connect().await;
    client.send(request("known", "subscribe")).await;
    client.expect("status_snapshot").await;
    for status in ["started", "completed"] {
        lookup.happens.send_replace(Some(status));
        let told = client.next().await;
        assert_eq!(
            told,
            json!({ "channel": "channel_status", "type": "status", "params": target("known"), "data": { "status": status } })
        );
    }
    // A second one takes the place of the first: each change is told once.
    client.send(request("known", "subscribe")).await;
    client.expect("status_snapshot").await;
    assert_eq!(lookup.happens.receiver_count(), 1);
    client.send(request("known", "unsubscribe")).await;
    client.expect("unsubscribed").await;
    lookup.happens.send_replace(Some("unheard"));
    assert_eq!(lookup.happens.receiver_count(), 0);
    client.quiet().await;
    // One that has ended is told nothing more, and the connection goes on.
    client.send(request("known", "subscribe")).await;
    client.expect("status_snapshot").await;
    lookup.happens.send_replace(None);
    client.quiet().await;
    client.send(request("known", "subscribe")).await;
    client.expect("status_snapshot").await;
}
