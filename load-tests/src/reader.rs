//! A reader over WebSocket (`channel_log` of `GET /api/v1/ws`), and the check that it sees each line once, in order.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::{Outcome, within};

/// One line, or one gap, as a reader sees it.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Entry {
    /// The step run.
    pub step_run_id: String,
    /// When it was written, in seconds since 1970.
    pub timestamp: i64,
    /// The same in milliseconds.
    #[serde(default)]
    pub timestamp_ms: i64,
    /// The line's number; of a gap, the first missing one.
    pub line_number: u64,
    /// The level; `gap` for a gap.
    #[serde(default)]
    pub level: String,
    /// The line; of a gap, what happened, for people.
    #[serde(default)]
    pub content: String,
    /// `stdout` or `stderr`.
    #[serde(default)]
    pub stream: String,
    /// The plugin that wrote it.
    #[serde(default)]
    pub plugin_name: String,
    /// The agent that sent it.
    #[serde(default)]
    pub agent_id: String,
    /// Whether the line was cut.
    #[serde(default)]
    pub truncated: bool,
    /// Set if this stands for missing lines.
    #[serde(default)]
    pub gap: Option<Gap>,
}

/// Missing lines.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Gap {
    /// How many; 0 if nobody knows, in which case no numbers are missing.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// One message of the gateway.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// The channel.
    #[serde(default)]
    pub channel: String,
    /// What it is: `subscribed`, `log_chunk`, `history_done`, `log`, `eof`, `unsubscribed`, `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which subscription it belongs to.
    #[serde(default)]
    pub params: Value,
    /// An entry, several, or null.
    #[serde(default)]
    pub data: Value,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
    /// In `subscribed`: the store's epoch.
    #[serde(default)]
    pub epoch: Option<u64>,
}

impl Message {
    /// The entries that came with it, if any.
    pub fn entries(self) -> Outcome<Vec<Entry>> {
        Ok(match self.data {
            Value::Null => Vec::new(),
            list @ Value::Array(_) => serde_json::from_value(list)?,
            one => vec![serde_json::from_value(one)?],
        })
    }
}

/// A WebSocket connection.
#[derive(Debug)]
pub struct Reader {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Reader {
    /// Connects to the gateway that listens for HTTP on `address`.
    pub async fn connect(address: &str, token: Option<&str>) -> Outcome<Self> {
        let mut request = format!("ws://{address}/api/v1/ws").into_client_request()?;
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        // A small read buffer: what a reader that stops has not read stays with the gateway's side of the socket.
        let config = WebSocketConfig::default().read_buffer_size(64 << 10);
        let connecting = async { Ok(connect_async_with_config(request, Some(config), true).await?) };
        let (socket, _) = within(Duration::from_secs(10), "a WebSocket connection", connecting).await?;
        Ok(Self { socket })
    }

    /// Connects and subscribes to a step run's log, from line 1 on.
    pub async fn follow(address: &str, step_run: &str) -> Outcome<Self> {
        Self::follow_with(address, step_run, json!({})).await
    }

    /// Connects and subscribes, with more params, as `{"fromLine": 17}`.
    pub async fn follow_with(address: &str, step_run: &str, more: Value) -> Outcome<Self> {
        let mut reader = Self::connect(address, None).await?;
        reader.subscribe(step_run, more).await?;
        Ok(reader)
    }

    /// Subscribes to a step run's log; the answers are still to be read.
    pub async fn subscribe(&mut self, step_run: &str, more: Value) -> Outcome<()> {
        let mut params = json!({ "pipelineId": "p", "jobId": "j", "stepRunId": step_run });
        if let (Some(params), Value::Object(more)) = (params.as_object_mut(), more) {
            params.extend(more);
        }
        self.send(&json!({ "channel": "channel_log", "action": "subscribe", "params": params }).to_string()).await
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) -> Outcome<()> {
        Ok(self.socket.send(Frame::text(text)).await?)
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Outcome<()> {
        Ok(self.socket.send(Frame::binary(bytes)).await?)
    }

    /// The next frame that is no ping or pong; `None` after the end of the connection.
    pub async fn frame(&mut self) -> Outcome<Option<Frame>> {
        loop {
            match self.socket.next().await {
                None => return Ok(None),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
                Some(frame) => return Ok(Some(frame?)),
            }
        }
    }

    /// The next message; an error after the end of the connection.
    pub async fn next(&mut self) -> Outcome<Message> {
        match self.frame().await? {
            Some(Frame::Text(text)) => Ok(serde_json::from_str(&text)?),
            Some(Frame::Close(close)) => {
                let (code, reason) = close.map(|close| (u16::from(close.code), close.reason.to_string())).unwrap_or_default();
                Err(format!("closed by the gateway: {code} {reason}").into())
            }
            Some(other) => Err(format!("a frame that is not text: {other:?}").into()),
            None => Err("the connection ended".into()),
        }
    }

    /// The next message, which must come within 10 s.
    pub async fn soon(&mut self) -> Outcome<Message> {
        within(Duration::from_secs(10), "a message", self.next()).await
    }

    /// Reads until `seen` has passed line `last`, checking each entry; whatever else comes is passed over, an error is one.
    pub async fn read_to(&mut self, last: u64, seen: &mut Seen, limit: Duration) -> Outcome<()> {
        within(limit, &format!("line {last}"), async {
            while seen.next <= last {
                let message = self.next().await?;
                if let Some(error) = message.error {
                    return Err(format!("at line {}: {error}", seen.next).into());
                }
                for entry in message.entries()? {
                    seen.take(entry)?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// What a reader has seen of one step run so far. Every entry must be the next one.
#[derive(Debug)]
pub struct Seen {
    /// The number of the next line.
    pub next: u64,
    /// How many lines came.
    pub lines: u64,
    /// How many lines gaps stood for.
    pub missing: u64,
    /// The entries, if they are kept.
    pub entries: Vec<Entry>,
    keep: bool,
}

impl Seen {
    /// Nothing seen yet, from that line on; entries are kept.
    pub fn from(line: u64) -> Self {
        Self { next: line, lines: 0, missing: 0, entries: Vec::new(), keep: true }
    }

    /// The same, without keeping the entries.
    pub fn counting_from(line: u64) -> Self {
        Self { keep: false, ..Self::from(line) }
    }

    /// Notes an entry; it is an error if it is not the next one.
    pub fn take(&mut self, entry: Entry) -> Outcome<()> {
        if entry.line_number != self.next {
            let (next, number, run) = (self.next, entry.line_number, &entry.step_run_id);
            let what = if number < next { "doubled or out of order" } else { "missing" };
            return Err(format!("{run}: line {next} was next, line {number} came ({what}): {:?}", entry.content).into());
        }
        match &entry.gap {
            Some(gap) => {
                self.next += gap.count;
                self.missing += gap.count;
            }
            None => {
                self.next += 1;
                self.lines += 1;
            }
        }
        if self.keep {
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The lines' contents, without the gaps.
    pub fn contents(&self) -> Vec<&str> {
        self.entries.iter().filter(|entry| entry.gap.is_none()).map(|entry| entry.content.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, missing: Option<u64>) -> Outcome<Entry> {
        let gap = missing.map(|count| json!({ "count": count, "reason": "queue full" }));
        Ok(serde_json::from_value(json!({ "step_run_id": "s", "timestamp": 1, "line_number": number, "gap": gap }))?)
    }

    #[test]
    fn the_check_finds_doubled_and_missing_lines_and_follows_gaps() -> Outcome<()> {
        let mut seen = Seen::from(1);
        seen.take(entry(1, None)?)?;
        assert!(seen.take(entry(1, None)?).is_err());
        assert!(seen.take(entry(3, None)?).is_err());
        seen.take(entry(2, Some(5))?)?;
        seen.take(entry(7, None)?)?;
        assert_eq!((seen.next, seen.lines, seen.missing), (8, 2, 5));
        Ok(())
    }
}
