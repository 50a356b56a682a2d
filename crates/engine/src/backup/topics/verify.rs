//! Listing backups of topics, and checking every byte of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    archive::{Loaded, TopicArchive, open},
    manifest::{Gap, PartitionBackup, TopicBackup, discontinuities},
};
use crate::backup::{Activity, BackupError, Defect, DefectKind, Repository};
use cdc_model::units::{Exit, counted};

/// A backup of a topic, or one that cannot be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedBackup {
    /// The topic; the name of its folder where the manifest cannot be read.
    pub topic: String,
    /// The Kafka cluster that it is of.
    pub cluster_id: Option<String>,
    /// Its id.
    pub backup: Option<String>,
    /// When it began, RFC 3339.
    pub begin: Option<String>,
    /// How many records it holds.
    pub records: u64,
    /// The bytes of its segments as they are stored; those that other backups share count in each.
    pub bytes: u64,
    /// Offsets that were removed before they were read, and others without a record, by partition.
    pub gaps: BTreeMap<i32, Vec<Gap>>,
    /// What was noted when it was made.
    pub notes: Vec<String>,
    /// Why it cannot be used.
    pub defect: Option<String>,
}

/// The backups of all topics, of one name if one is given: oldest first within a topic.
pub fn list_topics(repository: &Repository, topic: Option<&str>) -> Result<Vec<ListedBackup>, BackupError> {
    let mut listed = Vec::new();
    for archive in TopicArchive::all(repository.store(), topic)? {
        for backup in archive.backups()? {
            listed.push(match backup {
                Ok(loaded) => listed_of(&loaded.manifest),
                Err(error) => ListedBackup {
                    topic: archive.folder.file_name().unwrap_or_default().to_owned(),
                    cluster_id: None,
                    backup: None,
                    begin: None,
                    records: 0,
                    bytes: 0,
                    gaps: BTreeMap::new(),
                    notes: Vec::new(),
                    defect: Some(error.to_string()),
                },
            });
        }
    }
    Ok(listed)
}

fn listed_of(manifest: &TopicBackup) -> ListedBackup {
    let with_gaps = manifest.partitions.iter().filter(|partition| !partition.gaps.is_empty());
    ListedBackup {
        topic: manifest.topic.clone(),
        cluster_id: manifest.cluster_id.clone(),
        backup: Some(manifest.backup.clone()),
        begin: Some(manifest.begin.clone()),
        records: manifest.records(),
        bytes: manifest.bytes(),
        gaps: with_gaps.map(|partition| (partition.partition, partition.gaps.clone())).collect(),
        notes: manifest.notes.clone(),
        defect: None,
    }
}

/// What a check of backups of topics saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicReport {
    /// The topics that were looked at.
    pub topics: BTreeSet<String>,
    /// How many backups.
    pub backups: u64,
    /// How many segments were read; one that several backups share is read once.
    pub segments: u64,
    /// How many records these hold.
    pub records: u64,
    /// How many record batches, each with its checksum.
    pub batches: u64,
    /// Their bytes as they are stored.
    pub bytes: u64,
    /// What is missing, damaged or too much.
    pub defects: Vec<Defect>,
    /// What is worth knowing and no defect: recorded gaps.
    pub notes: Vec<String>,
}

impl TopicReport {
    /// 0, 30 (something is missing or too much) or 31 (checksum).
    pub fn exit(&self) -> Exit {
        let is_checksum = |defect: &Defect| defect.kind == DefectKind::Checksum;
        match self.defects.as_slice() {
            [] => Exit::Passed,
            all if all.iter().any(is_checksum) => Exit::ChecksumMismatch,
            _ => Exit::BackupIncomplete,
        }
    }

    fn defect(&mut self, kind: DefectKind, path: impl ToString, expected: impl ToString, found: impl ToString) {
        let (path, expected, found) = (path.to_string(), expected.to_string(), found.to_string());
        self.defects.push(Defect { kind, path, expected, found });
    }

    fn error(&mut self, path: impl ToString, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Checksum { path, expected, found } => self.defect(DefectKind::Checksum, path, expected, found),
            BackupError::Malformed { message, .. } => {
                self.defect(DefectKind::Checksum, path, "what was written", message);
            }
            other => return Err(other),
        }
        Ok(())
    }
}

/// Reads every byte of the backups of all topics, or of one topic: the hash of each segment, the checksum of each block and batch, the
/// counts, and whether segments and recorded gaps leave out no offset. Blocks.
pub fn verify_topics(
    repository: &Repository,
    topic: Option<&str>,
    backup: Option<&str>,
) -> Result<TopicReport, BackupError> {
    let _lock = repository.lock(Activity::Check, "topic verify")?;
    let mut report = TopicReport::default();
    for archive in TopicArchive::all(repository.store(), topic)? {
        verify_archive(&archive, backup, &mut report)?;
    }
    Ok(report)
}

fn verify_archive(archive: &TopicArchive, only: Option<&str>, report: &mut TopicReport) -> Result<(), BackupError> {
    let (mut loaded, mut seen) = (Vec::new(), BTreeSet::new());
    let mut readable = true;
    for backup in archive.backups()? {
        match backup {
            Ok(backup) => loaded.push(backup),
            Err(error) => {
                readable = false;
                report.error(&archive.folder, error)?;
            }
        }
    }
    linked(archive, &loaded, readable, report)?;
    for backup in &loaded {
        let manifest = &backup.manifest;
        if only.is_some_and(|only| only != manifest.backup) {
            continue;
        }
        report.backups += 1;
        report.topics.insert(manifest.topic.clone());
        for partition in &manifest.partitions {
            verify_partition(backup, partition, &mut seen, report)?;
        }
    }
    if only.is_none() && readable {
        let named = |backup: &Loaded| {
            let all = backup.manifest.partitions.iter();
            let named = all.flat_map(|p| p.segments.iter().map(|s| (p.partition.to_string(), s.name.clone())));
            named.collect::<Vec<_>>()
        };
        let named: BTreeSet<_> = loaded.iter().flat_map(named).collect();
        let left = archive.stored()?.difference(&named).count();
        if left > 0 {
            let files = counted(left, "file");
            report
                .notes
                .push(format!("{}: {files} that no backup names; the next backup removes them", archive.folder));
        }
    }
    Ok(())
}

/// Whether every backup that another one, or the head, names is there.
fn linked(
    archive: &TopicArchive,
    loaded: &[Loaded],
    readable: bool,
    report: &mut TopicReport,
) -> Result<(), BackupError> {
    let head = match archive.head() {
        Ok(head) => head,
        Err(error) => {
            report.error(archive.folder.join("head.json"), error)?;
            None
        }
    };
    if head.is_none() && !loaded.is_empty() && report.defects.is_empty() {
        report.defect(DefectKind::Incomplete, archive.folder.join("head.json"), "the newest backup", "no such file");
    }
    let named = loaded.iter().filter_map(|backup| backup.manifest.previous.clone()).chain(head);
    for link in named {
        let there = loaded.iter().find(|backup| backup.manifest.backup == link.backup);
        let path = archive.folder.join(&link.backup);
        match there {
            Some(backup) if backup.sha256 == link.manifest => {}
            Some(backup) => report.defect(DefectKind::Checksum, path, &link.manifest, &backup.sha256),
            // Said already as one that cannot be read.
            None if !readable => {}
            None => report.defect(DefectKind::Incomplete, path, "a backup of the topic", "none"),
        }
    }
    Ok(())
}

fn verify_partition(
    backup: &Loaded,
    partition: &PartitionBackup,
    seen: &mut BTreeSet<(i32, String)>,
    report: &mut TopicReport,
) -> Result<(), BackupError> {
    let (manifest, number) = (&backup.manifest, partition.partition);
    let of = format!("{} ({} partition {number})", backup.archive.folder, manifest.backup);
    for wrong in discontinuities(partition) {
        report.defect(DefectKind::Incomplete, &of, "segments and gaps that follow one another", wrong);
    }
    for gap in &partition.gaps {
        report.notes.push(format!("{} partition {number} in {}: {gap}", manifest.topic, manifest.backup));
    }
    for segment in &partition.segments {
        if !seen.insert((number, segment.name.clone())) {
            continue;
        }
        let path = backup.archive.segment(number, &segment.name);
        if !crate::backup::is_there(&path)? {
            report.defect(DefectKind::Incomplete, &path, "a segment", "no such file");
            continue;
        }
        let stored = match open(&path, &segment.name) {
            Ok(stored) => stored,
            Err(error) => {
                report.error(&path, error)?;
                continue;
            }
        };
        let says = stored.description.clone();
        let expected = (manifest.topic.as_str(), number, segment.from, segment.to, segment.records, segment.raw);
        if (says.topic.as_str(), says.partition, says.from, says.to, says.records, says.raw) != expected {
            report.defect(DefectKind::Checksum, &path, format!("{expected:?}"), "another description");
        }
        report.segments += 1;
        report.records += says.records;
        report.batches += says.blocks.iter().map(|block| block.batches).sum::<u64>();
        report.bytes += segment.stored();
        for damaged in stored.damage() {
            report.defect(DefectKind::Checksum, &path, "what was written", damaged);
        }
    }
    Ok(())
}
