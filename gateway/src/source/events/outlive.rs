//! `[events] ack = "kafka"`: an event is acknowledged only once a sink has it too, so that it outlives the machine.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::store::Position;

/// What an answer waits for beside the disk.
#[derive(Debug, Clone)]
pub struct Outlive {
    /// The cursor of the sink.
    pub cursor: watch::Receiver<Position>,
    /// An answer waits at most this long; then it says what the sink has by then.
    pub patience: Duration,
}

impl Outlive {
    /// Waits until the sink has what lies at `position`, at most as long as patience goes, or not at all. Returns the cursor: what lies
    /// before it is there.
    pub(super) async fn wait(&self, position: Position, patient: bool) -> Position {
        let mut cursor = self.cursor.clone();
        if patient {
            // If time is up, or the sink is gone, the cursor says so.
            let _ = timeout(self.patience, cursor.wait_for(|cursor| *cursor > position)).await;
        }
        *cursor.borrow()
    }
}
