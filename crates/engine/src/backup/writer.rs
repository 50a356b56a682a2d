//! Writing a recovery point: files into `points/<id>.partial`, the manifest last; then it is read back and given its
//! name.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{
    BackupError, Repository, VerifyReport,
    files::{self, Store},
    format::{
        FileEntry, Manifest,
        layout::{MANIFEST, MANIFEST_SUM, PARTIAL, SUMS},
    },
    hash::sha256,
};
use cdc_model::units::PointId;

/// A recovery point being written. Dropped before [`Sealed::publish`], it removes what it wrote.
#[derive(Debug)]
pub(crate) struct PointWriter {
    store: Store,
    id: PointId,
    work: Utf8PathBuf,
    finished: Utf8PathBuf,
    files: Vec<FileEntry>,
    published: bool,
}

impl PointWriter {
    pub(crate) fn begin(repository: &Repository, id: PointId) -> Result<PointWriter, BackupError> {
        let store = repository.store().clone();
        let points = repository.points_folder();
        let work = points.join(format!("{id}{PARTIAL}"));
        store.folder(&work)?;
        let finished = points.join(id.as_str());
        Ok(PointWriter { store, id, work, finished, files: Vec::new(), published: false })
    }

    pub(crate) fn id(&self) -> &PointId {
        &self.id
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where a file of the point is written; its folder is made.
    pub(crate) fn place(&self, path: &str) -> Result<Utf8PathBuf, BackupError> {
        let place = self.work.join(path);
        self.store.folder(place.parent().unwrap_or(&self.work))?;
        Ok(place)
    }

    /// Notes a file that was written at its [`PointWriter::place`] and synced.
    pub(crate) fn note(&mut self, entry: FileEntry) {
        self.files.push(entry);
    }

    /// Writes a file.
    pub(crate) fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let place = self.place(path)?;
        self.store.write(&place, bytes)?;
        self.note(FileEntry {
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: sha256(bytes),
            raw_size: None,
            raw_sha256: None,
        });
        Ok(())
    }

    /// Writes a JSON file with sorted keys.
    pub(crate) fn json<T: Serialize>(&mut self, path: &str, value: &T) -> Result<(), BackupError> {
        let bytes = files::canonical_json(Utf8Path::new(path), value)?;
        self.bytes(path, &bytes)
    }

    /// Writes a file of one JSON object a line.
    pub(crate) fn json_lines<T: Serialize>(&mut self, path: &str, lines: &[T]) -> Result<(), BackupError> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line).map_err(|e| BackupError::malformed(Utf8Path::new(path), e))?;
            bytes.push(b'\n');
        }
        self.bytes(path, &bytes)
    }

    /// Writes the checksums and, last, the manifest. Nothing is written to the point after this.
    pub(crate) fn seal(mut self, manifest: impl FnOnce(Vec<FileEntry>) -> Manifest) -> Result<Sealed, BackupError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        let sums: String = self.files.iter().map(|f| format!("{}  {}\n", f.sha256, f.path)).collect();
        self.bytes(SUMS, sums.as_bytes())?;
        let manifest = manifest(std::mem::take(&mut self.files));
        let path = self.work.join(MANIFEST);
        let bytes = files::canonical_json(&path, &manifest)?;
        let sum = format!("{}  {MANIFEST}\n", sha256(&bytes));
        self.store.write(&self.work.join(MANIFEST_SUM), sum.as_bytes())?;
        self.store.write(&path, &bytes)?;
        Ok(Sealed { writer: self, manifest })
    }
}

/// A recovery point that is written and does not exist yet. Dropped, it removes what was written.
#[derive(Debug)]
pub(crate) struct Sealed {
    writer: PointWriter,
    manifest: Manifest,
}

impl Sealed {
    pub(crate) fn id(&self) -> &PointId {
        &self.writer.id
    }

    /// Where it is for now.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.writer.work
    }

    /// Gives the point its name, if its files were read back without a defect. After this the point exists: one that
    /// nobody has read back never does.
    pub(crate) fn publish(mut self, read_back: VerifyReport) -> Result<Manifest, BackupError> {
        read_back.into_result()?;
        files::publish(&self.writer.work, &self.writer.finished)?;
        self.writer.published = true;
        Ok(self.manifest)
    }
}

impl Drop for PointWriter {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_dir_all(&self.work)
        {
            tracing::warn!(folder = %self.work, %error, "unfinished recovery point not removed; the next backup does");
        }
    }
}
