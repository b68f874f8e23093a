//! Values out of rows, and into them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::DbError;

/// What a row holds, by column.
pub trait Columns {
    /// A number, or a time.
    ///
    /// # Errors
    /// If there is no such column, or no number in it.
    fn number(&self, column: &str) -> Result<i64, DbError>;
    /// A number that may be absent.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    fn maybe_number(&self, column: &str) -> Result<Option<i64>, DbError>;
    /// A text.
    ///
    /// # Errors
    /// If there is no such column, or no text in it.
    fn text(&self, column: &str) -> Result<String, DbError>;
    /// A text that may be absent.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    fn maybe_text(&self, column: &str) -> Result<Option<String>, DbError>;
    /// An object that was written by [`json`].
    ///
    /// # Errors
    /// If the column does not hold one.
    fn object<T: DeserializeOwned>(&self, column: &str) -> Result<T, DbError> {
        let text = self.text(column)?;
        serde_json::from_str(&text).map_err(|error| DbError::Corrupt(format!("column {column}: {error}")))
    }
    /// An index or a small count.
    ///
    /// # Errors
    /// If the column holds no number, or a negative one.
    fn index(&self, column: &str) -> Result<usize, DbError> {
        usize::try_from(self.number(column)?).map_err(|_| DbError::Corrupt(format!("column {column} is negative")))
    }
}

impl Columns for AnyRow {
    fn number(&self, column: &str) -> Result<i64, DbError> {
        Ok(self.try_get(column)?)
    }

    fn maybe_number(&self, column: &str) -> Result<Option<i64>, DbError> {
        Ok(self.try_get(column)?)
    }

    fn text(&self, column: &str) -> Result<String, DbError> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>, DbError> {
        Ok(self.try_get(column)?)
    }
}

/// An object as a column holds it.
///
/// # Errors
/// If it cannot be JSON: none of this program's objects is so.
pub fn json<T: Serialize>(object: &T) -> Result<String, DbError> {
    serde_json::to_string(object).map_err(|error| DbError::Corrupt(error.to_string()))
}
