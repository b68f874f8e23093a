//! Who calls, and what they may do.
//!
//! [`Callers`] says who presents a bearer token; [`Access`] says what that identity may do. Every write and every subscription
//! asks both. Where there is no control plane, [`Tokens`] of a file or [`Everyone`] answer.

use std::fmt;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use sha2::{Digest, Sha256};

use crate::id::{AgentId, StepRunId};

#[cfg(test)]
mod tests;

/// Who calls.
#[derive(Clone, PartialEq, Eq)]
pub enum Identity {
    /// A caller that had to show nothing.
    Anonymous,
    /// A caller that had to show a token, and is one of those that are let in without: see `auth.stock_agents`.
    StockAgent,
    /// An agent that has shown its own token: it writes as itself, and only what it was handed.
    Agent(AgentId),
    /// A person or a script.
    User {
        /// For messages.
        name: Arc<str>,
        /// Whether they may send logs and events, in any agent's name.
        writes: bool,
    },
}

impl Identity {
    /// Someone known by `name` who may write.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::User { name: name.into(), writes: true }
    }

    /// The agent that this is, if it has shown so.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::Anonymous | Self::StockAgent | Self::User { .. } => None,
        }
    }

    /// Whether its events may begin something. Agents run whoever's code; and who is let in without a token says what everybody could.
    #[must_use]
    pub fn may_begin_runs(&self) -> bool {
        matches!(self, Self::Anonymous | Self::User { .. })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::StockAgent => f.write_str("an agent without token"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::User { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Knows who calls.
pub trait Callers: Send + Sync + 'static {
    /// Whose token this is; without one, who may come without.
    ///
    /// # Errors
    /// Nobody's, or nobody may come without.
    fn identify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>>;
}

/// Lets everyone in, whatever they present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everyone;

impl Callers for Everyone {
    fn identify<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(Ok(Identity::Anonymous)).boxed()
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

/// Decides what an identity may do.
pub trait Access: Send + Sync + 'static {
    /// Whether `identity` may do `verb`, on `step_run` if one is named. A yes about a step run holds for as long as a connection.
    fn may<'a>(&'a self, identity: &'a Identity, verb: Verb, step_run: Option<&'a StepRunId>) -> BoxFuture<'a, bool>;
}

/// Everyone may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn may<'a>(&'a self, _: &'a Identity, _: Verb, _: Option<&'a StepRunId>) -> BoxFuture<'a, bool> {
        ready(true).boxed()
    }
}

/// Why a caller is not known. None of these but [`AuthError::Unavailable`] goes away by trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent.
    #[error("a token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    /// The header is not of the form `Bearer <token>`.
    #[error("the Authorization header is not of the form `Bearer <token>`")]
    Malformed,
    /// The token is nobody's.
    #[error("the token is not known, or has expired; ask the operator for one of this gateway")]
    Unknown,
    /// Tokens cannot be looked up.
    #[error("the token cannot be checked now; try again")]
    Unavailable,
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
pub struct Tokens(Vec<([u8; 32], Arc<str>)>);

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
            let (name, token) = match words[..] {
                [token] => ("token", token),
                [name, token] => (name, token),
                _ => return Err(TokenFileError::Line { path: path.to_owned(), line: at + 1, words: words.len() }),
            };
            tokens.push((digest(token), name.into()));
        }
        if tokens.is_empty() {
            return Err(TokenFileError::Empty { path: path.to_owned() });
        }
        Ok(Self(tokens))
    }

    /// The name that the file gives to this token.
    #[must_use]
    pub fn name_of(&self, token: &str) -> Option<Arc<str>> {
        let presented = digest(token);
        let mut found = None;
        for (known, name) in &self.0 {
            let difference = known.iter().zip(&presented).fold(0, |all, (a, b)| all | (a ^ b));
            if difference == 0 {
                found = Some(name);
            }
        }
        found.cloned()
    }
}

impl Callers for Tokens {
    fn identify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let found = match token {
            None => Err(AuthError::Missing),
            Some(token) => self.name_of(token).map(|name| Identity::User { name, writes: true }).ok_or(AuthError::Unknown),
        };
        ready(found).boxed()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter.
///
/// # Errors
/// It is not of the form `Bearer <token>`.
pub fn bearer(header: &str) -> Result<&str, AuthError> {
    let (scheme, token) = header.trim().split_once(' ').ok_or(AuthError::Malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(AuthError::Malformed) }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
