//! Tokens: of what they are made, and what is kept of them. A token is 160 bits of chance or more, so that its SHA-256 is enough to keep:
//! nobody can find it by trying.

use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::{Agents, Caller, Role, Write};
use crate::Millis;
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};
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

/// A token for people or scripts, to be.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// Whose it is, for events and texts; not empty.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Who wants it.
    pub created_by: String,
    /// Until when it can be used; absent: for ever.
    pub expires_at: Option<Millis>,
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

/// Whoever can open the database may make tokens, whether or not the control plane runs on it.
impl Database {
    /// Makes a registration token. It is told this once and kept nowhere.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn new_registration_token(&self, wanted: NewRegistrationToken, now: Millis) -> Result<String, DbError> {
        let text = "INSERT INTO t_registration_token (token_hash, description, created_by, expires_at, max_uses, use_count, is_active, \
                    created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 0, 1, $6, $6)";
        let token = registration();
        let NewRegistrationToken { description, created_by, expires_at, max_uses } = wanted;
        let insert = sqlx::query(text).bind(hash(&token)).bind(description).bind(created_by).bind(expires_at);
        let mut guest = self.guest().await?;
        let mut transaction = guest.begin().await?;
        insert.bind(i64::from(max_uses)).bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(token)
    }

    /// Makes a token for people or scripts. It is told this once and kept nowhere.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn new_api_token(&self, wanted: NewApiToken, now: Millis) -> Result<String, DbError> {
        let text = "INSERT INTO t_api_token (token_hash, name, role, created_by, expires_at, is_active, created_at, updated_at) \
                    VALUES ($1, $2, $3, $4, $5, 1, $6, $6)";
        let token = format!("arc_{}", hex(&rand::random::<[u8; 20]>()));
        let NewApiToken { name, role, created_by, expires_at } = wanted;
        let insert = sqlx::query(text).bind(hash(&token)).bind(name).bind(role.word()).bind(created_by).bind(expires_at);
        let mut guest = self.guest().await?;
        let mut transaction = guest.begin().await?;
        insert.bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(token)
    }
}

impl Agents {
    /// Ends a registration token. Whether there was one to end.
    ///
    /// # Errors
    /// If the control plane cannot do anything now.
    pub async fn revoke_registration_token(&self, token: &str) -> Result<bool, EngineError> {
        self.done(Write::RevokeToken { hash: hash(token) }).await
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
