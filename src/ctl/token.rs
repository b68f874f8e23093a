//! `arcgate token create`: the token alone goes to stdout.

use std::io::{self, Write};
use std::time::Duration;

use arcgate_control::Millis;
use arcgate_control::agents::{NewApiToken, NewRegistrationToken, Role};
use arcgate_gateway::clock::Clock;

use super::args::{TokenArgs, TokenRole};
use super::error::CtlError;
use super::{Done, block_on, database};
use crate::settings::Settings;

/// Who makes tokens here, as the database has it.
const MAKER: &str = "arcgate token create";

pub(super) fn create(settings: &Settings, wanted: &TokenArgs) -> Done {
    let (role, word) = match wanted.role {
        TokenRole::Agent => (None, "agent"),
        TokenRole::Viewer => (Some(Role::Viewer), Role::Viewer.word()),
        TokenRole::Operator => (Some(Role::Operator), Role::Operator.word()),
        TokenRole::Admin => (Some(Role::Admin), Role::Admin.word()),
    };
    if role.is_some() && wanted.max_uses.is_some() {
        return Err(CtlError::Usage("--max-uses counts agents that register: give it with --role agent, or leave it out"));
    }
    let name = wanted.name.clone().unwrap_or_else(|| word.to_owned());
    let (now, created_by) = (Clock::system().now(), MAKER.to_owned());
    let expires_at = wanted.expires.map(|time| now.saturating_add(millis(time)));
    let token = block_on(async {
        let database = database::any(settings).await?;
        let token = match role {
            Some(role) => database.new_api_token(NewApiToken { name, role, created_by, expires_at }, now).await?,
            None => {
                let max_uses = wanted.max_uses.unwrap_or(0);
                let wanted = NewRegistrationToken { description: name, created_by, expires_at, max_uses };
                database.new_registration_token(wanted, now).await?
            }
        };
        database.close().await;
        Ok(token)
    })?;
    Ok(writeln!(io::stdout(), "{token}")?)
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}
