//! The WebSocket interface: `GET /api/v1/ws`, channels `channel_log` and `channel_status`.
//!
//! [`Replay::router`] checks who comes and switches protocols; then each connection is one task (`connection`), whose socket
//! (`socket`) reads frames into an `inbox` and writes them from an `outbox`. A `request` becomes a `subscription`,
//! whose `writer` puts entries together to messages.
//!
//! Frames are those of `tungstenite`; its buffers are not used, because they grow with what a client announces or leaves unread
//! and are kept: 64 clients that each send 9 MiB of a 10 MiB message held 577 MiB, here 13 MiB. A message that comes in costs
//! at most 64 KiB, one that goes out at most the connection's share, in several frames if one line needs it.

mod ahead;
mod connection;
mod inbox;
mod outbox;
mod reply;
mod request;
mod shared;
mod socket;
mod subscription;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::connection::Connection;
pub use self::shared::ReplaySettings;
use self::shared::Shared;
use super::source::LineSource;
use crate::access::{Access, AuthError, Callers, Identity, bearer};
use crate::lookup::StepRunLookup;

/// Where the interface is.
pub const PATH: &str = "/api/v1/ws";

/// The readers' side of the gateway. Cloning shares it.
#[derive(Clone)]
pub struct Replay {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl Replay {
    /// Readers of `source`, who are those that `callers` knows.
    #[must_use]
    pub fn new(
        source: Arc<dyn LineSource>,
        access: Arc<dyn Access>,
        lookup: Arc<dyn StepRunLookup>,
        callers: Arc<dyn Callers>,
        settings: ReplaySettings,
    ) -> Self {
        let shared = Arc::new(Shared::new(source, access, lookup, callers, settings));
        Self { shared, stop: watch::Sender::new(false) }
    }

    /// The routes, to be served by an HTTP/1.1 server that allows upgrades.
    pub fn router(&self) -> Router {
        Router::new().route(PATH, get(connect)).with_state(self.clone())
    }

    /// Takes no more connections, closes those that are open with code 1012, and waits for them, at most `bound`. Returns whether
    /// all have ended.
    pub async fn close(&self, bound: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(bound, self.stop.closed()).await.is_ok()
    }
}

async fn connect(State(replay): State<Replay>, mut request: Request) -> Response {
    let Replay { shared, stop } = replay;
    let who = match identify(&*shared.callers, request.headers()).await {
        Ok(who) => who,
        Err(error) => {
            shared.metrics.refused.increment(1);
            let status = if code(error) == 503 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
            return refuse(&shared, status, code(error), &error.to_string());
        }
    };
    let Some(key) = upgrade_key(request.headers()) else {
        let upgrade = [(UPGRADE, HeaderValue::from_static("websocket"))];
        return (StatusCode::UPGRADE_REQUIRED, upgrade, "Upgrade Required: this is a WebSocket, version 13\n").into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "Upgrade Required: connect by HTTP/1.1\n").into_response();
    };
    // Subscribed before the look, so that no connection slips in after the close.
    let stopped = stop.subscribe();
    let place = shared.enter().filter(|_| !*stopped.borrow());
    let Some(place) = place else {
        shared.metrics.refused.increment(1);
        let text = "the gateway is stopping or has as many WebSocket connections as it may; try again later";
        return refuse(&shared, StatusCode::SERVICE_UNAVAILABLE, 503, text);
    };
    tokio::spawn(async move {
        // A client that goes away during the handshake needs no answer.
        if let Ok(upgraded) = upgrade.await {
            Connection::new(shared, who, TokioIo::new(upgraded), stopped, place).run().await;
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, key),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Says who connects: the Authorization header, or for browsers, which cannot send it, the cookie `accessToken`.
async fn identify(callers: &dyn Callers, headers: &HeaderMap) -> Result<Identity, AuthError> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        let token = bearer(header.to_str().map_err(|_| AuthError::Malformed)?)?;
        return callers.identify(Some(token)).await;
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let token = pairs.find(|(name, token)| *name == "accessToken" && !token.is_empty()).map(|(_, token)| token);
    callers.identify(token).await
}

/// The answer to the client's key, if this is a WebSocket handshake (RFC 6455, section 4.2.1).
fn upgrade_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let is_handshake = has(CONNECTION, "upgrade") && has(UPGRADE, "websocket") && has(SEC_WEBSOCKET_VERSION, "13");
    is_handshake.then(|| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()).flatten()
}

/// The codes that clients of the HTTP interface know.
fn code(error: AuthError) -> u16 {
    match error {
        AuthError::Missing => 4406,
        AuthError::Malformed => 4408,
        AuthError::Unknown => 4405,
        AuthError::Unavailable => 503,
    }
}

fn refuse(shared: &Shared, status: StatusCode, code: u16, error: &str) -> Response {
    let timestamp = shared.settings.clock.now().div_euclid(1000);
    let envelope = serde_json::json!({ "code": code, "errMsg": error, "path": PATH, "timestamp": timestamp });
    (status, axum::Json(envelope)).into_response()
}
