//! The control plane's database, opened beside a gateway or without one.

use std::path::Path;

use arcgate_control::db::{Database, Location};

use super::Done;
use super::error::{CtlError, note};
use crate::settings::Settings;

/// Where it is.
fn location(settings: &Settings) -> Done<Location> {
    settings.control.location(&settings.store.path).map_err(CtlError::Setting)
}

/// Opens it, if there is one.
pub(super) async fn existing(settings: &Settings) -> Done<Database> {
    let location = location(settings)?;
    if let Location::File(path) = &location
        && !path.exists()
    {
        return Err(CtlError::NoDatabase(path.clone()));
    }
    Ok(Database::open(&location).await?)
}

/// Opens it, or makes it: whoever brings up a gateway may want a token first.
pub(super) async fn any(settings: &Settings) -> Done<Database> {
    let location = location(settings)?;
    if let Location::File(path) = &location
        && !path.exists()
    {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|source| CtlError::Folder { path: folder.to_owned(), source })?;
        note(&format!("made the database {}, which was not there", path.display()));
    }
    Ok(Database::open(&location).await?)
}
