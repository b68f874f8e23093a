//! The signals that push passes on instead of dying of them.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// All signals that are passed on to the command.
const PASSED_ON: [Number; 6] = [Number::INT, Number::TERM, Number::HUP, Number::QUIT, Number::USR1, Number::USR2];
/// Those that also end a push that reads a file or stdin.
const ENDING: [Number; 4] = [Number::INT, Number::TERM, Number::HUP, Number::QUIT];

/// Signals as they come.
pub(crate) struct Signals(mpsc::Receiver<Number>);

impl Signals {
    /// Listens to all signals that a command may be sent. Call it inside a runtime, before the command starts.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn all() -> io::Result<Self> {
        Self::listen(&PASSED_ON)
    }

    /// Listens to those that ask to end.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn ending() -> io::Result<Self> {
        Self::listen(&ENDING)
    }

    fn listen(numbers: &[Number]) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(16);
        let ignored = ignored();
        // What is ignored (nohup) stays so, for the command too: a handler would take that from it.
        for &number in numbers.iter().filter(|number| ignored >> (number.as_raw() - 1) & 1 == 0) {
            let mut signal = signal(SignalKind::from_raw(number.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move { while signal.recv().await.is_some() && sender.send(number).await.is_ok() {} });
        }
        Ok(Self(receiver))
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Number {
        match self.0.recv().await {
            Some(number) => number,
            // All of them are ignored.
            None => std::future::pending().await,
        }
    }

    /// Resolves when a signal asks to end.
    pub(crate) async fn end(&mut self) -> Number {
        loop {
            let number = self.next().await;
            if ENDING.contains(&number) {
                return number;
            }
        }
    }
}

/// The signals that this process was started to ignore, as the kernel's mask; none where `/proc` does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
