//! Who calls, and what they may do.
//!
//! [`Tokens`] says who presents a bearer token; [`Access`] says what that identity may do. Every write and every subscription
//! asks both. Until the control plane answers, [`AllowAll`] does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::id::StepRunId;

#[cfg(test)]
mod tests;

/// Who calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(Option<Arc<str>>);

impl Identity {
    /// A caller that had to show nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(None)
    }

    /// A caller that is known by `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Some(name.into()))
    }

    /// The caller's name, if it has shown who it is.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("anonymous"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Send lines of a step run.
    WriteLogs,
    /// Send events.
    WriteEvents,
    /// Read and follow the lines of a step run.
    ReadLogs,
    /// Read and follow the status of a step run.
    ReadStatus,
}

/// Decides what an identity may do. Asked off the runtime's threads or cheap enough not to matter.
pub trait Access: Send + Sync + 'static {
    /// Whether `identity` may do `verb`, on `step_run` if one is named.
    fn may(&self, identity: &Identity, verb: Verb, step_run: Option<&StepRunId>) -> bool;
}

/// Everyone may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn may(&self, _: &Identity, _: Verb, _: Option<&StepRunId>) -> bool {
        true
    }
}

/// Why a caller is not known. None of these goes away by trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent.
    #[error("a token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    /// The header is not of the form `Bearer <token>`.
    #[error("the Authorization header is not of the form `Bearer <token>`")]
    Malformed,
    /// The token is not one of those in the token file.
    #[error("the token is not known; ask the operator for one that is in the gateway's token file")]
    Unknown,
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It could not be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is neither `token` nor `name token`.
    #[error("line {line} of the token file {} has {words} words; write `token` or `name token`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// How many words it has.
        words: usize,
    },
    /// It holds no token, so nobody could call.
    #[error("the token file {} holds no token; write one a line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The bearer tokens that are accepted. Only their SHA-256 is kept, and a presented token is compared with all of them, so that
/// the time it takes tells nothing about any.
pub struct Tokens(Vec<([u8; 32], Identity)>);

impl Tokens {
    /// Reads a token file: a `token` or a `name token` a line; empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// An unreadable file, a line of another form, no token at all.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
        let mut tokens = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let (identity, token) = match words[..] {
                [token] => (Identity::named("token"), token),
                [name, token] => (Identity::named(name), token),
                _ => return Err(TokenFileError::Line { path: path.to_owned(), line: at + 1, words: words.len() }),
            };
            tokens.push((digest(token), identity));
        }
        if tokens.is_empty() {
            return Err(TokenFileError::Empty { path: path.to_owned() });
        }
        Ok(Self(tokens))
    }

    /// Says who sent this `Authorization` header.
    ///
    /// # Errors
    /// No header, one of another form, or an unknown token.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Identity, AuthError> {
        self.identify(bearer(authorization.ok_or(AuthError::Missing)?)?)
    }

    /// Says whose token this is.
    ///
    /// # Errors
    /// It is empty or unknown.
    pub fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let presented = digest(token);
        let mut found = None;
        for (known, identity) in &self.0 {
            let difference = known.iter().zip(&presented).fold(0, |all, (a, b)| all | (a ^ b));
            if difference == 0 {
                found = Some(identity);
            }
        }
        found.cloned().ok_or(AuthError::Unknown)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter.
fn bearer(header: &str) -> Result<&str, AuthError> {
    let (scheme, token) = header.trim().split_once(' ').ok_or(AuthError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Malformed) }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
