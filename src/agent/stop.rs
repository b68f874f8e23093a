//! Why a step must end before it is done.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody cancelled it, and said this.
    Cancelled(String),
    /// It took longer than it may.
    TimedOut(Duration),
    /// The agent is ending. Nothing is reported of the step then: the control plane gives it up when the agent signs off.
    Leaving,
}

/// What tells a step to end.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    told: watch::Receiver<Option<Why>>,
    deadline: Option<(Instant, Duration)>,
}

impl Stop {
    /// Ends when `told` says so, or after `limit`.
    pub(super) fn new(told: watch::Receiver<Option<Why>>, limit: Option<Duration>) -> Self {
        let deadline = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        Self { told, deadline }
    }

    /// Resolves when the step must end; again and again, once it must.
    pub(super) async fn told(&mut self) -> Why {
        let told = async {
            match self.told.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or(Why::Leaving),
                // Nobody is left who could cancel.
                Err(_) => Why::Leaving,
            }
        };
        match self.deadline {
            None => told.await,
            Some((at, limit)) => tokio::select! {
                biased;
                why = told => why,
                () = sleep_until(at) => Why::TimedOut(limit),
            },
        }
    }
}
