//! The wish to stop, seen by every task that must end.

use tokio::sync::watch;

/// Says to all its [`Stop`]s that they are to end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Resolves once the gateway is to end. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Default for Stopper {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopper {
    /// One that waits for this.
    #[must_use]
    pub fn wish(&self) -> Stop {
        Stop(self.0.subscribe())
    }

    /// Says it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once it has been said, or whoever could say it is gone.
    pub async fn asked(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
