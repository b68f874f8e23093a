//! Plain HTTP, as little of it as `/readyz`, `/metrics` and the statements of tests need.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Outcome, within};

/// No answer of the gateway takes this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// No statement of a test takes this long.
const STATEMENT: Duration = Duration::from_secs(300);

/// An answer: its status and its body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks `address` for `path`.
pub async fn get(address: &str, path: &str) -> Outcome<Answer> {
    get_with(address, path, &[]).await
}

/// Asks `address` for `path`, with headers of one's own.
pub async fn get_with(address: &str, path: &str, headers: &[(&str, &str)]) -> Outcome<Answer> {
    within(PATIENCE, path, ask("GET", address, path, headers, "")).await
}

/// Sends `body` to `path` at `address`, which may take its time. The answer must come in one piece.
pub async fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Outcome<Answer> {
    within(STATEMENT, path, ask("POST", address, path, headers, body)).await
}

async fn ask(method: &str, address: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Outcome<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an HTTP answer without an end of its head")?;
    let status = head.split(' ').nth(1).ok_or("an HTTP answer without a status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The gateway's metrics at one moment.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Name with labels, as written, to value.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Asks the gateway that listens for HTTP on `address`.
    pub async fn of(address: &str) -> Outcome<Self> {
        let answer = get(address, "/metrics").await?;
        if answer.status != 200 {
            return Err(format!("/metrics answered {}", answer.status).into());
        }
        Ok(Self::parse(&answer.body))
    }

    /// Reads the Prometheus text format; lines that are no samples are left out.
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect() }
    }

    /// The sum over all label sets of a metric; 0 if there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.with(name, "")
    }

    /// The sum over the label sets of a metric that contain `label`, as in `protocol="push_logs"`.
    pub fn with(&self, name: &str, label: &str) -> f64 {
        self.samples
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix(name).is_some_and(|rest| (rest.is_empty() || rest.starts_with('{')) && rest.contains(label))
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// The names of all metrics, without labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(|key| key.split('{').next().unwrap_or(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_name_and_label() {
        let metrics = Metrics::parse("# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3.5\na_total 9\nb 1\n");
        assert!((metrics.sum("a") - 5.5).abs() < 1e-9);
        assert!((metrics.with("a", "x=\"2\"") - 3.5).abs() < 1e-9);
        assert!((metrics.sum("b") - 1.0).abs() < 1e-9);
        assert!(metrics.sum("c").abs() < 1e-9);
        assert!(metrics.names().any(|name| name == "a_total"));
    }
}
