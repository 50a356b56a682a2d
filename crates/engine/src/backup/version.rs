//! The files that make a folder a repository: `FORMAT`, and `repo.json`, which names it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError,
    files::{self, Store, is_there},
    format::{Format, checked},
    seal::{Encryption, Seal},
    storage,
};

const FORMAT_WORD: &str = "cdc-backup-repo";
/// Behind the number where content is encrypted: releases that know nothing of that refuse such a repository.
const ENCRYPTED: &str = " encrypted";
pub(super) const NO_FOLDER: &str = "it is not a folder";

/// `repo.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) repo_id: String,
    pub(crate) created: String,
    pub(crate) format: u32,
    /// For whom content is encrypted; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
}

impl Identity {
    pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
        root.join("repo.json")
    }

    pub(super) fn new(format: Format, encryption: Option<Encryption>) -> Identity {
        Identity {
            repo_id: format!("{:016x}", rand::random::<u64>()),
            created: jiff::Timestamp::now().to_string(),
            format: format.number(),
            encryption,
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

/// What `FORMAT` says of the layout.
pub(crate) fn read(root: &Utf8Path) -> Result<Format, BackupError> {
    stated(root).map(|(format, _)| format)
}

/// The layout of a repository, and how its content is kept.
pub(super) fn read_with_seal(root: &Utf8Path) -> Result<(Format, Seal), BackupError> {
    let (format, is_encrypted) = stated(root)?;
    if !is_encrypted {
        return Ok((format, Seal::default()));
    }
    // Where it cannot be read, a check names it, and what was written before can be read.
    let says = match Identity::read(root, format) {
        Ok(identity) => identity.encryption.ok_or_else(|| format!("{} names no recipients", Identity::path(root))),
        Err(error) if error.is_of_a_system() => match is_there(&Identity::path(root))? {
            true => return Err(error),
            false => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    };
    Ok((format, Seal::of(root, says)))
}

/// The text of `FORMAT`, but for the end of its line.
pub(crate) fn text_of(format: Format, is_encrypted: bool) -> String {
    format!("{FORMAT_WORD} {}{}", format.number(), if is_encrypted { ENCRYPTED } else { "" })
}

/// The layout, and whether content is encrypted.
fn stated(root: &Utf8Path) -> Result<(Format, bool), BackupError> {
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
    let (plain, is_encrypted) = match text.trim().strip_suffix(ENCRYPTED) {
        Some(plain) => (plain, true),
        None => (text.trim(), false),
    };
    let number = plain.strip_prefix(FORMAT_WORD).and_then(|n| n.trim().parse::<u32>().ok());
    let known = Format::NEWEST.number();
    match number.map(|number| (number, Format::of_number(number))) {
        Some((_, Some(format))) if format == Format::Two || !is_encrypted => Ok((format, is_encrypted)),
        Some((found, None)) if found > known => Err(BackupError::FormatTooNew { path, found, known }),
        _ => Err(refuse(format!("its FORMAT says `{}`", text.trim().chars().take(40).collect::<String>()))),
    }
}

/// Makes a folder a repository of this format, or one of another format.
pub(super) fn write(store: &Store, format: Format) -> Result<(), BackupError> {
    store.write(&path(store.root()), format!("{}\n", text_of(format, store.seal().is_on())).as_bytes())
}
