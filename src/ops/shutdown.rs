//! How a gateway is asked to stop: SIGTERM or SIGINT once for an orderly stop within a bound, twice for an end at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether a stop has been asked for. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens to SIGTERM and SIGINT from now on. A second of them ends the process at once with 128 + its number.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn on_signals() -> io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (asked, shutdown) = watch::channel(false);
        tokio::spawn(async move {
            let first = either(&mut term, &mut int).await;
            tracing::info!(signal = first, "stopping; a second signal ends at once");
            let _ = asked.send(true);
            let second = either(&mut term, &mut int).await;
            tracing::warn!(signal = second, "ended before the stop was complete");
            #[expect(clippy::disallowed_methods, reason = "the second signal means: now")]
            std::process::exit(128 + second);
        });
        Ok(Self(shutdown))
    }

    /// Resolves when a stop has been asked for.
    pub async fn asked(mut self) {
        // If the listener is gone there is nobody who could still ask.
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn either(term: &mut Signal, int: &mut Signal) -> i32 {
    tokio::select! {
        _ = term.recv() => SignalKind::terminate().as_raw_value(),
        _ = int.recv() => SignalKind::interrupt().as_raw_value(),
    }
}
