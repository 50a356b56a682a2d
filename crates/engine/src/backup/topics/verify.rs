//! Listing backups of topics, and checking every byte of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    archive::{Loaded, TopicArchive, compare, open},
    manifest::{Gap, PartitionBackup, TopicBackup, discontinuities},
    pruned::PrunedBackups,
    segment::Named,
};
use crate::backup::{Activity, BackupError, Defect, DefectKind, Repository, encode_name, files::is_temporary};
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

    fn error(&mut self, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Checksum { path, expected, found } => self.defect(DefectKind::Checksum, path, expected, found),
            BackupError::Malformed { path, message } => {
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
    repository.unlock()?;
    let _lock = repository.lock(Activity::Check, "topic verify")?;
    let mut report = TopicReport::default();
    for archive in TopicArchive::all(repository.store(), topic)? {
        verify_archive(&archive, backup, Depth::Bytes, &mut report)?;
    }
    Ok(report)
}

/// How closely archives are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Manifests, heads, and the names and sizes of segments.
    Names,
    /// And every byte that is stored, as it is stored.
    Stored,
    /// Every byte.
    Bytes,
}

/// Looks at the archives of all topics for a caller that holds the lock of a check: at names, sizes, manifests and heads, or, with
/// `deep`, at every byte; and whether each backup is there that recovery points name, by topic and id. Blocks.
pub(crate) fn check_topics(
    repository: &Repository,
    deep: bool,
    named: &[(String, String)],
) -> Result<TopicReport, BackupError> {
    let mut report = TopicReport::default();
    let mut there = BTreeSet::new();
    let depth = match (deep, repository.is_encrypted()) {
        (true, _) => Depth::Bytes,
        (false, true) => Depth::Stored,
        (false, false) => Depth::Names,
    };
    for archive in TopicArchive::all(repository.store(), None)? {
        verify_archive(&archive, None, depth, &mut report)?;
        strangers(&archive, &mut report)?;
        for backup in archive.backups()?.into_iter().flatten() {
            there.insert((backup.manifest.topic, backup.manifest.backup));
        }
    }
    for (topic, backup) in named.iter().filter(|named| !there.contains(*named)) {
        // What is wrong with it may have been said.
        let folder = format!("/{}/{backup}/", encode_name(topic));
        if report.defects.iter().any(|defect| defect.path.contains(&folder)) {
            continue;
        }
        let path = format!("topics/*/{}/{backup}", encode_name(topic));
        report.defect(DefectKind::Incomplete, path, "a backup of the topic, which a recovery point names", "none");
    }
    Ok(report)
}

/// Names what has no place in an archive.
fn strangers(archive: &TopicArchive, report: &mut TopicReport) -> Result<(), BackupError> {
    for (partition, name) in archive.stored()? {
        let is_encrypted = archive.store().seal().is_on();
        let is_one = Named::parse(&name).is_some_and(|named| named.is_encrypted == is_encrypted);
        if !is_one && !is_temporary(&name) {
            let path = archive.stored_at(&partition, &name);
            report.defect(DefectKind::Incomplete, path, "no such file", "one that nothing names");
        }
    }
    for path in archive.strangers()? {
        report.defect(DefectKind::Incomplete, path, "no such file", "one that nothing names");
    }
    Ok(())
}

fn verify_archive(
    archive: &TopicArchive,
    only: Option<&str>,
    depth: Depth,
    report: &mut TopicReport,
) -> Result<(), BackupError> {
    let (mut loaded, mut seen) = (Vec::new(), BTreeSet::new());
    let mut readable = true;
    for backup in archive.backups()? {
        match backup {
            Ok(backup) => loaded.push(backup),
            Err(error) => {
                readable = false;
                report.error(error)?;
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
            verify_partition(backup, partition, depth, &mut seen, report)?;
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
            report.notes.push(format!(
                "{}: {files} that no backup names; the next `topic backup` or `backup prune` removes them",
                archive.folder
            ));
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
            report.error(error)?;
            None
        }
    };
    if head.is_none() && !loaded.is_empty() && report.defects.is_empty() {
        report.defect(DefectKind::Incomplete, archive.folder.join("head.json"), "the newest backup", "no such file");
    }
    let pruned = match PrunedBackups::read(archive) {
        Ok(pruned) => pruned,
        Err(error) => {
            report.error(error)?;
            return Ok(());
        }
    };
    if head.as_ref().is_some_and(|head| head.keeps_pruned) && !PrunedBackups::is_there(archive)? {
        let path = archive.folder.join("pruned.json");
        report.defect(DefectKind::Incomplete, path, "what was removed on purpose", "no such file");
        return Ok(());
    }
    let named = loaded.iter().filter_map(|backup| backup.manifest.previous.clone()).chain(head.map(|head| head.newest));
    let mut said = BTreeSet::new();
    for link in named.filter(|link| !pruned.covers(link)) {
        let there = loaded.iter().find(|backup| backup.manifest.backup == link.backup);
        let path = archive.manifest_of(&link);
        if !said.insert(path.clone()) {
            continue;
        }
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
    depth: Depth,
    seen: &mut BTreeSet<(i32, String)>,
    report: &mut TopicReport,
) -> Result<(), BackupError> {
    let (manifest, number) = (&backup.manifest, partition.partition);
    let of = format!("{} ({} partition {number})", backup.archive.folder, manifest.backup);
    for wrong in discontinuities(partition) {
        report.defect(DefectKind::Incomplete, &of, "segments and gaps that follow one another", wrong);
    }
    for gap in partition.gaps.iter().filter(|_| depth == Depth::Bytes) {
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
        if depth == Depth::Names {
            report.segments += 1;
            if !backup.archive.has(number, segment)? {
                report.defect(DefectKind::Checksum, &path, counted(segment.stored(), "byte"), "another size");
            }
            continue;
        }
        if depth == Depth::Stored {
            report.segments += 1;
            if let Err(error) = compare(&path, &segment.name) {
                report.error(error)?;
            }
            continue;
        }
        let stored = match open(&path, &segment.name, backup.archive.store().seal()) {
            Ok(stored) => stored,
            Err(error) => {
                report.error(error)?;
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

#[cfg(test)]
pub(crate) mod tests {
    use camino::Utf8PathBuf;
    use cdc_pipeline::client::kafka::TopicSpec;
    use rstest::rstest;

    use super::*;
    use crate::backup::{
        fixture,
        topics::{
            Gap, GapReason, Schemas,
            manifest::{FORMAT, PreviousBackup},
            segment::{Builder, tests::record},
        },
    };

    /// Offsets 3 to 8 of a partition, in one segment for each range.
    pub(crate) fn partition(archive: &TopicArchive, number: i32, ranges: &[(i64, i64)]) -> PartitionBackup {
        let segments = ranges.iter().map(|(from, to)| {
            let mut builder = Builder::new("t", number, *from);
            (*from..*to).for_each(|offset| builder.push(record(offset, "x")).unwrap());
            archive.put(&builder.finish(*to).unwrap()).unwrap()
        });
        let segments = segments.collect();
        let gaps = vec![Gap { from: 0, to: 3, why: GapReason::Removed }];
        let end = ranges.last().unwrap().1;
        PartitionBackup { partition: number, log_start: 3, end, high_watermark: end, segments, gaps }
    }

    pub(crate) fn publish(
        archive: &TopicArchive,
        backup: &str,
        previous: Option<PreviousBackup>,
        parts: Vec<PartitionBackup>,
    ) {
        let spec = TopicSpec { name: "t".into(), partitions: 2, replication: 1, settings: BTreeMap::new() };
        // The id begins with the time: 20261122T020000Z.
        let begin = format!("{}-{}-{}T02:00:00Z", &backup[..4], &backup[4..6], &backup[6..8]);
        let manifest = TopicBackup {
            format: FORMAT,
            backup: backup.into(),
            previous,
            topic: "t".into(),
            topic_id: Some("id".into()),
            cluster_id: Some("c".into()),
            begin: begin.clone(),
            end: begin,
            spec,
            partitions: parts,
            groups: Vec::new(),
            schemas: Schemas::default(),
            notes: Vec::new(),
            unread: Vec::new(),
        };
        PrunedBackups::make(archive).unwrap();
        archive.publish(&manifest).unwrap();
    }

    /// Two backups of a topic with two partitions; the second adds a segment to the first partition.
    fn archived() -> (tempfile::TempDir, Repository, TopicArchive) {
        let (folder, repository) = fixture::repository();
        let archive = TopicArchive::of(repository.store(), Some("c"), "t");
        let other = partition(&archive, 1, &[(3, 6)]);
        publish(&archive, "20261122T020000Z-0001", None, vec![partition(&archive, 0, &[(3, 6)]), other.clone()]);
        let first = archive.newest().unwrap().unwrap().link();
        let longer = partition(&archive, 0, &[(3, 6), (6, 9)]);
        publish(&archive, "20261122T030000Z-0002", Some(first), vec![longer, other]);
        (folder, repository, archive)
    }

    fn files_of(archive: &TopicArchive, part: &str) -> Vec<Utf8PathBuf> {
        let found = fixture::tree(&archive.folder).into_iter().filter(|path| path.contains(part));
        found.map(|path| archive.folder.join(path)).collect()
    }

    #[test]
    fn backups_share_segments_and_gaps_are_told() {
        let (_folder, repository, archive) = archived();
        let report = verify_topics(&repository, None, None).unwrap();
        assert_eq!(report.defects, []);
        assert_eq!((report.backups, report.segments, report.records, report.batches), (2, 3, 9, 3));
        assert_eq!(report.notes.len(), 4, "a gap in each partition of each backup: {:?}", report.notes);
        assert_eq!(report.exit(), Exit::Passed);
        let listed = list_topics(&repository, Some("t")).unwrap();
        assert_eq!(listed.iter().map(|backup| backup.records).collect::<Vec<_>>(), [6, 9]);
        assert!(list_topics(&repository, Some("other")).unwrap().is_empty());
        archive.remove_leftovers().unwrap();
        assert_eq!(verify_topics(&repository, None, None).unwrap(), report, "what is named stays");
    }

    #[rstest]
    #[case::a_byte_of_a_segment("objects/0/", fixture::flip, Exit::ChecksumMismatch)]
    #[case::a_lost_segment("objects/1/", remove, Exit::BackupIncomplete)]
    #[case::a_byte_of_a_manifest("0002/manifest", fixture::flip, Exit::ChecksumMismatch)]
    #[case::the_first_backup("0001/manifest", remove, Exit::BackupIncomplete)]
    #[case::the_newest_backup("0002/manifest", remove, Exit::BackupIncomplete)]
    #[case::the_head("head.json", remove, Exit::BackupIncomplete)]
    #[case::a_byte_of_the_head("head.json", fixture::flip, Exit::ChecksumMismatch)]
    fn what_is_lost_or_damaged_is_named(#[case] part: &str, #[case] plant: fn(&camino::Utf8Path), #[case] exit: Exit) {
        let (_folder, repository, archive) = archived();
        plant(&files_of(&archive, part)[0]);
        let report = verify_topics(&repository, None, None).unwrap();
        assert_eq!(report.exit(), exit, "{report:?}");
    }

    fn remove(path: &camino::Utf8Path) {
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_segment_of_another_partition_is_noticed() {
        let (_folder, repository, archive) = archived();
        let mut swapped = partition(&archive, 1, &[(3, 6)]);
        swapped.partition = 0;
        let from = archive.segment(1, &swapped.segments[0].name);
        std::fs::copy(&from, archive.segment(0, &swapped.segments[0].name)).unwrap();
        publish(&archive, "20261122T040000Z-0003", None, vec![swapped]);
        let report = verify_topics(&repository, None, None).unwrap();
        assert_eq!(report.exit(), Exit::ChecksumMismatch, "{report:?}");
    }

    #[test]
    fn what_no_backup_names_is_told_and_removed() {
        let (_folder, repository, archive) = archived();
        let left = partition(&archive, 0, &[(3, 5)]);
        let notes = verify_topics(&repository, None, None).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("1 file that no backup names")), "{notes:?}");
        archive.remove_leftovers().unwrap();
        assert!(!archive.has(0, &left.segments[0]).unwrap());
        assert_eq!(verify_topics(&repository, None, None).unwrap().defects, []);
    }

    #[test]
    fn nothing_is_removed_beside_a_manifest_that_cannot_be_read() {
        let (_folder, _repository, archive) = archived();
        let left = partition(&archive, 0, &[(3, 5)]);
        fixture::flip(&files_of(&archive, "0001/manifest")[0]);
        archive.remove_leftovers().unwrap();
        assert!(archive.has(0, &left.segments[0]).unwrap());
    }

    #[test]
    fn records_are_read_in_order_and_the_last_by_itself() {
        let (_folder, _repository, archive) = archived();
        let newest = archive.newest().unwrap().unwrap();
        let part = &newest.manifest.partitions[0];
        let offsets: Vec<i64> = newest.records(part).map(|record| record.unwrap().offset).collect();
        assert_eq!(offsets, [3, 4, 5, 6, 7, 8]);
        let last = archive.last_record(0, part.segments.last().unwrap()).unwrap();
        assert_eq!(last, Some(record(8, "x")));
        fixture::flip(&archive.segment(0, &part.segments[1].name));
        let read: Vec<_> = newest.records(part).collect();
        assert_eq!(read.len(), 4, "three records, and an error");
        assert!(read[3].as_ref().unwrap_err().is_damage());
    }

    fn checked(repository: &Repository, deep: bool, named: &[(&str, &str)]) -> TopicReport {
        let named: Vec<_> = named.iter().map(|(topic, id)| ((*topic).to_owned(), (*id).to_owned())).collect();
        check_topics(repository, deep, &named).unwrap()
    }

    #[rstest]
    #[case::a_lost_segment("objects/1/", remove, Exit::BackupIncomplete)]
    #[case::a_segment_that_is_cut_short("objects/1/", cut, Exit::ChecksumMismatch)]
    #[case::a_byte_of_a_manifest("0002/manifest", fixture::flip, Exit::ChecksumMismatch)]
    #[case::the_first_backup("0001/manifest", remove, Exit::BackupIncomplete)]
    #[case::the_head("head.json", remove, Exit::BackupIncomplete)]
    #[case::a_file_that_nothing_names("head.json", copy, Exit::BackupIncomplete)]
    fn a_check_of_names_finds_it_as_well(#[case] part: &str, #[case] plant: fn(&camino::Utf8Path), #[case] exit: Exit) {
        let (_folder, repository, archive) = archived();
        assert_eq!(checked(&repository, false, &[]).exit(), Exit::Passed);
        plant(&files_of(&archive, part)[0]);
        for deep in [false, true] {
            let report = checked(&repository, deep, &[]);
            assert_eq!(report.exit(), exit, "{report:?}");
        }
    }

    fn cut(path: &camino::Utf8Path) {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    }

    fn copy(path: &camino::Utf8Path) {
        std::fs::copy(path, path.with_file_name("stranger")).unwrap();
    }

    #[test]
    fn only_a_deep_check_reads_bytes() {
        let (_folder, repository, archive) = archived();
        fixture::flip(&files_of(&archive, "objects/0/")[0]);
        assert_eq!(checked(&repository, false, &[]).exit(), Exit::Passed);
        assert_eq!(checked(&repository, true, &[]).exit(), Exit::ChecksumMismatch);
    }

    #[test]
    fn what_a_recovery_point_names_must_be_there() {
        let (_folder, repository, _archive) = archived();
        assert_eq!(checked(&repository, false, &[("t", "20261122T020000Z-0001")]).exit(), Exit::Passed);
        for lost in [("t", "20261122T020000Z-0009"), ("other", "20261122T020000Z-0001")] {
            let report = checked(&repository, false, &[lost]);
            assert_eq!(report.exit(), Exit::BackupIncomplete, "{report:?}");
        }
    }
}
