#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn tokens(text: &str) -> Result<Tokens, TokenFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, text).unwrap();
    Tokens::read(&path)
}

#[test]
fn a_token_names_its_bearer() {
    let tokens = tokens("# the team\n\nalice s3cret\nplain\n  bob\tother  \n").unwrap();
    let who = |header: Option<&str>| {
        let token = header.map(bearer).transpose()?;
        tokens.identify(token).now_or_never().unwrap().map(|who| who.to_string())
    };
    assert_eq!(who(Some("Bearer s3cret")), Ok("alice".into()));
    assert_eq!(who(Some("bearer s3cret")), Ok("alice".into()));
    assert_eq!(who(Some("BEARER  other")), Ok("bob".into()));
    assert_eq!(who(Some("Bearer plain")), Ok("token".into()));
    assert_eq!(who(Some("Bearer s3cre")), Err(AuthError::Unknown));
    assert_eq!(who(Some("Bearer s3crett")), Err(AuthError::Unknown));
    assert_eq!(who(Some("Bearer alice")), Err(AuthError::Unknown));
    assert_eq!(who(Some("Basic s3cret")), Err(AuthError::Malformed));
    assert_eq!(who(Some("s3cret")), Err(AuthError::Malformed));
    assert_eq!(who(Some("Bearer")), Err(AuthError::Malformed));
    assert_eq!(who(None), Err(AuthError::Missing));
    assert_eq!(who(Some("Bearer  ")), Err(AuthError::Malformed));
    assert_eq!(format!("{tokens:?}"), "3 tokens");
}

#[test]
fn a_token_file_is_checked() {
    assert!(matches!(tokens("a b c\n"), Err(TokenFileError::Line { line: 1, words: 3, .. })));
    assert!(matches!(tokens("# nothing\n"), Err(TokenFileError::Empty { .. })));
    assert!(matches!(Tokens::read(Path::new("/nowhere/tokens")), Err(TokenFileError::Read { .. })));
}
