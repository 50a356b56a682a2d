//! What recoveries that ended have set aside, and nobody needs any more once the result is trusted.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{
    RecoveryError, coordinated,
    locks::Locks,
    memory::{Memory, Place},
    schema,
    way_back::way_on,
};
use crate::backup::{ClusterName, size_of};
use cdc_model::units::IfThere;
use cdc_pipeline::{
    attach,
    config::{Config, Permission},
};

/// Something that a recovery set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The recovery's id.
    pub recovery: String,
    /// `data folder`, `prepared data folder`, `WAL folder`, `prepared WAL folder` or `registry store`.
    pub what: &'static str,
    /// Where it is.
    pub path: Utf8PathBuf,
    /// What it takes.
    pub bytes: u64,
}

/// What the recoveries of this cluster have set aside that ended. Refused while one is unfinished: it may need them.
pub fn leftovers(config: &Config) -> Result<Vec<Leftover>, RecoveryError> {
    let place = Place::of(config)?;
    let cluster = ClusterName::of(config);
    if let Some(memory) = place.unfinished(&cluster)? {
        return Err(RecoveryError::Refused {
            what: format!("recovery {} did not end: what it has set aside may be needed", memory.id()),
            hint: way_on(&memory).into(),
        });
    }
    let mut found = Vec::new();
    for folder in place.all()? {
        let memory = Memory::open(&folder)?;
        if !memory.cluster().is_that_of(&cluster) {
            continue;
        }
        for (what, path) in set_aside(&memory)? {
            let is_named = found.iter().any(|there: &Leftover| there.path == path);
            if let Some(bytes) = size(&path)?.filter(|_| !is_named) {
                found.push(Leftover { recovery: memory.id().to_owned(), what, path, bytes });
            }
        }
    }
    Ok(found)
}

/// Removes what was named, and shows each to `removed` when it is gone.
pub async fn remove_leftovers(
    config: &Config,
    named: &[Leftover],
    mut removed: impl FnMut(&Leftover),
) -> Result<(), RecoveryError> {
    attach::permit(config, Permission::Recover).await?;
    let _locks = Locks::take(&Place::of(config)?, &config.postgres.pgdata, "recover finish", None)?;
    for leftover in named {
        let path = &leftover.path;
        let is_folder = std::fs::symlink_metadata(path).map(|meta| meta.is_dir());
        let outcome = is_folder.and_then(|is_folder| match is_folder {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        });
        outcome.map_err(|e| RecoveryError::io("remove", path, e))?;
        removed(leftover);
    }
    Ok(())
}

/// What the record of a recovery says it has set aside, or made and not put in place.
pub(super) fn set_aside(memory: &Memory) -> Result<Vec<(&'static str, Utf8PathBuf)>, RecoveryError> {
    let data = coordinated::set_aside(memory)?.map(|path| ("data folder", path));
    let registry = schema::store_aside(memory)?.map(|path| ("registry store", path));
    Ok(data.into_iter().chain(coordinated::prepared(memory)?).chain(registry).collect())
}

/// Of these what is still there: what was prepared may be in its place by now, or not be made yet.
pub(super) fn set_aside_there(memory: &Memory) -> Result<Vec<Utf8PathBuf>, RecoveryError> {
    let mut there = Vec::new();
    for (_, path) in set_aside(memory)? {
        if look_at(&path)?.is_some() {
            there.push(path);
        }
    }
    Ok(there)
}

/// What the file system says of a path; none where there is nothing.
fn look_at(path: &Utf8Path) -> Result<Option<std::fs::Metadata>, RecoveryError> {
    std::fs::symlink_metadata(path).if_there().map_err(|e| RecoveryError::io("look at", path, e))
}

/// Bytes of a file or of everything in a folder; none where there is nothing.
fn size(path: &Utf8Path) -> Result<Option<u64>, RecoveryError> {
    let Some(meta) = look_at(path)? else { return Ok(None) };
    Ok(Some(if meta.is_dir() { size_of(path)? } else { meta.len() }))
}
