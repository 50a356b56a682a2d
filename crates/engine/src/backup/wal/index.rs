//! The index of a timeline's archived files.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::backup::{BackupError, files};
use cdc_model::units::Lsn;
use cdc_postgres::wal::{SegmentSize, WalFile};

/// One archived file: a line of `index.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexLine {
    /// The file's name as PostgreSQL knows it.
    pub(super) seg: String,
    /// Its size.
    pub(super) size_raw: u64,
    /// The size of the stored file.
    pub(super) size: u64,
    /// The checksum of its content.
    pub(super) sha256_raw: String,
    /// The checksum of the stored file.
    pub(super) sha256: String,
    /// The first LSN of a segment.
    pub(super) first_lsn: Option<Lsn>,
    /// When it was archived, RFC 3339.
    pub(super) archived_at: String,
}

/// An index as it is read to be checked.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) path: Utf8PathBuf,
    pub(crate) is_missing: bool,
    /// The numbers of lines that say nothing, from 1.
    pub(crate) unreadable: Vec<usize>,
    /// The last line of each file.
    pub(crate) lines: BTreeMap<WalFile, IndexLine>,
}

impl Index {
    pub(super) fn read(path: &Utf8Path) -> Result<Index, BackupError> {
        let bytes = files::read_if_there(path)?;
        let is_missing = bytes.is_none();
        let mut index = Index { path: path.to_owned(), is_missing, unreadable: Vec::new(), lines: BTreeMap::new() };
        let bytes = bytes.unwrap_or_default();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty()) {
            let read = serde_json::from_slice::<IndexLine>(line).ok();
            match read.and_then(|line| Some((line.seg.parse::<WalFile>().ok()?, line))) {
                Some((file, line)) => {
                    index.lines.insert(file, line);
                }
                None => index.unreadable.push(number),
            }
        }
        if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
            index.unreadable.push(bytes.split(|byte| *byte == b'\n').count());
        }
        Ok(index)
    }

    /// Whether a line may be missing because the index is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        !self.unreadable.is_empty() || self.lines.iter().any(|(file, line)| line.wrong_name(file).is_some())
    }
}

impl IndexLine {
    /// What is wrong with a line that says where its segment begins, and which segment it is.
    pub(crate) fn wrong_name(&self, file: &WalFile) -> Option<String> {
        let (WalFile::Segment(name) | WalFile::Partial(name)) = file else { return None };
        let begins = SegmentSize::new(self.size_raw).and_then(|size| name.start(size));
        (begins != self.first_lsn).then(|| format!("a line for {file} that names another beginning, or another size"))
    }
}
