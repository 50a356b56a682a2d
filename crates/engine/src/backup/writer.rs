//! Writing a recovery point: its files, and the manifest last. In format 2 the point exists when the manifest has its name; in
//! format 1 when the folder has. Both happen after everything was read back.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError, Point, Repository, VerifyReport,
    files::{self, Store},
    format::{
        Chain, FileEntry, Format, Manifest, checked,
        layout::{CONNECTORS, MANIFEST, MANIFEST_SUM, PARTIAL, PUBLICATIONS, STARTED, SUMS, manifest_name},
    },
    hash::sha256,
    place::remove_unfinished,
};
use cdc_model::units::PointId;

/// A recovery point being written. Dropped before [`Sealed::publish`], it removes what it wrote.
#[derive(Debug)]
pub(crate) struct PointWriter {
    store: Store,
    format: Format,
    id: PointId,
    chain: Option<Chain>,
    work: Utf8PathBuf,
    finished: Utf8PathBuf,
    files: Vec<FileEntry>,
    published: bool,
    /// How many bytes the base backup may take; none for as many as it likes.
    room: Option<u64>,
    /// What is looked at again before the point is complete. In an encrypted repository it cannot be read back without an identity.
    kept: BTreeMap<&'static str, Vec<u8>>,
}

/// The files that claims between the parts are about.
const KEPT: [&str; 2] = [CONNECTORS, PUBLICATIONS];

/// `started.json`: this point is being written.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    point: PointId,
    by: String,
    at: String,
}

impl PointWriter {
    pub(crate) fn begin(repository: &Repository, id: PointId) -> Result<PointWriter, BackupError> {
        let (store, format) = (repository.store().clone(), repository.format());
        let points = repository.points_folder();
        let finished = points.join(id.as_str());
        let work = match format {
            Format::One => points.join(format!("{id}{PARTIAL}")),
            Format::Two => finished.clone(),
        };
        let chain = match format {
            Format::One => None,
            Format::Two => Some(repository.next_in_chain()?),
        };
        store.folder(&work)?;
        let (files, kept) = (Vec::new(), BTreeMap::new());
        let writer =
            PointWriter { store, format, id, chain, work, finished, files, published: false, room: None, kept };
        if format == Format::Two {
            let at = jiff::Timestamp::now().to_string();
            let by = format!("process {}", std::process::id());
            let path = writer.work.join(STARTED);
            let started = checked::to_bytes(&path, &Started { point: writer.id.clone(), by, at })?;
            writer.store.write(&path, &started)?;
        }
        Ok(writer)
    }

    /// Limits what the base backup may take.
    pub(crate) fn within(mut self, room: Option<u64>) -> PointWriter {
        self.room = room;
        self
    }

    pub(crate) fn room(&self) -> Option<u64> {
        self.room
    }

    pub(crate) fn id(&self) -> &PointId {
        &self.id
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
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
        let stored = self.store.write_content(&place, bytes)?;
        if let Some(path) = KEPT.into_iter().find(|kept| *kept == path) {
            self.kept.insert(path, bytes.to_vec());
        }
        self.noted(path, &stored);
        Ok(())
    }

    fn noted(&mut self, path: &str, stored: &[u8]) {
        self.note(FileEntry {
            path: path.to_owned(),
            size: stored.len() as u64,
            sha256: sha256(stored),
            raw_size: None,
            raw_sha256: None,
        });
    }

    /// What was written of the connectors or the publications.
    pub(crate) fn kept<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, BackupError> {
        let bytes = self.kept.get(path).map(Vec::as_slice).unwrap_or_default();
        serde_json::from_slice(bytes).map_err(|e| BackupError::malformed(path.into(), e))
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

    /// Writes the checksums and makes the manifest, which binds all files. Nothing is written to the point after this but the
    /// manifest.
    pub(crate) fn seal(mut self, manifest: impl FnOnce(Vec<FileEntry>) -> Manifest) -> Result<Sealed, BackupError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        let sums: String = self.files.iter().map(|f| format!("{}  {}\n", f.sha256, f.path)).collect();
        // Of what is stored: `sha256sum -c` needs no identity.
        self.store.write(&self.place(SUMS)?, sums.as_bytes())?;
        self.noted(SUMS, sums.as_bytes());
        let manifest = manifest(std::mem::take(&mut self.files));
        let bytes = files::canonical_json(&self.work.join(MANIFEST), &manifest)?;
        let manifest_sha256 = sha256(&bytes);
        if self.format == Format::One {
            let sum = format!("{manifest_sha256}  {MANIFEST}\n");
            self.store.write(&self.work.join(MANIFEST_SUM), sum.as_bytes())?;
            self.store.write(&self.work.join(MANIFEST), &bytes)?;
        }
        let point = Point { manifest, folder: self.work.clone(), manifest_sha256, seal: self.store.seal().clone() };
        Ok(Sealed { writer: self, point, bytes })
    }
}

/// A recovery point that is written and does not exist yet. Dropped, it removes what was written.
#[derive(Debug)]
pub(crate) struct Sealed {
    writer: PointWriter,
    point: Point,
    bytes: Vec<u8>,
}

impl Sealed {
    /// What it will be; its folder is where it is for now.
    pub(crate) fn point(&self) -> &Point {
        &self.point
    }

    /// Lets the point exist, if its files were read back without a defect: one that nobody has read back never does.
    pub(crate) fn publish(mut self, read_back: VerifyReport) -> Result<Point, BackupError> {
        read_back.into_result()?;
        match self.writer.format {
            Format::One => files::publish(&self.writer.work, &self.writer.finished)?,
            Format::Two => {
                let manifest = self.writer.work.join(manifest_name(&self.point.manifest_sha256));
                self.writer.store.write(&manifest, &self.bytes)?;
            }
        }
        self.writer.published = true;
        let folder = self.writer.finished.clone();
        Ok(Point { folder, ..self.point.clone() })
    }
}

impl Drop for PointWriter {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = remove_unfinished(&self.work)
        {
            tracing::warn!(folder = %self.work, %error, "unfinished recovery point not removed; the next backup does");
        }
    }
}
