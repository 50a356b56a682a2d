//! The files that make a folder a repository: `FORMAT`, and `repo.json`, which names it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError,
    files::{self, Store},
    format::{Format, checked},
    storage,
};

const FORMAT_WORD: &str = "cdc-backup-repo";
pub(super) const NO_FOLDER: &str = "it is not a folder";

/// `repo.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) repo_id: String,
    pub(crate) created: String,
    pub(crate) format: u32,
}

impl Identity {
    pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
        root.join("repo.json")
    }

    pub(super) fn new(format: Format) -> Identity {
        Identity {
            repo_id: format!("{:016x}", rand::random::<u64>()),
            created: jiff::Timestamp::now().to_string(),
            format: format.number(),
        }
    }

    /// Reads it; in format 1 it has no checksum.
    pub(crate) fn read(root: &Utf8Path, format: Format) -> Result<Identity, BackupError> {
        let path = Identity::path(root);
        let bytes = files::read(&path)?;
        match format {
            Format::One => serde_json::from_slice(&bytes).map_err(|e| BackupError::malformed(&path, e)),
            Format::Two => checked::from_bytes(&path, &bytes),
        }
    }

    pub(super) fn write(&self, store: &Store, format: Format) -> Result<(), BackupError> {
        let path = Identity::path(store.root());
        let bytes = match format {
            Format::One => files::canonical_json(&path, self)?,
            Format::Two => checked::to_bytes(&path, self)?,
        };
        store.write(&path, &bytes)
    }
}

pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
    root.join("FORMAT")
}

/// What `FORMAT` says.
pub(crate) fn read(root: &Utf8Path) -> Result<Format, BackupError> {
    let path = path(root);
    let refuse = |found: String| BackupError::NotARepository { path: root.to_owned(), found };
    let text = match files::read_if_there(&path) {
        Ok(Some(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(None) => {
            let found = match storage::entries(root)? {
                Some(_) => "it has no file FORMAT",
                None if storage::is_in_a_bucket(root) => "nothing is there",
                None => "there is no such folder",
            };
            return Err(refuse(found.to_owned()));
        }
        Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse(NO_FOLDER.into()));
        }
        Err(error) => return Err(error),
    };
    let number = text.trim().strip_prefix(FORMAT_WORD).and_then(|n| n.trim().parse::<u32>().ok());
    let known = Format::NEWEST.number();
    match number.map(|number| (number, Format::of_number(number))) {
        Some((_, Some(format))) => Ok(format),
        Some((found, None)) if found > known => Err(BackupError::FormatTooNew { path, found, known }),
        _ => Err(refuse(format!("its FORMAT says `{}`", text.trim().chars().take(40).collect::<String>()))),
    }
}

/// Makes a folder a repository of this format, or one of another format.
pub(super) fn write(store: &Store, format: Format) -> Result<(), BackupError> {
    store.write(&path(store.root()), format!("{FORMAT_WORD} {}\n", format.number()).as_bytes())
}
