//! A WebSocket to the gateway.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::settings::value::show_time;

/// How long a connection may take to come about, at most.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// The gateway pings every 30 s; after so long a silence it is gone.
const HEARD_WITHIN: Duration = Duration::from_secs(90);

/// Why there is no more to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    /// The address cannot be used.
    #[error("--server \"{0}\" is not an address; give http://host:port")]
    Address(String),
    /// The token cannot be used.
    #[error("{0}")]
    Token(String),
    /// The gateway does not let us in, or is none.
    #[error("the server refuses with HTTP status {0}; check --server and --token-file")]
    Status(u16),
    /// What answers does not speak HTTP.
    #[error("what answers at {0} is not the HTTP port of a gateway ({1}); check --server")]
    NoGateway(String, String),
    /// The connection could not be made, or broke.
    #[error("the gateway is away: {0}")]
    Away(String),
    /// The gateway answered with an error.
    #[error("the gateway says: {0}")]
    Refused(String),
    /// The gateway sent something that is no message.
    #[error("the gateway sent something that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Stdout cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The gateway was away too long.
    #[error("gave up after {}: {}", show_time(.0), .1)]
    GaveUp(Duration, Box<TailError>),
}

impl TailError {
    /// Whether another try may help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl From<Error> for TailError {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(response) if !response.status().is_server_error() => Self::Status(response.status().as_u16()),
            other => Self::Away(other.to_string()),
        }
    }
}

/// An open WebSocket.
pub(crate) struct Connection(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Connection {
    /// Connects to the gateway at `server` with the first token of `token_file`, within `limit`.
    pub(crate) async fn open(server: &str, token_file: Option<&Path>, limit: Duration) -> Result<Self, TailError> {
        let request = request(server, token_file)?;
        let limit = limit.min(OPEN_WITHIN);
        match timeout(limit, tokio_tungstenite::connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(Self(socket)),
            // A gateway that is killed in the middle of an answer is away, not a stranger.
            Ok(Err(Error::Protocol(broken @ ProtocolError::HandshakeIncomplete))) => Err(TailError::Away(broken.to_string())),
            Ok(Err(Error::Protocol(strange))) => Err(TailError::NoGateway(server.to_owned(), strange.to_string())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(TailError::Away(format!("no answer within {}", show_time(&limit)))),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), TailError> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// The next message. Pings are answered on the way.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes, TailError> {
        loop {
            match timeout(HEARD_WITHIN, self.0.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return Ok(text),
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let why = frame.map(|frame| format!("{} {}", u16::from(frame.code), frame.reason)).unwrap_or_default();
                    return Err(TailError::Away(format!("it closed the connection: {}", why.trim_end())));
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Err(TailError::Away("it closed the connection".into())),
                Err(_) => return Err(TailError::Away(format!("nothing heard for {}s", HEARD_WITHIN.as_secs()))),
            }
        }
    }
}

/// The request that opens the WebSocket.
fn request(server: &str, token_file: Option<&Path>) -> Result<Request<()>, TailError> {
    let unfit = || TailError::Address(server.to_owned());
    let host = match server.split_once("://") {
        None => server,
        Some(("http" | "ws", host)) => host,
        Some(_) => return Err(unfit()),
    };
    let url = format!("ws://{}/api/v1/ws", host.trim_end_matches('/'));
    let mut request = url.into_client_request().map_err(|_| unfit())?;
    if let Some(path) = token_file {
        let bearer = crate::bearer::header(path).map_err(|error| TailError::Token(error.to_string()))?;
        let value = HeaderValue::from_str(&bearer).map_err(|error| TailError::Token(error.to_string()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_scheme() {
        for server in ["http://127.0.0.1:8080", "127.0.0.1:8080/", "ws://127.0.0.1:8080"] {
            assert_eq!(request(server, None).unwrap().uri(), "ws://127.0.0.1:8080/api/v1/ws");
        }
        for server in ["https://a", "a b", ""] {
            assert!(request(server, None).is_err(), "{server}");
        }
    }

    #[test]
    fn the_token_goes_into_the_header() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        assert_eq!(request("a:1", Some(file.path())).unwrap().headers()[AUTHORIZATION], "Bearer secret");
    }
}
