//! A folder for WAL as plain files while it is read: beside the repository's or the server's own data and not in the system's
//! temporary folder, which may be memory. What a run left that was killed is removed by the next one.

use std::{fs::File, io::ErrorKind, os::unix::fs::MetadataExt};

use camino::Utf8Path;

use crate::{config::Tools, recovery::RecoveryError, units::IfThere};

/// How the folders begin that belong to this module.
const PREFIX: &str = ".wal-window-";

/// A private folder, removed with what is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    /// Locked as long as the process lives: by that the next one tells a folder in use from one that was left.
    _held: File,
}

impl Scratch {
    /// Makes a folder that PostgreSQL's programs can read, wherever they run. Who may only look and not write there, as for a plan, gets one
    /// in the place for temporary files.
    pub(crate) fn make(tools: &Tools) -> Result<Scratch, RecoveryError> {
        let place = tools.roomy();
        match Self::make_in(&place, tools) {
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                let place = tools.scratch();
                Self::make_in(&place, tools).map_err(|e| RecoveryError::io("make folder in", &place, e))
            }
            made => made.map_err(|e| RecoveryError::io("make folder in", &place, e)),
        }
    }

    fn make_in(place: &Utf8Path, tools: &Tools) -> std::io::Result<Scratch> {
        sweep(place)?;
        loop {
            let folder = tools.temporary(PREFIX, Some(place))?;
            // Another process that sweeps may have taken it for one that was left before it was locked.
            let Some(held) = File::open(folder.path()).if_there()? else { continue };
            if let Err(error) = held.lock() {
                tracing::debug!(%error, %place, "folders cannot be locked here: one that is left stays");
            }
            let (there, locked) = (std::fs::metadata(folder.path()).if_there()?, held.metadata()?);
            if there.is_some_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Scratch { folder, _held: held });
            }
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap_or(Utf8Path::new("/"))
    }
}

/// Removes the folders that nobody holds.
fn sweep(place: &Utf8Path) -> std::io::Result<()> {
    for entry in place.read_dir_utf8()? {
        let entry = entry?;
        if !entry.file_name().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let removed = match File::open(path).if_there() {
            Ok(Some(held)) if held.try_lock().is_ok() => std::fs::remove_dir_all(path).if_there().map(drop),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        // One that stays costs room and nothing else.
        if let Err(error) = removed {
            tracing::warn!(%path, %error, "WAL that a killed run left cannot be removed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_is_in_use_stays() {
        let home = tempfile::tempdir().unwrap();
        let tools = Tools::noting(Utf8Path::from_path(home.path()).unwrap());
        let used = Scratch::make(&tools).unwrap();
        std::fs::write(used.path().join("segment"), "x").unwrap();
        let left = used.path().with_file_name(format!("{PREFIX}left"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("segment"), "x").unwrap();
        let other = used.path().with_file_name(".wal-of-a-restore");
        std::fs::create_dir(&other).unwrap();
        let second = Scratch::make(&tools).unwrap();
        assert!(!left.exists());
        assert!(used.path().join("segment").exists() && second.path().exists() && other.exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
