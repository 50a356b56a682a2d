//! The repository: a folder of recovery points and archived WAL.

use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError, Manifest, RepositoryLock,
    files::{self, Store},
    manifest,
    parts::{
        connect::SavedConnector,
        postgres::{DatabasePublications, DatabaseSequences},
        registry::Dump,
        topics::{GroupState, TopicState},
    },
    wal::Archive,
};
use crate::{
    client::{limits, postgres::Slot},
    units::PointId,
};

/// The version of the repository's layout.
const FORMAT: u32 = 1;
const FORMAT_WORD: &str = "cdc-backup-repo";
/// What a point is called while it is being written.
pub(crate) const PARTIAL: &str = ".partial";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const MANIFEST_SUM: &str = "manifest.sha256";
pub(crate) const SUMS: &str = "SHA256SUMS";

/// `repo.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RepositoryFile {
    repo_id: String,
    created: String,
    format: u32,
}

/// `latest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LatestFile {
    point: PointId,
}

/// An opened repository.
#[derive(Clone, Debug)]
pub struct Repository {
    store: Store,
}

/// Which recovery point is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSelector {
    /// The newest complete one that holds everything.
    Latest,
    /// This one.
    Id(PointId),
}

impl std::str::FromStr for PointSelector {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(if s == "latest" { PointSelector::Latest } else { PointSelector::Id(PointId::new(s)) })
    }
}

impl std::fmt::Display for PointSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PointSelector::Latest => f.write_str("latest"),
            PointSelector::Id(id) => id.fmt(f),
        }
    }
}

/// One line of `backup list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSummary {
    /// The point.
    pub point: PointId,
    /// When its capture began, RFC 3339; empty when the manifest is missing.
    pub begin: String,
    /// When its capture ended; empty when it did not.
    pub end: String,
    /// Whether it has its manifest, with the checksum written for it.
    pub complete: bool,
    /// The bytes it occupies, archived WAL not counted.
    pub bytes: u64,
}

impl Repository {
    /// Makes a repository in a folder that is missing or empty; opens one that is there.
    pub fn init(root: &Utf8Path) -> Result<Repository, BackupError> {
        if root.join("FORMAT").exists() {
            return Repository::open(root);
        }
        fs::create_dir_all(root).map_err(BackupError::io("make folder", root))?;
        let strangers = fs::read_dir(root).map_err(BackupError::io("list", root))?.count();
        if strangers > 0 {
            return Err(BackupError::NotARepository {
                path: root.to_owned(),
                found: format!("{strangers} other files and folders"),
            });
        }
        let store = Store::new(root)?;
        for folder in ["points", "wal", "locks"] {
            store.folder(&root.join(folder))?;
        }
        let repo = RepositoryFile {
            repo_id: format!("{:016x}", rand::random::<u64>()),
            created: jiff::Timestamp::now().to_string(),
            format: FORMAT,
        };
        let path = root.join("repo.json");
        store.write(&path, &files::canonical_json(&path, &repo)?)?;
        // Last: with it the folder is a repository.
        store.write(&root.join("FORMAT"), format!("{FORMAT_WORD} {FORMAT}\n").as_bytes())?;
        Ok(Repository { store })
    }

    /// Opens a repository.
    pub fn open(root: &Utf8Path) -> Result<Repository, BackupError> {
        let path = root.join("FORMAT");
        let refuse = |found: String| BackupError::NotARepository { path: root.to_owned(), found };
        let text = match fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let found = if root.is_dir() { "it has no file FORMAT" } else { "there is no such folder" };
                return Err(refuse(found.to_owned()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Err(refuse("it is not a folder".into())),
            Err(e) => return Err(BackupError::io("read", &path)(e)),
        };
        let number = text.trim().strip_prefix(FORMAT_WORD).and_then(|n| n.trim().parse::<u32>().ok());
        match number {
            Some(FORMAT) => Ok(Repository { store: Store::new(root)? }),
            Some(found) if found > FORMAT => Err(BackupError::FormatTooNew { path, found, known: FORMAT }),
            _ => Err(refuse(format!("its FORMAT says `{}`", text.trim().chars().take(40).collect::<String>()))),
        }
    }

    /// The repository's folder.
    pub fn path(&self) -> &Utf8Path {
        self.store.root()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn points_folder(&self) -> Utf8PathBuf {
        self.path().join("points")
    }

    /// The archived WAL of a cluster.
    pub fn archive(&self, system_id: u64) -> Archive {
        Archive::new(&self.store, system_id)
    }

    /// Takes a lock (`backup`, `recovery`) for `owner`, who is named to others that want it.
    pub fn lock(&self, name: &str, owner: &str) -> Result<RepositoryLock, BackupError> {
        RepositoryLock::take(&self.store, name, owner)
    }

    /// Every recovery point, oldest first, unfinished ones included.
    pub fn points(&self) -> Result<Vec<PointSummary>, BackupError> {
        let mut points = Vec::new();
        for (id, folder, partial) in self.folders()? {
            let point = Point::load(&id, &folder);
            let complete = !partial && point.is_ok();
            let (begin, end) = match &point {
                Ok(point) => (point.manifest.window.begin.clone(), point.manifest.window.end.clone()),
                Err(_) => Default::default(),
            };
            points.push(PointSummary { point: id, begin, end, complete, bytes: size_of(&folder)? });
        }
        Ok(points)
    }

    /// Id, folder and whether it is unfinished, by id.
    fn folders(&self) -> Result<Vec<(PointId, Utf8PathBuf, bool)>, BackupError> {
        let root = self.points_folder();
        let entries = match root.read_dir_utf8() {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(BackupError::io("list", &root)(e)),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(BackupError::io("list", &root))?;
            if !entry.file_type().map_err(BackupError::io("look at", entry.path()))?.is_dir() {
                continue;
            }
            let name = entry.file_name();
            let (id, partial) = name.strip_suffix(PARTIAL).map_or((name, false), |id| (id, true));
            folders.push((PointId::new(id), entry.path().to_owned(), partial));
        }
        folders.sort();
        Ok(folders)
    }

    /// The folder of a point, finished or not, for looking at it; refuses names that are not a point's.
    pub(crate) fn locate(&self, id: &PointId) -> Result<(Utf8PathBuf, bool), BackupError> {
        let found = self.folders()?.into_iter().filter(|(i, ..)| i == id).map(|(_, f, p)| (f, p)).next();
        found.ok_or_else(|| self.no_such(id.as_str()))
    }

    /// A complete recovery point, its manifest's checksum verified. `Latest` is the newest one that holds all parts.
    pub fn point(&self, selector: &PointSelector) -> Result<Point, BackupError> {
        match selector {
            PointSelector::Id(id) => {
                let (folder, partial) = self.locate(id)?;
                if partial {
                    let what = "its backup did not finish".to_owned();
                    return Err(BackupError::Incomplete { point: id.clone(), what });
                }
                Point::load(id, &folder)
            }
            PointSelector::Latest => {
                for (id, folder, partial) in self.folders()?.into_iter().rev() {
                    if partial {
                        continue;
                    }
                    let point = Point::load(&id, &folder)?;
                    if point.manifest.kind == manifest::Kind::Full {
                        return Ok(point);
                    }
                }
                Err(self.no_such("latest (a complete one with all parts)"))
            }
        }
    }

    fn no_such(&self, wanted: &str) -> BackupError {
        let there: Vec<String> =
            self.folders().unwrap_or_default().into_iter().rev().take(5).map(|(id, ..)| id.0).collect();
        let there = if there.is_empty() { "none".to_owned() } else { format!("{} (newest first)", there.join(", ")) };
        BackupError::NoSuchPoint { repository: self.path().to_owned(), wanted: wanted.to_owned(), there }
    }

    /// Notes the newest complete point for readers that do not know this tool.
    pub(crate) fn note_latest(&self, point: &PointId) -> Result<(), BackupError> {
        let path = self.path().join("latest.json");
        self.store.write(&path, &files::canonical_json(&path, &LatestFile { point: point.clone() })?)
    }

    /// Removes what killed backups left. Only for the holder of the backup lock: nobody else is writing a point then.
    pub(crate) fn remove_leftovers(&self) -> Result<(), BackupError> {
        for (_, folder, partial) in self.folders()? {
            if partial {
                tracing::info!(%folder, "removing an unfinished recovery point");
                fs::remove_dir_all(&folder).map_err(BackupError::io("remove", &folder))?;
            }
        }
        remove_old_temporaries(&self.path().join("wal"))
    }
}

/// What a killed archiver left half-written. A file that is being written is younger than [`limits::facts::TEMPORARY_OLD`].
fn remove_old_temporaries(folder: &Utf8Path) -> Result<(), BackupError> {
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let entry = entry.map_err(BackupError::io("list", folder))?;
        let path = entry.path();
        // The server archives meanwhile: an entry may be gone by now.
        let Ok(meta) = fs::symlink_metadata(path) else { continue };
        if meta.is_dir() {
            remove_old_temporaries(path)?;
        } else if entry.file_name().starts_with('.') && entry.file_name().ends_with(".tmp") {
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > limits::facts::TEMPORARY_OLD) {
                fs::remove_file(path).map_err(BackupError::io("remove", path))?;
            }
        }
    }
    Ok(())
}

fn size_of(folder: &Utf8Path) -> Result<u64, BackupError> {
    let mut bytes = 0;
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let entry = entry.map_err(BackupError::io("list", folder))?;
        let meta = fs::symlink_metadata(entry.path()).map_err(BackupError::io("look at", entry.path()))?;
        bytes += if meta.is_dir() { size_of(entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// A complete recovery point.
#[derive(Clone, Debug)]
pub struct Point {
    /// What it holds.
    pub manifest: Manifest,
    /// Its folder.
    pub folder: Utf8PathBuf,
}

impl Point {
    /// Reads a point's manifest and checks it against its checksum.
    pub(crate) fn load(id: &PointId, folder: &Utf8Path) -> Result<Point, BackupError> {
        let incomplete = |what: &str| BackupError::Incomplete { point: id.clone(), what: what.to_owned() };
        let (path, sum_path) = (folder.join(MANIFEST), folder.join(MANIFEST_SUM));
        if !path.exists() {
            return Err(incomplete("it has no manifest.json: its backup did not finish"));
        }
        if !sum_path.exists() {
            return Err(incomplete("it has no manifest.sha256"));
        }
        let bytes = files::read(&path)?;
        let sum = String::from_utf8_lossy(&files::read(&sum_path)?).into_owned();
        let (expected, found) = (sum.split_whitespace().next().unwrap_or_default(), files::sha256(&bytes));
        if expected != found {
            return Err(BackupError::checksum(&path, if expected.is_empty() { "a checksum" } else { expected }, found));
        }
        // The format is looked at before the rest: a newer manifest may not have this shape.
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| BackupError::malformed(&path, e))?;
        let format = value["format"].as_u64().unwrap_or_default() as u32;
        if format > manifest::FORMAT {
            return Err(BackupError::FormatTooNew { path, found: format, known: manifest::FORMAT });
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| BackupError::malformed(&path, e))?;
        if manifest.point != *id {
            return Err(BackupError::malformed(&path, format!("it is the manifest of {}", manifest.point)));
        }
        Ok(Point { manifest, folder: folder.to_owned() })
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
        let found = files::sha256(&bytes);
        if found != entry.sha256 {
            return Err(BackupError::checksum(self.folder.join(path), &entry.sha256, found));
        }
        Ok(bytes)
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
    pub fn postgres(&self) -> Result<&manifest::PostgresFacts, BackupError> {
        self.manifest.pg.get().ok_or_else(|| self.absent("postgres", self.manifest.pg.reason()))
    }

    /// The connectors, with configuration, state, topics and stored offsets.
    pub fn connectors(&self) -> Result<Vec<SavedConnector>, BackupError> {
        self.manifest.connect.get().ok_or_else(|| self.absent("connect", self.manifest.connect.reason()))?;
        self.json("connect/connectors.json")
    }

    /// The registry's content.
    pub fn dump(&self) -> Result<Dump, BackupError> {
        self.manifest.registry.get().ok_or_else(|| self.absent("registry", self.manifest.registry.reason()))?;
        let levels = self.file("registry/registry.json")?;
        let versions = self.file("registry/dump.jsonl")?;
        Dump::from_files(&levels, &versions).map_err(|e| BackupError::malformed(&self.folder.join("registry"), e))
    }

    /// The topics, with settings and watermarks.
    pub fn topics(&self) -> Result<Vec<TopicState>, BackupError> {
        self.manifest.kafka.get().ok_or_else(|| self.absent("topics", self.manifest.kafka.reason()))?;
        self.json("kafka/topics.json")
    }

    /// The consumer groups, with their offsets.
    pub fn groups(&self) -> Result<Vec<GroupState>, BackupError> {
        self.manifest.kafka.get().ok_or_else(|| self.absent("topics", self.manifest.kafka.reason()))?;
        self.json("kafka/groups.json")
    }

    /// The cluster's replication slots.
    pub fn slots(&self) -> Result<Vec<Slot>, BackupError> {
        self.postgres()?;
        self.json("pg/slots.json")
    }

    /// The publications with their tables, by database.
    pub fn publications(&self) -> Result<Vec<DatabasePublications>, BackupError> {
        self.postgres()?;
        self.json("pg/publications.json")
    }

    /// The sequences, by database.
    pub fn sequences(&self) -> Result<Vec<DatabaseSequences>, BackupError> {
        self.postgres()?;
        self.json("pg/sequences.json")
    }
}
