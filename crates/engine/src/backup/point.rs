//! A recovery point as it is read: its manifest, and its parts by what they are.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    BackupError, files,
    format::{
        DatabasePublications, DatabaseSequences, Format, GroupState, Kind, Link, Manifest, PostgresFacts, RawRecord,
        SavedConnector, TopicState, layout,
    },
    hash::{sha256, sha256_file},
    parts::{
        postgres::Fingerprints,
        registry::{Archive, Dump, read_zip},
    },
    place::{self, Place},
    seal::Seal,
    storage::{self, Kind as ObjectKind},
};
use cdc_model::units::PointId;
use cdc_pipeline::client::postgres::Slot;

/// A file of a point, and the hash of its bytes as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// Its path, below the point's folder.
    pub path: String,
    /// Its size in bytes, as it should be.
    pub size: u64,
    /// The SHA-256 of its bytes as they were read; null where it is not there.
    pub sha256: Option<String>,
}

/// A complete recovery point.
#[derive(Clone, Debug)]
pub struct Point {
    /// What it holds.
    pub manifest: Manifest,
    /// Its folder.
    pub folder: Utf8PathBuf,
    /// The hash of its manifest.
    pub(crate) manifest_sha256: String,
    /// How its files are kept.
    pub(crate) seal: Seal,
}

impl Point {
    /// Reads a point's manifest and checks it against its checksum.
    pub(crate) fn load(place: &Place, seal: &Seal) -> Result<Point, BackupError> {
        let (path, bytes) = match place.format {
            Format::One => in_format_1(place)?,
            Format::Two => in_format_2(place)?,
        };
        // The format is looked at before the rest: a newer manifest may not have this shape.
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| BackupError::malformed(&path, e))?;
        let (format, newest) = (value["format"].as_u64().unwrap_or_default() as u32, Format::NEWEST.number());
        if format > newest {
            return Err(BackupError::FormatTooNew { path, found: format, known: newest });
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| BackupError::malformed(&path, e))?;
        if manifest.point != place.id {
            return Err(BackupError::malformed(&path, format!("it is the manifest of {}", manifest.point)));
        }
        let (folder, manifest_sha256) = (place.folder.clone(), sha256(&bytes));
        Ok(Point { manifest, folder, manifest_sha256, seal: seal.clone() })
    }

    /// Whether the manifest in a folder of format 1, damaged or not, says that it is this point's.
    pub(crate) fn is_manifest_of(place: &Place) -> Result<bool, BackupError> {
        let bytes = files::read_if_there(&place.folder.join(layout::MANIFEST))?.unwrap_or_default();
        let value: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        Ok(value.is_some_and(|value| value["point"] == place.id.as_str()))
    }

    /// Whether it holds all parts.
    pub(crate) fn is_full(&self) -> bool {
        self.manifest.kind == Kind::Full
    }

    /// As the next point remembers it.
    pub(crate) fn link(&self) -> Link {
        Link { point: self.id().clone(), manifest: self.manifest_sha256.clone() }
    }

    /// The point's id.
    pub fn id(&self) -> &PointId {
        &self.manifest.point
    }

    /// The bytes of one of its files, verified against the manifest.
    pub fn file(&self, path: &str) -> Result<Vec<u8>, BackupError> {
        let Some(entry) = self.manifest.files.iter().find(|f| f.path == path) else {
            return Err(BackupError::Incomplete { point: self.id().clone(), what: format!("it has no {path}") });
        };
        let bytes = files::read(&self.folder.join(path))?;
        let found = sha256(&bytes);
        if found != entry.sha256 {
            return Err(BackupError::checksum(self.folder.join(path), &entry.sha256, found));
        }
        match path {
            // The hashes of what is stored, for whoever has no identity.
            layout::SUMS => Ok(bytes),
            _ => self.seal.open(&self.folder.join(path), bytes),
        }
    }

    /// Requires that every file but the base backup can be read as what it was written as.
    pub(crate) fn open_files(&self) -> Result<(), BackupError> {
        let mut small = self.manifest.files.iter().filter(|entry| entry.path != layout::BASE);
        small.try_for_each(|entry| self.file(&entry.path).map(drop))
    }

    /// Compares every file but the base backup, which takes long, with the manifest.
    pub(crate) fn check_parts(&self) -> Result<(), BackupError> {
        for entry in self.manifest.files.iter().filter(|entry| entry.path != layout::BASE) {
            let path = self.folder.join(&entry.path);
            if !files::is_there(&path)? {
                let what = format!("{} is not there", entry.path);
                return Err(BackupError::Incomplete { point: self.id().clone(), what });
            }
            let (found, _) = sha256_file(&path)?;
            if found != entry.sha256 {
                return Err(BackupError::checksum(path, &entry.sha256, found));
            }
        }
        Ok(())
    }

    /// Each of its files with the hash of the bytes that are there now, its manifest first.
    pub fn hashes(&self) -> Result<Vec<HashedFile>, BackupError> {
        let mut all = Vec::new();
        for (path, _) in place::manifests(&self.folder)? {
            let (found, size) = sha256_file(&path)?;
            let path = path.strip_prefix(&self.folder).unwrap_or(&path).to_string();
            all.push(HashedFile { path, size, sha256: Some(found) });
        }
        for entry in &self.manifest.files {
            let path = self.folder.join(&entry.path);
            let sha256 = if files::is_there(&path)? { Some(sha256_file(&path)?.0) } else { None };
            all.push(HashedFile { path: entry.path.clone(), size: entry.size, sha256 });
        }
        Ok(all)
    }

    /// Whether its files are there, with their sizes.
    pub(crate) fn has_its_files(&self) -> Result<bool, BackupError> {
        for entry in &self.manifest.files {
            let path = self.folder.join(&entry.path);
            if storage::look(&path)? != Some(ObjectKind::Object(entry.size)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the point has such a file.
    pub fn has(&self, path: &str) -> bool {
        self.manifest.files.iter().any(|f| f.path == path)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, BackupError> {
        serde_json::from_slice(&self.file(path)?).map_err(|e| BackupError::malformed(&self.folder.join(path), e))
    }

    fn absent(&self, part: &'static str, reason: &str) -> BackupError {
        BackupError::PartAbsent { point: self.id().clone(), part, reason: reason.to_owned() }
    }

    /// The cluster's facts.
    pub fn postgres(&self) -> Result<&PostgresFacts, BackupError> {
        self.manifest.pg.get().ok_or_else(|| self.absent("postgres", self.manifest.pg.reason()))
    }

    /// The connectors, with configuration, state, topics and stored offsets.
    pub fn connectors(&self) -> Result<Vec<SavedConnector>, BackupError> {
        self.manifest.connect.get().ok_or_else(|| self.absent("connect", self.manifest.connect.reason()))?;
        self.json(layout::CONNECTORS)
    }

    /// The records of the workers' topic of offsets, in their order; none where the point has no such topic.
    pub fn offset_records(&self) -> Result<Vec<RawRecord>, BackupError> {
        if !self.has(layout::OFFSETS) {
            return Ok(Vec::new());
        }
        let bytes = self.file(layout::OFFSETS)?;
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.collect::<Result<_, _>>().map_err(|e| BackupError::malformed(&self.folder.join(layout::OFFSETS), e))
    }

    /// What the registry's own export holds; none where the registry made none.
    pub fn registry_export(&self) -> Result<Option<Archive>, BackupError> {
        let zip = self.has(layout::EXPORT).then(|| self.file(layout::EXPORT)).transpose()?;
        let read =
            |zip: Vec<u8>| read_zip(&zip).map_err(|e| BackupError::malformed(&self.folder.join(layout::EXPORT), e));
        zip.map(read).transpose()
    }

    /// The registry's content.
    pub fn dump(&self) -> Result<Dump, BackupError> {
        self.manifest.registry.get().ok_or_else(|| self.absent("registry", self.manifest.registry.reason()))?;
        let levels = self.file(layout::REGISTRY)?;
        let versions = self.file(layout::VERSIONS)?;
        let native = self.has(layout::EXPORT).then(|| self.file(layout::EXPORT)).transpose()?;
        Dump::from_files(&levels, &versions, native.as_deref())
            .map_err(|e| BackupError::malformed(&self.folder.join("registry"), e))
    }

    /// The topics, with settings and watermarks.
    pub fn topics(&self) -> Result<Vec<TopicState>, BackupError> {
        self.manifest.kafka.get().ok_or_else(|| self.absent("topics", self.manifest.kafka.reason()))?;
        self.json(layout::TOPICS)
    }

    /// The consumer groups, with their offsets.
    pub fn groups(&self) -> Result<Vec<GroupState>, BackupError> {
        self.manifest.kafka.get().ok_or_else(|| self.absent("topics", self.manifest.kafka.reason()))?;
        self.json(layout::GROUPS)
    }

    /// Counts and digests of the published tables; none where the point has none.
    pub fn fingerprints(&self) -> Result<Option<Fingerprints>, BackupError> {
        self.has(layout::FINGERPRINTS).then(|| self.json(layout::FINGERPRINTS)).transpose()
    }

    /// The hash of its manifest, which binds all of its files.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }

    /// The sequences, by database.
    pub fn sequences(&self) -> Result<Vec<DatabaseSequences>, BackupError> {
        self.postgres()?;
        self.json(layout::SEQUENCES)
    }

    /// The cluster's replication slots.
    pub fn slots(&self) -> Result<Vec<Slot>, BackupError> {
        self.postgres()?;
        self.json(layout::SLOTS)
    }

    /// The publications with their tables, by database.
    pub fn publications(&self) -> Result<Vec<DatabasePublications>, BackupError> {
        self.postgres()?;
        self.json(layout::PUBLICATIONS)
    }
}

fn incomplete(place: &Place, what: &str) -> BackupError {
    BackupError::Incomplete { point: place.id.clone(), what: what.to_owned() }
}

/// Path and bytes of the manifest, which has its checksum beside it.
fn in_format_1(place: &Place) -> Result<(Utf8PathBuf, Vec<u8>), BackupError> {
    let (path, sum_path) = (place.folder.join(layout::MANIFEST), place.folder.join(layout::MANIFEST_SUM));
    let Some(bytes) = files::read_if_there(&path)? else {
        return Err(incomplete(place, "it has no manifest.json: its backup did not finish"));
    };
    let Some(sum) = files::read_if_there(&sum_path)? else {
        return Err(incomplete(place, "it has no manifest.sha256"));
    };
    let sum = String::from_utf8_lossy(&sum).into_owned();
    let (expected, found) = (sum.split_whitespace().next().unwrap_or_default(), sha256(&bytes));
    if expected != found {
        return Err(BackupError::checksum(&path, if expected.is_empty() { "a checksum" } else { expected }, found));
    }
    Ok((path, bytes))
}

/// Path and bytes of the manifest, whose name has its checksum.
fn in_format_2(place: &Place) -> Result<(Utf8PathBuf, Vec<u8>), BackupError> {
    let manifest = place::manifest(&place.folder)?.ok_or_else(|| incomplete(place, "its manifest is missing"))?;
    Ok((manifest.path, manifest.bytes))
}
