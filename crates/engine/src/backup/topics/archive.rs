//! Where the records of a topic are archived: `topics/<cluster>/<topic>/`. Segments lie in `objects/<partition>/`, one folder for each
//! backup has its manifest. A segment is shared by all backups that name it.

use std::{collections::BTreeSet, io::BufReader};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    batch::{self, Record},
    manifest::{FORMAT, PartitionBackup, PreviousBackup, SegmentOf, TopicBackup},
    sealed,
    segment::{Named, Segment, Stored, describe},
};
use crate::backup::{
    BackupError,
    files::{self, Store, is_temporary, is_there},
    format::{checked, encode_name, layout::manifest_name},
    hash::sha256,
    place::{self, ManifestFile},
    seal::Seal,
    storage::{self, Kind},
};

const ROOT: &str = "topics";
const OBJECTS: &str = "objects";
const REPLAYS: &str = "replays";
const HEAD: &str = "head.json";
pub(crate) const PRUNED: &str = "pruned.json";
/// The cluster's folder where the brokers do not say its id.
const UNKNOWN_CLUSTER: &str = "unknown";

/// The archive of one topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicArchive {
    store: Store,
    pub(crate) folder: Utf8PathBuf,
}

/// A backup whose manifest was read.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) archive: TopicArchive,
    pub(crate) manifest: TopicBackup,
    pub(crate) sha256: String,
}

/// `head.json`: the newest backup of the topic. It may be behind by the one that was made at the moment of a crash, never ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) newest: PreviousBackup,
    /// Whether there is a `pruned.json`, so that its loss is noticed. Archives of earlier versions have one from their first removal on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keeps_pruned: bool,
}

impl TopicArchive {
    pub(crate) fn of(store: &Store, cluster: Option<&str>, topic: &str) -> TopicArchive {
        let cluster = encode_name(cluster.unwrap_or(UNKNOWN_CLUSTER));
        TopicArchive { store: store.clone(), folder: store.root().join(ROOT).join(cluster).join(encode_name(topic)) }
    }

    /// The archives of all topics, of one name if one is given.
    pub(crate) fn all(store: &Store, topic: Option<&str>) -> Result<Vec<TopicArchive>, BackupError> {
        let wanted = topic.map(encode_name);
        let mut found = Vec::new();
        for cluster in folders(&store.root().join(ROOT))? {
            for folder in folders(&cluster)? {
                if wanted.as_deref().is_none_or(|wanted| folder.file_name() == Some(wanted)) {
                    found.push(TopicArchive { store: store.clone(), folder });
                }
            }
        }
        Ok(found)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn segment(&self, partition: i32, name: &str) -> Utf8PathBuf {
        self.folder.join(OBJECTS).join(partition.to_string()).join(name)
    }

    pub(crate) fn replays(&self) -> Utf8PathBuf {
        self.folder.join(REPLAYS)
    }

    /// Every backup, oldest first, or why it cannot be used.
    pub(crate) fn backups(&self) -> Result<Vec<Result<Loaded, BackupError>>, BackupError> {
        let mut found = Vec::new();
        for folder in folders(&self.folder)? {
            if [OBJECTS, REPLAYS].contains(&folder.file_name().unwrap_or_default())
                || place::manifests(&folder)?.is_empty()
            {
                continue;
            }
            found.push(self.load(&folder));
        }
        Ok(found)
    }

    /// The newest backup that can be read. Where none can, what is wrong with the newest.
    pub(crate) fn newest(&self) -> Result<Option<Loaded>, BackupError> {
        let mut damaged = None;
        for backup in self.backups()?.into_iter().rev() {
            match backup {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    fn load(&self, folder: &Utf8Path) -> Result<Loaded, BackupError> {
        let missing = || BackupError::malformed(folder, "its manifest is missing");
        let ManifestFile { path, bytes, sha256 } = place::manifest(folder)?.ok_or_else(missing)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| BackupError::malformed(&path, e))?;
        let format = value["format"].as_u64().unwrap_or_default() as u32;
        if format > FORMAT {
            return Err(BackupError::FormatTooNew { path, found: format, known: FORMAT });
        }
        let manifest = sealed::from_json(value, self.store.seal(), &path)?;
        if Some(manifest.backup.as_str()) != folder.file_name() {
            return Err(BackupError::malformed(&path, format!("it is the manifest of {}", manifest.backup)));
        }
        Ok(Loaded { archive: self.clone(), manifest, sha256 })
    }

    /// The backup that is noted as the newest.
    pub(crate) fn head(&self) -> Result<Option<Head>, BackupError> {
        checked::read(&self.folder.join(HEAD))
    }

    /// The place of a backup's manifest.
    pub(crate) fn manifest_of(&self, link: &PreviousBackup) -> Utf8PathBuf {
        self.folder.join(&link.backup).join(manifest_name(&link.manifest))
    }

    /// Whether what is archived can be read: an encrypted archive with an identity alone.
    pub(crate) fn can_be_read(&self) -> Result<bool, BackupError> {
        self.store.seal().unlock_if_named()
    }

    /// Stores a segment, and reads it back.
    pub(crate) fn put(&self, segment: &Segment) -> Result<SegmentOf, BackupError> {
        let description = &segment.description;
        let seal = self.store.seal();
        let stored = seal.seal(&self.folder, &segment.bytes)?;
        let named = Named::of(description.from, &stored, seal.is_on());
        let path = self.segment(description.partition, &named.to_string());
        if let Some(parent) = path.parent() {
            self.store.folder(parent)?;
        }
        // The same content has the same name, unless it is encrypted: a backup that was killed may have left it, or damage has come over it.
        if files::read_if_there(&path)?.is_none_or(|there| there != *stored) {
            self.store.write(&path, &stored)?;
        }
        let again = files::read(&path)?;
        named.compare(&again).map_err(|(expected, found)| BackupError::checksum(&path, expected, found))?;
        Ok(SegmentOf {
            name: named.to_string(),
            from: description.from,
            to: description.to,
            records: description.records,
            raw: description.raw,
            earliest: segment.earliest,
            latest: segment.latest,
        })
    }

    /// Whether a segment's file is there and has its size: whether its content is right is not looked at.
    pub(crate) fn has(&self, partition: i32, segment: &SegmentOf) -> Result<bool, BackupError> {
        let expected = Named::parse(&segment.name).map(|named| Kind::Object(named.stamp.size));
        let there = storage::look(&self.segment(partition, &segment.name))?;
        Ok(there.is_some() && there == expected)
    }

    /// The last record of a segment, of which nothing else is read where it is not encrypted.
    pub(crate) fn last_record(&self, partition: i32, segment: &SegmentOf) -> Result<Option<Record>, BackupError> {
        let path = self.segment(partition, &segment.name);
        if self.store.seal().is_on() {
            // It can be read from its beginning only.
            let mut all = open(&path, &segment.name, self.store.seal())?;
            let mut last = None;
            while let Some(block) = all.next() {
                let records = block.map_err(|damaged| BackupError::malformed(&path, damaged))?;
                last = records.into_iter().next_back().or(last);
            }
            return Ok(last);
        }
        let description = describe(&path, &mut BufReader::new(storage::open(&path)?))?;
        let Some(last) = description.blocks.last() else { return Ok(None) };
        let stored = storage::end_of(&path, last.stored)?;
        let raw = zstd::bulk::decompress(&stored, usize::try_from(last.raw).unwrap_or(usize::MAX));
        let raw = raw.map_err(|e| BackupError::malformed(&path, e))?;
        let records = batch::decode(&raw).map_err(|damage| BackupError::malformed(&path, damage))?;
        Ok(records.into_iter().next_back())
    }

    /// Lets a backup exist: all of its segments are stored.
    pub(crate) fn publish(&self, manifest: &TopicBackup) -> Result<(), BackupError> {
        let folder = self.folder.join(&manifest.backup);
        self.store.folder(&folder)?;
        let bytes = files::canonical_json(&folder, &sealed::to_json(manifest, self.store.seal(), &folder)?)?;
        let sha256 = sha256(&bytes);
        self.store.write(&folder.join(manifest_name(&sha256)), &bytes)?;
        let keeps_pruned = is_there(&self.folder.join(PRUNED))?
            || self.head().is_ok_and(|head| head.is_some_and(|head| head.keeps_pruned));
        let newest = PreviousBackup { backup: manifest.backup.clone(), manifest: sha256 };
        let head = Head { newest, keeps_pruned };
        let path = self.folder.join(HEAD);
        self.store.write(&path, &checked::to_bytes(&path, &head)?)
    }

    /// Every file of a segment, or what has a place of one: partition's folder and name.
    pub(crate) fn stored(&self) -> Result<BTreeSet<(String, String)>, BackupError> {
        let mut found = BTreeSet::new();
        for partition in folders(&self.folder.join(OBJECTS))? {
            for entry in storage::entries(&partition)?.into_iter().flatten() {
                found.insert((partition.file_name().unwrap_or_default().to_owned(), entry.name().to_owned()));
            }
        }
        Ok(found)
    }

    /// The path of what has a place of a segment.
    pub(crate) fn stored_at(&self, partition: &str, name: &str) -> Utf8PathBuf {
        self.folder.join(OBJECTS).join(partition).join(name)
    }

    /// The folders of backups whose manifest was never written, or has gone.
    pub(crate) fn folders_without_a_manifest(&self) -> Result<Vec<Utf8PathBuf>, BackupError> {
        let mut found = Vec::new();
        for folder in folders(&self.folder)? {
            if ![OBJECTS, REPLAYS].contains(&folder.file_name().unwrap_or_default())
                && place::manifests(&folder)?.is_empty()
            {
                found.push(folder);
            }
        }
        Ok(found)
    }

    /// Files beside those that an archive has: of heads, removals and backups.
    pub(crate) fn strangers(&self) -> Result<Vec<Utf8PathBuf>, BackupError> {
        let mut found = Vec::new();
        for entry in storage::entries(&self.folder)?.into_iter().flatten() {
            let name = entry.name();
            if !entry.is_folder {
                if ![HEAD, PRUNED].contains(&name) && !is_temporary(name) {
                    found.push(entry.path);
                }
            } else if ![OBJECTS, REPLAYS].contains(&name) {
                let manifests = place::manifests(&entry.path)?;
                let others = storage::entries(&entry.path)?.into_iter().flatten();
                let others = others.filter(|file| manifests.iter().all(|(manifest, _)| *manifest != file.path));
                found.extend(others.filter(|file| !is_temporary(file.name())).map(|file| file.path));
            }
        }
        Ok(found)
    }

    /// Removes segments that no backup names, which a killed backup leaves. Where a manifest cannot be read, nothing is removed.
    pub(crate) fn remove_leftovers(&self) -> Result<(), BackupError> {
        let mut left = self.stored()?;
        for backup in self.backups()? {
            let Ok(loaded) = backup else { return Ok(()) };
            for partition in &loaded.manifest.partitions {
                for segment in &partition.segments {
                    left.remove(&(partition.partition.to_string(), segment.name.clone()));
                }
            }
        }
        for (partition, name) in left {
            files::remove(&self.stored_at(&partition, &name))?;
        }
        Ok(())
    }
}

impl Loaded {
    pub(crate) fn link(&self) -> PreviousBackup {
        PreviousBackup { backup: self.manifest.backup.clone(), manifest: self.sha256.clone() }
    }

    /// The records of a partition, in order, each block verified before any of its records is handed out.
    pub(crate) fn records(&self, partition: &PartitionBackup) -> Records {
        let paths = partition
            .segments
            .iter()
            .map(|segment| (self.archive.segment(partition.partition, &segment.name), segment.name.clone()));
        let seal = self.archive.store.seal().clone();
        Records { left: paths.collect::<Vec<_>>().into_iter(), open: None, records: Vec::new().into_iter(), seal }
    }
}

/// Reads segment after segment, of which one is in memory at a time.
pub(crate) struct Records {
    left: std::vec::IntoIter<(Utf8PathBuf, String)>,
    open: Option<(Utf8PathBuf, Stored)>,
    records: std::vec::IntoIter<Record>,
    seal: Seal,
}

impl Records {
    /// The records of the next block; none after the last.
    pub(crate) fn next_block(&mut self) -> Option<Result<Vec<Record>, BackupError>> {
        loop {
            if let Some((path, stored)) = &mut self.open
                && let Some(block) = stored.next()
            {
                return Some(block.map_err(|damaged| BackupError::malformed(path, damaged)));
            }
            let (path, name) = self.left.next()?;
            match open(&path, &name, &self.seal) {
                Ok(stored) => self.open = Some((path, stored)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            match self.next_block()? {
                Ok(records) => self.records = records.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A segment of which every byte is what its name says.
pub(crate) fn open(path: &Utf8Path, name: &str, seal: &Seal) -> Result<Stored, BackupError> {
    let named = Named::parse(name).ok_or_else(|| BackupError::malformed(path, "it has no name of a segment"))?;
    let bytes = files::read_if_there(path)?.ok_or_else(|| BackupError::checksum(path, "a segment", "no such file"))?;
    match named.compare(&bytes) {
        Ok(()) => Stored::new(path, seal.open(path, bytes)?),
        // Nothing of what is encrypted is left to be located.
        Err((expected, found)) if seal.is_on() => Err(BackupError::checksum(path, expected, found)),
        Err((expected, found)) => {
            let stored = Stored::new(path, bytes)?;
            let located = stored.damage().into_iter().map(|damaged| damaged.to_string()).collect::<Vec<_>>();
            let located = if located.is_empty() { String::new() } else { format!(" ({})", located.join("; ")) };
            Err(BackupError::checksum(path, expected, format!("{found}{located}")))
        }
    }
}

/// Requires that the stored bytes of a segment are those that its name stands for.
pub(crate) fn compare(path: &Utf8Path, name: &str) -> Result<(), BackupError> {
    let named = Named::parse(name).ok_or_else(|| BackupError::malformed(path, "it has no name of a segment"))?;
    let bytes = files::read_if_there(path)?.ok_or_else(|| BackupError::checksum(path, "a segment", "no such file"))?;
    named.compare(&bytes).map_err(|(expected, found)| BackupError::checksum(path, expected, found))
}

/// The folders in a folder, by name; none where there is no such folder.
fn folders(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, BackupError> {
    let entries = storage::entries(folder)?.unwrap_or_default().into_iter().filter(|entry| entry.is_folder);
    let mut found: Vec<Utf8PathBuf> = entries.map(|entry| entry.path).collect();
    found.sort();
    Ok(found)
}
