//! Why the engine did not do what it was asked.

use crate::db::DbError;
use crate::plan::Impossible;

/// What cannot be done, whoever asks and however often, until something else changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not there.
    #[error("{0}")]
    Unknown(String),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It is not in a state for it.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else saved in between.
    #[error("the definition was saved by somebody else: its head is {current}; read it and save again")]
    Stale {
        /// The head now.
        current: String,
    },
    /// Whoever asks did not show who they are.
    #[error("{0}")]
    Unauthenticated(String),
    /// It is another's.
    #[error("{0}")]
    Forbidden(String),
}

impl From<Impossible> for Refusal {
    fn from(why: Impossible) -> Self {
        match why {
            Impossible::Unknown => Self::Unknown(why.to_string()),
            _ => Self::Conflict(why.to_string()),
        }
    }
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It cannot be done. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It failed for now. Whether it was done is open: ask again with the same request.
    #[error("{0}; try again")]
    Unavailable(String),
    /// It failed and will fail again.
    #[error("{0}")]
    Broken(String),
    /// The engine has ended.
    #[error("the control plane is shutting down; try again later")]
    Ended,
}

/// What goes wrong inside a turn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Before anything was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ends the whole transaction.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Failure {
    /// As the failure of something that follows from what was written already: it cannot be refused any more.
    pub(crate) fn after_writing(self) -> Self {
        match self {
            Self::Refused(why) => DbError::Corrupt(format!("what had to follow could not be done: {why}")).into(),
            database => database,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<&DbError> for EngineError {
    fn from(error: &DbError) -> Self {
        if error.helps_to_retry() { Self::Unavailable(error.to_string()) } else { Self::Broken(error.to_string()) }
    }
}
