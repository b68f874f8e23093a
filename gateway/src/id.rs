//! Identifiers as clients write them, checked once at the border and cheap to pass on.

use std::fmt;
use std::sync::Arc;

/// The longest identifier that is accepted, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// An identifier: 1 to [`MAX_ID_BYTES`] bytes of UTF-8 without control characters. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

/// A step run's identifier, which also names its log stream.
pub type StepRunId = Id;
/// An agent's identifier.
pub type AgentId = Id;

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("is empty; give 1 to {MAX_ID_BYTES} bytes")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("has {0} bytes; at most {MAX_ID_BYTES} are allowed")]
    TooLong(usize),
    /// The text holds a control character.
    #[error("holds a control character at byte {0}; remove it")]
    Control(usize),
}

/// The name under which the control plane's events are stored. No agent may have it.
pub const CONTROL_PLANE: &str = "arcgate";

impl Id {
    /// The control plane as the sender of its events.
    pub(crate) fn control_plane() -> Self {
        Self(CONTROL_PLANE.into())
    }

    /// Checks `text` and makes an identifier of it.
    ///
    /// # Errors
    /// An empty or overlong text, or one with control characters; the error's text follows the name of the field.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong(text.len()));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(IdError::Control(at));
        }
        Ok(Self(text.into()))
    }

    /// The identifier's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded_and_printable() {
        assert_eq!(Id::parse("step-1").map(|id| id.to_string()), Ok("step-1".into()));
        assert_eq!(Id::parse(""), Err(IdError::Empty));
        assert_eq!(Id::parse(&"x".repeat(257)), Err(IdError::TooLong(257)));
        assert_eq!(Id::parse("a\nb"), Err(IdError::Control(1)));
        assert!(Id::parse(&"ü".repeat(128)).is_ok());
    }
}
