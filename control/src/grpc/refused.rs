//! Why a call failed, as a gRPC status.

use tonic::Status;

use crate::db::DbError;
use crate::engine::{EngineError, Refusal};

/// The status of what the engine refused or could not do.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn status(why: EngineError) -> Status {
    let message = why.to_string();
    match why {
        EngineError::Refused(Refusal::Unknown(_)) => Status::not_found(message),
        EngineError::Refused(Refusal::Invalid(_)) => Status::invalid_argument(message),
        EngineError::Refused(Refusal::Conflict(_)) => Status::failed_precondition(message),
        EngineError::Refused(Refusal::Stale { .. }) => Status::aborted(message),
        EngineError::Refused(Refusal::Unauthenticated(_)) => Status::unauthenticated(message),
        EngineError::Refused(Refusal::Forbidden(_)) => Status::permission_denied(message),
        EngineError::Unavailable(_) | EngineError::Ended => Status::unavailable(message),
        EngineError::Broken(_) => Status::internal(message),
    }
}

/// The status of a call that has nothing to do with what was asked.
pub(super) fn of_database(error: &DbError) -> Status {
    if error.helps_to_retry() { Status::unavailable(format!("{error}; try again")) } else { Status::internal(error.to_string()) }
}
