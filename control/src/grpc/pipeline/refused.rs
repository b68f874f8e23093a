//! Why a call was refused, as the contract says it.

use arcgate_api::pipeline::v1 as pb;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Status;

use crate::db::DbError;
use crate::engine::{EngineError, Refusal};
use crate::git::GitError;
use crate::pipelines::NotSynced;
use crate::spec::Problem;

/// Why a call has no answer of its own.
#[derive(Debug)]
pub(super) enum Refused {
    /// The caller is told in the answer.
    Business(pb::Error),
    /// Nothing can be answered now.
    Transport(Status),
}

fn error(code: i32, kind: &str, message: impl Into<String>, details: Option<Struct>) -> Refused {
    Refused::Business(pb::Error { code, message: message.into(), r#type: kind.into(), details })
}

pub(super) fn invalid(message: impl Into<String>) -> Refused {
    error(400, "validation", message, None)
}

pub(super) fn not_found(message: impl Into<String>) -> Refused {
    error(404, "not_found", message, None)
}

pub(super) fn other_answer() -> Refused {
    error(500, "internal", "the engine answered something else", None)
}

/// A definition's problems; each with its path in `details.problems`.
pub(super) fn invalid_spec(problems: &[Problem]) -> Refused {
    let one = |problem: &Problem| {
        let fields = [("path", problem.path.to_string()), ("message", problem.message.clone())];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
        Value { kind: Some(Kind::StructValue(Struct { fields })) }
    };
    let values = problems.iter().map(one).collect();
    let list = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) };
    let details = Struct { fields: [("problems".to_owned(), list)].into() };
    let all: Vec<&str> = problems.iter().map(|problem| &*problem.message).collect();
    error(400, "validation", format!("spec validation failed: {}", all.join("; ")), Some(details))
}

fn text(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

/// The error of a call that has nothing to do with what was asked.
pub(super) fn status(error: &DbError) -> Status {
    if error.helps_to_retry() { Status::unavailable(format!("{error}; try again")) } else { Status::internal(error.to_string()) }
}

impl From<GitError> for Refused {
    fn from(why: GitError) -> Self {
        let message = why.to_string();
        match why {
            GitError::Setting(_) => invalid(message),
            GitError::Stale(current) => Self::from(EngineError::Refused(Refusal::Stale { current })),
            GitError::NoFile { .. } | GitError::Failed(_) | GitError::Slow(_) => error(500, "repository", message, None),
        }
    }
}

impl From<NotSynced> for Refused {
    fn from(why: NotSynced) -> Self {
        let message = why.to_string();
        match why {
            NotSynced::Git(_) => error(500, "repository", message, None),
            NotSynced::Parse(_) => invalid(message),
            NotSynced::Engine(why) => why.into(),
        }
    }
}

impl From<DbError> for Refused {
    fn from(error: DbError) -> Self {
        Self::Transport(status(&error))
    }
}

impl From<EngineError> for Refused {
    fn from(why: EngineError) -> Self {
        let message = why.to_string();
        match why {
            EngineError::Refused(Refusal::Unknown(_)) => not_found(message),
            EngineError::Refused(Refusal::Invalid(_)) => invalid(message),
            EngineError::Refused(Refusal::Conflict(_)) => error(409, "conflict", message, None),
            EngineError::Refused(Refusal::Stale { current }) => {
                let details = Struct { fields: [("currentHeadCommitSha".to_owned(), text(current))].into() };
                error(409, "conflict", message, Some(details))
            }
            EngineError::Refused(Refusal::Unauthenticated(_)) => Self::Transport(Status::unauthenticated(message)),
            EngineError::Refused(Refusal::Forbidden(_)) => Self::Transport(Status::permission_denied(message)),
            EngineError::Unavailable(_) | EngineError::Ended => Self::Transport(Status::unavailable(message)),
            EngineError::Broken(_) => error(500, "internal", message, None),
        }
    }
}
