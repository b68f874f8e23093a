//! Definitions as rows: kept once however many revisions and runs have them, and not read anew for each run.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arcgate_api::pipeline::v1::Spec;
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;

use crate::db::DbError;
use crate::spec::{self, Format};

/// How many are kept in memory.
const KEPT: usize = 256;

/// The definitions that were used lately.
#[derive(Debug, Default)]
pub(crate) struct Specs(HashMap<String, Arc<Spec>>);

impl Specs {
    /// The definition with an id.
    pub(crate) async fn get(&mut self, connection: &mut AnyConnection, id: &str) -> Result<Arc<Spec>, DbError> {
        if let Some(spec) = self.0.get(id) {
            return Ok(spec.clone());
        }
        let spec = Arc::new(load(connection, id).await?);
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(id.to_owned(), spec.clone());
        Ok(spec)
    }
}

/// Reads a definition.
pub(crate) async fn load(connection: &mut AnyConnection, id: &str) -> Result<Spec, DbError> {
    let text = sqlx::query_scalar("SELECT spec FROM t_definition WHERE definition_id = $1").bind(id);
    let text: Option<String> = text.fetch_optional(connection).await?;
    let text = text.ok_or_else(|| DbError::Corrupt(format!("there is no definition {id}")))?;
    match spec::read(&text, Format::Json) {
        Ok(document) => Ok(document.spec),
        Err(problems) => Err(DbError::Corrupt(format!("definition {id}: {problems:?}"))),
    }
}

/// Writes a definition, if it is not there, and says its id. `text` is [`spec::write`]'s JSON.
pub(crate) async fn keep(connection: &mut AnyConnection, text: &str) -> Result<String, DbError> {
    let id = hex(&Sha256::digest(text.as_bytes()));
    let insert = "INSERT INTO t_definition (definition_id, spec) VALUES ($1, $2) ON CONFLICT (definition_id) DO NOTHING";
    sqlx::query(insert).bind(&*id).bind(text).execute(connection).await?;
    Ok(id)
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
