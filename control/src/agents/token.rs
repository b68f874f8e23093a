//! Tokens: of what they are made, and what is kept of them. A token is 160 bits of chance or more, so that its SHA-256 is enough to keep:
//! nobody can find it by trying.

use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::write::NewToken;
use super::{Agents, Caller, Role, Write};
use crate::Millis;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::engine::EngineError;
use crate::engine::specs::hex;

/// A registration token to be.
#[derive(Debug, Clone, Default)]
pub struct NewRegistrationToken {
    /// What it is for, for people.
    pub description: String,
    /// Who wants it.
    pub created_by: String,
    /// Until when it can be used; absent: for ever.
    pub expires_at: Option<Millis>,
    /// How many agents it lets in; 0: any number.
    pub max_uses: u32,
}

/// What is kept of a token.
pub(super) fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn registration() -> String {
    format!("art_{}", hex(&rand::random::<[u8; 20]>()))
}

/// A new agent's id: 12 letters and digits.
pub(super) fn agent_id() -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut chance = rand::random::<u128>();
    let mut id = String::new();
    for _ in 0..12 {
        id.push(char::from(DIGITS[usize::try_from(chance % 62).unwrap_or(0)]));
        chance /= 62;
    }
    id
}

/// A new token of an agent.
pub(super) fn of_agent(agent_id: &str) -> String {
    format!("{agent_id}:{}", hex(&rand::random::<[u8; 32]>()))
}

impl Agents {
    /// Makes a registration token. It is told this once and kept nowhere.
    ///
    /// # Errors
    /// If the control plane cannot do anything now.
    pub async fn new_registration_token(&self, wanted: NewRegistrationToken) -> Result<String, EngineError> {
        let token = registration();
        let NewRegistrationToken { description, created_by, expires_at, max_uses } = wanted;
        let (hash, max_uses) = (hash(&token), i64::from(max_uses));
        self.done(Write::NewToken(Box::new(NewToken { hash, description, created_by, expires_at, max_uses }))).await?;
        Ok(token)
    }

    /// Ends a registration token. Whether there was one to end.
    ///
    /// # Errors
    /// If the control plane cannot do anything now.
    pub async fn revoke_registration_token(&self, token: &str) -> Result<bool, EngineError> {
        self.done(Write::RevokeToken { hash: hash(token) }).await
    }

    /// Makes a token for people or scripts. It is told this once and kept nowhere.
    ///
    /// # Errors
    /// If the control plane cannot do anything now.
    pub async fn new_api_token(&self, name: &str, role: Role, expires_at: Option<Millis>) -> Result<String, EngineError> {
        let token = format!("arc_{}", hex(&rand::random::<[u8; 20]>()));
        self.done(Write::NewApiToken { hash: hash(&token), name: name.to_owned(), role, expires_at }).await?;
        Ok(token)
    }

    /// Whose bearer token this is: an agent's own or one for people and scripts; absent: nobody's.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn whose(&self, token: &str, now: Millis) -> Result<Option<Caller>, DbError> {
        let mut read = self.engine().database().read().await?;
        if let Some((agent_id, _)) = token.split_once(':') {
            let found = sqlx::query("SELECT agent_id FROM t_agent WHERE token_hash = $1").bind(hash(token));
            let found: Option<String> = found.fetch_optional(&mut *read).await?.map(|row| row.try_get(0)).transpose()?;
            return Ok(found.filter(|found| found == agent_id).map(Caller::Agent));
        }
        let found = "SELECT name, role FROM t_api_token WHERE token_hash = $1 AND is_active = 1 \
                     AND (expires_at IS NULL OR expires_at > $2)";
        let Some(row) = sqlx::query(found).bind(hash(token)).bind(now).fetch_optional(&mut *read).await? else { return Ok(None) };
        let word = row.text("role")?;
        let role = Role::of_word(&word);
        let role = role.ok_or_else(|| DbError::Corrupt(format!("t_api_token has a role that nobody knows: {word}")))?;
        Ok(Some(Caller::User { name: row.text("name")?, role }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_of_the_contract_and_never_come_twice() {
        let tokens: std::collections::HashSet<String> = (0..100).map(|_| registration()).collect();
        assert_eq!(tokens.len(), 100);
        let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        assert!(tokens.iter().all(|token| token.len() == 44 && hexadecimal(&token[4..])), "{tokens:?}");
        let id = agent_id();
        assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert!(of_agent(&id).starts_with(&format!("{id}:")) && hash("a") != hash("b"));
    }
}
