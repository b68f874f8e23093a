//! How a gateway is asked to stop: SIGTERM or SIGINT once for an orderly stop within a bound, twice for an end at once.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Nobody asks twice on purpose within this time.
const ECHO_WITHIN: Duration = Duration::from_millis(200);

/// Whether a stop has been asked for. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens to SIGTERM and SIGINT from now on. A second of them ends the process at once with 128 + its number, unless it is
    /// an echo of the first: `timeout` and some supervisors tell the process and then its group, within a millisecond.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn on_signals() -> io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (asked, shutdown) = watch::channel(false);
        tokio::spawn(async move {
            let first = either(&mut term, &mut int).await;
            let came = Instant::now();
            tracing::info!(signal = first, "stopping; a second signal ends at once");
            let _ = asked.send(true);
            let second = loop {
                let second = either(&mut term, &mut int).await;
                if !is_echo(first, second, came.elapsed()) {
                    break second;
                }
            };
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

/// Whether `second` is the same wish as `first`, told twice.
fn is_echo(first: i32, second: i32, later: Duration) -> bool {
    first == second && later < ECHO_WITHIN
}

async fn either(term: &mut Signal, int: &mut Signal) -> i32 {
    tokio::select! {
        _ = term.recv() => SignalKind::terminate().as_raw_value(),
        _ = int.recv() => SignalKind::interrupt().as_raw_value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_at_once_is_an_echo_and_no_second_wish() {
        assert!(is_echo(15, 15, Duration::from_millis(1)));
        assert!(!is_echo(15, 2, Duration::from_millis(1)), "another signal is another wish");
        assert!(!is_echo(15, 15, ECHO_WITHIN));
    }
}
