//! The token that `push` and `tail` send, from a file of the gateway's own form: `token` or `name token` a line.

use std::path::{Path, PathBuf};

/// Why a file gives no token. None of these shows one.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no token in it.
    #[error("the token file {} holds no token; write one", .0.display())]
    Empty(PathBuf),
    /// The token is none that a client could send.
    #[error("the first token of {} holds a character that no header can carry", .0.display())]
    Unfit(PathBuf),
}

/// The `Authorization` header of the file's first token.
///
/// # Errors
/// The file cannot be read, holds no token, or one that cannot be sent.
pub fn header(path: &Path) -> Result<String, BearerError> {
    let text = std::fs::read_to_string(path).map_err(|source| BearerError::Read { path: path.into(), source })?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token = lines.next().and_then(|line| line.split_whitespace().last()).ok_or_else(|| BearerError::Empty(path.into()))?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BearerError::Unfit(path.into()));
    }
    Ok(format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_token_is_sent_and_errors_show_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#\n\n").unwrap();
        assert!(header(file.path()).unwrap_err().to_string().contains("holds no token"));
        std::fs::write(file.path(), "b\u{e4}d\n").unwrap();
        assert!(!header(file.path()).unwrap_err().to_string().contains("b\u{e4}d"));
        std::fs::write(file.path(), " #no\n ci-agent good \r\nother\n").unwrap();
        assert_eq!(header(file.path()).unwrap(), "Bearer good");
    }
}
