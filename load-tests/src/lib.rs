//! What the load generators and the end-to-end tests share: a real gateway process and clients over real sockets.
//!
//! | module | what it is |
//! |---|---|
//! | [`process`] | a gateway: the built binary on a data folder of its own, killed when dropped |
//! | [`procfs`] | what a process costs: processor time, peak memory |
//! | [`http`] | `GET` of `/readyz` and `/metrics`, and reading the latter |
//! | [`text`] | lines as builds write them, from a seed |
//! | [`logs`] | an agent that sends lines (LogSession, PushLogs) |
//! | [`control`] | clients of the control plane: pipelines, runs, an agent that executes nothing |
//! | [`events`] | an agent that sends events (EventSession, PushEvents) |
//! | [`reader`] | a reader over WebSocket, and the check that it sees each line once, in order |
//!
//! It knows the contract (`arcgate-api`) and nothing of the gateway's inside.

pub mod control;
pub mod events;
pub mod http;
pub mod logs;
pub mod process;
pub mod procfs;
pub mod reader;
pub mod text;

use std::time::Duration;

/// Why something did not work, for people: callers of this crate only pass it on.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// A value, or why there is none.
pub type Outcome<T> = Result<T, Trouble>;

/// Waits for `future`, but not longer than `limit`; the error names `what` did not come.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{what}: not within {limit:?}").into()),
    }
}

/// Asks again every 10 ms until `check` yields a value, but not longer than `limit`; the error names `what` did not come.
pub async fn eventually<T>(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    within(limit, what, async {
        loop {
            if let Some(value) = check().await? {
                return Ok(value);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}
