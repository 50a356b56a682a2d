//! What a check of a recovery point is asked for, and what it finds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backup::BackupError;
use cdc_model::units::{Exit, PointId};
use cdc_pipeline::config::Tools;

/// How closely to look. Without any option every stored byte is read and hashed.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Also decompress everything, and compare each file of the base backup with the server's own list.
    pub deep: bool,
    /// With `deep`: how to call `pg_verifybackup`; it then judges an extracted copy too.
    pub tools: Option<Tools>,
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
        match self.defects.iter().map(|d| d.kind).min() {
            None => Exit::Passed,
            Some(DefectKind::FormatTooNew) => Exit::FormatTooNew,
            Some(DefectKind::Incomplete) => Exit::BackupIncomplete,
            Some(DefectKind::Checksum) => Exit::ChecksumMismatch,
            Some(DefectKind::WalGap) => Exit::WalGap,
        }
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
