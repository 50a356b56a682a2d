//! What a check of a recovery point is asked for, and what it finds.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::archiver::ServerArchiving;
use crate::backup::{BackupError, files::is_temporary, storage};
use cdc_model::units::{Exit, PointId};
use cdc_pipeline::config::Tools;

/// How closely to look. Without any option every stored byte is read and hashed.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Also decompress everything, and compare each file of the base backup with the server's own list.
    pub deep: bool,
    /// With `deep`: how to call `pg_verifybackup`; it then judges an extracted copy too.
    pub tools: Option<Tools>,
    /// What the server says of its archiving, asked before anything of the repository is looked at, or why it could not be asked. None
    /// where no server is named.
    pub archiving: Option<Result<ServerArchiving, String>>,
}

/// What is wrong, in order of how a command ends when several are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefectKind {
    /// Written by a newer version.
    FormatTooNew,
    /// Something is missing, or too much.
    Incomplete,
    /// Bytes are not those that were written.
    Checksum,
    /// Archived WAL is missing.
    WalGap,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// What kind.
    pub kind: DefectKind,
    /// Where.
    pub path: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// What is found while a repository is looked at. A file is named once.
#[derive(Debug)]
pub(super) struct Findings {
    root: Utf8PathBuf,
    pub(super) defects: Vec<Defect>,
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn below(root: &Utf8Path) -> Findings {
        Findings { root: root.to_owned(), defects: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn defect(
        &mut self,
        kind: DefectKind,
        path: impl AsRef<Utf8Path>,
        expected: impl ToString,
        found: impl ToString,
    ) {
        let path = path.as_ref();
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_string();
        if self.defects.iter().all(|defect| defect.path != path) {
            let (expected, found) = (expected.to_string(), found.to_string());
            self.defects.push(Defect { kind, path, expected, found });
        }
    }

    /// Names a file by the name that it is known to have had.
    pub(super) fn rename(&mut self, unknown: &Utf8Path, known: &Utf8Path) {
        let below = |path: &Utf8Path| path.strip_prefix(&self.root).unwrap_or(path).to_string();
        let (unknown, known) = (below(unknown), below(known));
        for defect in self.defects.iter_mut().filter(|defect| defect.path == unknown) {
            defect.path.clone_from(&known);
        }
    }

    /// Whether a file is named already.
    pub(super) fn names(&self, path: &Utf8Path) -> bool {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        self.defects.iter().any(|defect| defect.path == path.as_str())
    }

    /// Whether something in a folder is named.
    pub(super) fn names_below(&self, folder: &Utf8Path) -> bool {
        let folder = folder.strip_prefix(&self.root).unwrap_or(folder);
        self.defects.iter().any(|defect| Utf8Path::new(&defect.path).starts_with(folder))
    }

    /// Notes an error that is a statement about a file; others end the check.
    pub(super) fn absorb(&mut self, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Checksum { path, expected, found } => {
                let path = path.strip_suffix(" (decoded)").unwrap_or(&path).to_owned();
                self.defect(DefectKind::Checksum, path, expected, found);
            }
            BackupError::Malformed { path, message } => {
                self.defect(DefectKind::Checksum, path, "readable content", message);
            }
            BackupError::FormatTooNew { path, found, known } => {
                self.defect(DefectKind::FormatTooNew, path, format!("format up to {known}"), found);
            }
            other => return Err(other),
        }
        Ok(())
    }

    /// Names every file below a folder that is not known. What a process that was killed left half-written is noted.
    pub(super) fn strangers(
        &mut self,
        folder: &Utf8Path,
        known: &dyn Fn(&Utf8Path) -> bool,
    ) -> Result<(), BackupError> {
        for entry in storage::entries(folder)?.into_iter().flatten() {
            let path = entry.path.as_path();
            if entry.is_folder {
                self.strangers(path, known)?;
            } else if is_temporary(entry.name()) {
                self.notes.push(format!("{path} is being written, or was when a process was killed"));
            } else if !known(path) {
                self.defect(DefectKind::Incomplete, path, "no such file", "one that nothing names");
            }
        }
        Ok(())
    }
}

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The point.
    pub point: PointId,
    /// How many of its files were read.
    pub files: u64,
    /// How many archived segments were read.
    pub wal_segments: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// Whether everything was decompressed too.
    pub deep: bool,
    /// Everything that is wrong.
    pub defects: Vec<Defect>,
}

/// How a command ends that has found this: the first that applies of 33, 30, 31 and 32, or 0.
pub(super) fn exit_of(defects: &[Defect]) -> Exit {
    match defects.iter().map(|defect| defect.kind).min() {
        None => Exit::Passed,
        Some(DefectKind::FormatTooNew) => Exit::FormatTooNew,
        Some(DefectKind::Incomplete) => Exit::BackupIncomplete,
        Some(DefectKind::Checksum) => Exit::ChecksumMismatch,
        Some(DefectKind::WalGap) => Exit::WalGap,
    }
}

impl VerifyReport {
    pub(super) fn empty(point: &PointId, options: &CheckOptions) -> VerifyReport {
        VerifyReport {
            point: point.clone(),
            files: 0,
            wal_segments: 0,
            bytes: 0,
            deep: options.deep,
            defects: Vec::new(),
        }
    }

    /// 0, or 33, 30, 31, 32: the first that applies.
    pub fn exit(&self) -> Exit {
        exit_of(&self.defects)
    }

    /// The first of the worst defects as an error.
    pub(crate) fn into_result(self) -> Result<VerifyReport, BackupError> {
        let Some(worst) = self.defects.iter().min_by_key(|d| d.kind) else { return Ok(self) };
        Err(match worst.kind {
            DefectKind::Checksum => BackupError::checksum(&worst.path, &worst.expected, &worst.found),
            _ => BackupError::Incomplete { point: self.point.clone(), what: worst.to_string() },
        })
    }

    pub(super) fn defect(
        &mut self,
        kind: DefectKind,
        path: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) {
        let (path, expected, found) = (path.to_string(), expected.to_string(), found.to_string());
        self.defects.push(Defect { kind, path, expected, found });
    }

    /// Notes an error that is a statement about the point; others end the check.
    pub(super) fn absorb(&mut self, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Checksum { path, expected, found } => {
                self.defect(DefectKind::Checksum, path, expected, found);
            }
            BackupError::Malformed { path, message } => {
                self.defect(DefectKind::Checksum, path, "readable content", message)
            }
            BackupError::Incomplete { what, .. } => {
                self.defect(DefectKind::Incomplete, self.point.clone(), "complete", what)
            }
            BackupError::FormatTooNew { path, found, known } => {
                self.defect(DefectKind::FormatTooNew, path, format!("format up to {known}"), found);
            }
            other => return Err(other),
        }
        Ok(())
    }
}
