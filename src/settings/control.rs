//! What the control plane's settings mean.

use std::path::Path;

use arcgate_control::agents::AgentSettings;
use arcgate_control::db::Location;

use super::schema::{Control, Settings};

/// The database's file in the store's folder.
const FILE: &str = "control.db";

/// What does not fit together, and the key to say it of.
pub(super) fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
    let control = &settings.control;
    let mut problems = Vec::new();
    if !control.database.is_empty()
        && !control.database.starts_with("postgres://")
        && !control.database.starts_with("postgresql://")
    {
        let why = "is no address of a PostgreSQL database; write postgres://user@host:port/name, or leave it out for a file in the store's folder";
        problems.push(("control.database", format!("control.database = \"{}\" {why}", control.database)));
    }
    if control.database.is_empty() && control.password_file.is_some() {
        problems
            .push(("control.password_file", "control.password_file is set, but control.database is not; set it too".to_owned()));
    }
    if let Err(what) = control.location(&settings.store.path) {
        problems.push(("control.password_file", what));
    }
    if control.offline_after <= control.heartbeat {
        let why = "control.offline_after is not more than control.heartbeat: agents that do as they are told would be lost";
        problems.push(("control.offline_after", why.to_owned()));
    }
    problems
}

impl Control {
    /// Where the database is.
    ///
    /// # Errors
    /// Its password cannot be read.
    pub fn location(&self, store: &Path) -> Result<Location, String> {
        if self.database.is_empty() {
            return Ok(Location::File(store.join(FILE)));
        }
        let Some(path) = &self.password_file else { return Ok(Location::Server(self.database.clone())) };
        let password = std::fs::read_to_string(path)
            .map_err(|error| format!("control.password_file = \"{}\" cannot be read: {error}", path.display()))?;
        Ok(Location::Server(with_password(&self.database, password.trim_end_matches(['\r', '\n']))))
    }

    /// How agents are treated.
    #[must_use]
    pub fn agents(&self) -> AgentSettings {
        AgentSettings {
            heartbeat_interval: i64::try_from(self.heartbeat.as_secs()).unwrap_or(i64::MAX),
            patience: i64::try_from(self.offline_after.as_millis()).unwrap_or(i64::MAX),
            auto_approve: self.approve_agents,
        }
    }
}

/// The address with a password behind the user's name.
fn with_password(address: &str, password: &str) -> String {
    let escape = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let password: String = password.bytes().map(escape).collect();
    match address.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) => format!("{scheme}://{user}:{password}@{rest}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_into_the_address_whatever_it_is() {
        assert_eq!(with_password("postgres://me@host:5/name", "a/b@\u{e4}"), "postgres://me:a%2Fb%40%C3%A4@host:5/name");
        assert_eq!(with_password("postgres://host/name", "x"), "postgres://host/name");
    }
}
