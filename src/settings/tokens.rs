//! The file of bearer tokens.

use std::path::{Path, PathBuf};

/// Why a file gives no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no token in it.
    #[error("the token file {} holds no token; write one a line", .0.display())]
    Empty(PathBuf),
    /// A token that no client could send.
    #[error("line {line} of the token file {} holds a space or a character that no header can carry", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Reads the tokens: one a line; empty lines and those that begin with `#` do not count.
///
/// # Errors
/// The file cannot be read, holds no token, or one that cannot be sent in a header. No error shows a token.
pub fn read_tokens(path: &Path) -> Result<Vec<String>, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.into(), source })?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim();
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unfit { path: path.into(), line: index + 1 });
        }
        tokens.push(token.to_owned());
    }
    if tokens.is_empty() { Err(TokenError::Empty(path.into())) } else { Ok(tokens) }
}
