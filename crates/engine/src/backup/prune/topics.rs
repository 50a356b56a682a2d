//! Archives of topics: which backups of records go, and with them the segments that no other backup names.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{act::Act, keep::Keep};
use crate::backup::{
    BackupError, Repository, place,
    pruned::PruneReason,
    storage::{self, Kind},
    topics::{Loaded, PrunedBackup, PrunedBackups, TopicArchive},
};

/// A segment's place: partition's folder and name.
type SegmentPlace = (String, String);

/// A backup of a topic's records, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedTopicBackup {
    /// The topic.
    pub topic: String,
    /// The backup's id.
    pub backup: String,
    /// When it began, RFC 3339.
    pub begin: String,
    /// Why it goes; null for one that stays.
    pub goes: Option<PruneReason>,
}

/// The archives of all topics.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicsStock {
    archives: Vec<ArchiveStock>,
    /// What is not touched, and why.
    pub(super) notes: Vec<String>,
}

/// The archive of a topic, all of whose backups can be read.
#[derive(Clone, Debug)]
struct ArchiveStock {
    archive: TopicArchive,
    topic: String,
    pruned: PrunedBackups,
    /// Oldest first.
    backups: Vec<BackupStock>,
    /// Every stored segment with its bytes.
    stored: BTreeMap<SegmentPlace, u64>,
    /// Folders of backups that do not exist: their manifests were never written, or have gone.
    remains: Vec<Utf8PathBuf>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupStock {
    pub(super) id: String,
    manifest: String,
    begin_text: String,
    /// None where that cannot be read: age removes no such backup.
    pub(super) begin: Option<Timestamp>,
    /// Whether every segment is there with its size.
    pub(super) is_usable: bool,
    /// Whether its removal was announced before.
    pub(super) is_announced: bool,
    segments: BTreeSet<SegmentPlace>,
}

/// Which backups go, by the places of archive and backup, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopicsDecision {
    going: BTreeMap<(usize, usize), PruneReason>,
    /// The bytes that this frees.
    pub(super) freed: u64,
}

impl TopicsStock {
    /// Looks at everything. An archive of which a backup cannot be read is noted and stays: which segments that one needs is not known.
    pub(super) fn of(repository: &Repository) -> Result<TopicsStock, BackupError> {
        let mut stock = TopicsStock::default();
        for archive in TopicArchive::all(repository.store(), None)? {
            match ArchiveStock::of(archive.clone())? {
                Ok(one) => stock.archives.push(one),
                Err(why) => stock.notes.push(format!("the archive {} stays as it is: {why}", archive.folder)),
            }
        }
        Ok(stock)
    }

    /// Decides: what retention does not keep goes, and, until `short` bytes are free, the oldest of what may go. Never the newest
    /// backup of a topic, nor the newest that is usable, nor one that a recovery point names.
    pub(super) fn decide(&self, named: &BTreeSet<String>, keep: Keep, now: Timestamp, short: u64) -> TopicsDecision {
        let mut going = BTreeMap::new();
        let mut candidates = Vec::new();
        for (at, archive) in self.archives.iter().enumerate() {
            let stays = protected(&archive.backups, named);
            let outdated = outdated(&archive.backups, keep, now);
            for (nth, backup) in archive.backups.iter().enumerate().filter(|(nth, _)| !stays.contains(nth)) {
                match outdated.contains(&nth) || backup.is_announced {
                    true => drop(going.insert((at, nth), PruneReason::Retention)),
                    false => candidates.push((backup.begin, at, nth)),
                }
            }
        }
        candidates.sort();
        let mut freed = self.freed(&going);
        let mut oldest = candidates.into_iter();
        while freed < short
            && let Some((_, at, nth)) = oldest.next()
        {
            going.insert((at, nth), PruneReason::Budget);
            freed = self.freed(&going);
        }
        TopicsDecision { going, freed }
    }

    fn freed(&self, going: &BTreeMap<(usize, usize), PruneReason>) -> u64 {
        let of = |(at, archive): (usize, &ArchiveStock)| {
            let left = archive.left(at, going);
            left.iter().filter_map(|place| archive.stored.get(place)).sum::<u64>()
        };
        self.archives.iter().enumerate().map(of).sum()
    }

    /// Everything that has to be done. Of a backup the manifest goes first: what is left of it is no backup to anyone; segments go when
    /// no manifest names them any more.
    pub(super) fn acts(&self, decision: &TopicsDecision, now: Timestamp) -> Result<Vec<Act>, BackupError> {
        let mut acts = Vec::new();
        for (at, archive) in self.archives.iter().enumerate() {
            let going: Vec<(&BackupStock, PruneReason)> = archive
                .backups
                .iter()
                .enumerate()
                .filter_map(|(nth, backup)| Some((backup, *decision.going.get(&(at, nth))?)))
                .collect();
            if !going.is_empty() {
                let mut pruned = archive.pruned.clone();
                for (backup, why) in &going {
                    let entry = PrunedBackup {
                        manifest: backup.manifest.clone(),
                        begin: backup.begin_text.clone(),
                        why: *why,
                        at: now.to_string(),
                    };
                    pruned.backups.insert(backup.id.clone(), entry);
                }
                acts.push(Act::AnnounceTopic(archive.archive.clone(), pruned));
            }
            for (backup, _) in &going {
                let folder = archive.archive.folder.join(&backup.id);
                acts.extend(place::manifests(&folder)?.into_iter().map(|(path, _)| Act::File(path)));
                acts.push(Act::Folder(folder));
            }
            acts.extend(archive.remains.iter().cloned().map(Act::Folder));
            let left = archive.left(at, &decision.going);
            acts.extend(
                left.into_iter().map(|(partition, name)| Act::File(archive.archive.stored_at(&partition, &name))),
            );
        }
        Ok(acts)
    }

    /// Every backup, oldest first within a topic, with what becomes of it.
    pub(super) fn report(&self, decision: &TopicsDecision) -> Vec<PrunedTopicBackup> {
        let mut all = Vec::new();
        for (at, archive) in self.archives.iter().enumerate() {
            all.extend(archive.backups.iter().enumerate().map(|(nth, backup)| PrunedTopicBackup {
                topic: archive.topic.clone(),
                backup: backup.id.clone(),
                begin: backup.begin_text.clone(),
                goes: decision.going.get(&(at, nth)).copied(),
            }));
        }
        all
    }
}

impl ArchiveStock {
    /// What an archive holds, or why that is not known.
    fn of(archive: TopicArchive) -> Result<Result<ArchiveStock, String>, BackupError> {
        let (mut backups, mut topic) = (Vec::new(), archive.folder.file_name().unwrap_or_default().to_owned());
        let pruned = match PrunedBackups::read(&archive) {
            Ok(pruned) => pruned,
            Err(error) if error.is_damage() => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        for backup in archive.backups()? {
            match backup {
                Ok(backup) => {
                    topic.clone_from(&backup.manifest.topic);
                    backups.push(BackupStock::of(&backup, &pruned)?);
                }
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let mut stored = BTreeMap::new();
        for (partition, name) in archive.stored()? {
            let bytes = match storage::look(&archive.stored_at(&partition, &name))? {
                Some(Kind::Object(bytes)) => bytes,
                _ => 0,
            };
            stored.insert((partition, name), bytes);
        }
        let remains = archive.folders_without_a_manifest()?;
        Ok(Ok(ArchiveStock { archive, topic, pruned, backups, stored, remains }))
    }

    /// The segments that no backup names which stays.
    fn left(&self, at: usize, going: &BTreeMap<(usize, usize), PruneReason>) -> Vec<SegmentPlace> {
        let staying = self.backups.iter().enumerate().filter(|(nth, _)| !going.contains_key(&(at, *nth)));
        let named: BTreeSet<&SegmentPlace> = staying.flat_map(|(_, backup)| &backup.segments).collect();
        self.stored.keys().filter(|place| !named.contains(place)).cloned().collect()
    }
}

impl BackupStock {
    fn of(backup: &Loaded, pruned: &PrunedBackups) -> Result<BackupStock, BackupError> {
        let (mut is_usable, mut segments) = (true, BTreeSet::new());
        for partition in &backup.manifest.partitions {
            for segment in &partition.segments {
                is_usable &= backup.archive.has(partition.partition, segment)?;
                segments.insert((partition.partition.to_string(), segment.name.clone()));
            }
        }
        Ok(BackupStock {
            id: backup.manifest.backup.clone(),
            manifest: backup.sha256.clone(),
            begin_text: backup.manifest.begin.clone(),
            begin: backup.manifest.begin.parse().ok(),
            is_usable,
            is_announced: pruned.covers(&backup.link()),
            segments,
        })
    }
}

/// What nothing removes.
pub(super) fn protected(backups: &[BackupStock], named: &BTreeSet<String>) -> BTreeSet<usize> {
    let newest = backups.len().checked_sub(1);
    let usable = backups.iter().rposition(|backup| backup.is_usable);
    let named = backups.iter().enumerate().filter(|(_, backup)| named.contains(&backup.id)).map(|(nth, _)| nth);
    newest.into_iter().chain(usable).chain(named).collect()
}

/// What retention does not keep. Days count back from the newest backup, not from today: the archive of a topic whose backups stopped
/// does not fade away.
pub(super) fn outdated(backups: &[BackupStock], keep: Keep, now: Timestamp) -> BTreeSet<usize> {
    match keep {
        Keep::Count(count) => (0..backups.len().saturating_sub(count as usize)).collect(),
        Keep::Days(days) => {
            let Some(newest) = backups.iter().filter_map(|backup| backup.begin).max() else { return BTreeSet::new() };
            let cutoff = newest.min(now) - SignedDuration::from_hours(24 * i64::from(days));
            let is_old = |backup: &BackupStock| backup.begin.is_some_and(|begin| begin < cutoff);
            backups.iter().enumerate().filter(|(_, backup)| is_old(backup)).map(|(nth, _)| nth).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backup::{
        Activity, PruneOptions, PruneReport, fixture,
        prune::{act::act, prune},
        topics::{
            check_topics,
            tests::{partition, publish},
        },
    };
    use cdc_model::units::Exit;

    /// Five daily backups of a topic. The third begins anew: nothing of the first two is part of it. Each adds a segment.
    fn archived() -> (tempfile::TempDir, Repository, TopicArchive) {
        let (folder, repository) = fixture::repository();
        let archive = TopicArchive::of(repository.store(), Some("c"), "t");
        let days: [(&str, &[(i64, i64)]); 5] = [
            ("20261101T020000Z-0001", &[(3, 5)]),
            ("20261102T020000Z-0002", &[(3, 5), (5, 7)]),
            ("20261103T020000Z-0003", &[(3, 9)]),
            ("20261104T020000Z-0004", &[(3, 9), (9, 12)]),
            ("20261105T020000Z-0005", &[(3, 9), (9, 12), (12, 15)]),
        ];
        for (id, ranges) in days {
            let previous = archive.newest().unwrap().map(|newest| newest.link());
            publish(&archive, id, previous, vec![partition(&archive, 0, ranges)]);
        }
        (folder, repository, archive)
    }

    fn keep(count: u32) -> PruneOptions {
        PruneOptions { keep: Keep::Count(count), budget: 1 << 40, dry_run: false }
    }

    fn stay(report: &PruneReport) -> Vec<&str> {
        let stay = report.topics.iter().filter(|backup| backup.goes.is_none());
        stay.map(|backup| backup.backup.split_once('-').unwrap().1).collect()
    }

    fn is_sound(repository: &Repository) {
        let report = check_topics(repository, true, &[]).unwrap();
        assert_eq!(
            (report.exit(), report.notes.iter().filter(|note| note.contains("no backup names")).count()),
            (Exit::Passed, 0),
            "{report:?}"
        );
    }

    #[rstest]
    #[case::count(Keep::Count(2), &["0004", "0005"], 3)]
    #[case::days(Keep::Days(2), &["0003", "0004", "0005"], 3)]
    #[case::all(Keep::Count(9), &["0001", "0002", "0003", "0004", "0005"], 5)]
    fn backups_go_and_the_segments_that_only_they_name(
        #[case] wanted: Keep,
        #[case] expected: &[&str],
        #[case] segments: usize,
    ) {
        let (_folder, repository, archive) = archived();
        let dry = prune(&repository, &PruneOptions { keep: wanted, dry_run: true, ..keep(1) }).unwrap();
        assert_eq!(archive.stored().unwrap().len(), 5, "nothing goes in a dry run");
        let report = prune(&repository, &PruneOptions { keep: wanted, ..keep(1) }).unwrap();
        assert_eq!(stay(&report), expected);
        assert_eq!((stay(&dry), dry.bytes), (expected.to_vec(), report.bytes));
        assert_eq!(archive.stored().unwrap().len(), segments);
        is_sound(&repository);
        let again = prune(&repository, &PruneOptions { keep: wanted, ..keep(1) }).unwrap();
        assert_eq!((stay(&again), again.bytes), (expected.to_vec(), 0));
    }

    #[test]
    fn a_removal_that_is_cut_anywhere_leaves_whole_backups_and_is_gone_on_with() {
        let count = {
            let (_folder, repository, _archive) = archived();
            let stock = TopicsStock::of(&repository).unwrap();
            let decision = stock.decide(&BTreeSet::new(), Keep::Count(1), Timestamp::now(), 0);
            stock.acts(&decision, Timestamp::now()).unwrap().len()
        };
        assert!(count > 8, "{count}");
        for cut in 0..=count {
            let (_folder, repository, archive) = archived();
            let lock = repository.lock(Activity::Maintain, "test").unwrap();
            let stock = TopicsStock::of(&repository).unwrap();
            let decision = stock.decide(&BTreeSet::new(), Keep::Count(1), Timestamp::now(), 0);
            for step in stock.acts(&decision, Timestamp::now()).unwrap().iter().take(cut) {
                act(&repository, &lock, step).unwrap();
            }
            drop(lock);
            let report = check_topics(&repository, true, &[]).unwrap();
            assert_eq!(report.exit(), Exit::Passed, "cut at {cut}: {report:?}");
            let report = prune(&repository, &keep(1)).unwrap();
            assert_eq!((stay(&report), archive.stored().unwrap().len()), (vec!["0005"], 3), "cut at {cut}");
            is_sound(&repository);
        }
    }

    #[test]
    fn the_newest_usable_backup_and_what_a_point_names_stay() {
        let (_folder, repository, archive) = archived();
        let stock = TopicsStock::of(&repository).unwrap();
        let staying = |stock: &TopicsStock, named: &[&str]| -> Vec<usize> {
            let named = named.iter().map(|id| (*id).to_owned()).collect();
            let going = stock.decide(&named, Keep::Count(1), Timestamp::now(), u64::MAX).going;
            (0..5).filter(|nth| !going.contains_key(&(0, *nth))).collect()
        };
        assert_eq!(staying(&stock, &[]), [4]);
        assert_eq!(staying(&stock, &["20261102T020000Z-0002"]), [1, 4]);
        // Without the last segment the newest is none to replay from.
        let newest = archive.newest().unwrap().unwrap();
        std::fs::remove_file(archive.segment(0, &newest.manifest.partitions[0].segments[2].name)).unwrap();
        assert_eq!(staying(&TopicsStock::of(&repository).unwrap(), &[]), [3, 4]);
    }

    #[test]
    fn a_backup_that_cannot_be_read_keeps_its_archive_as_it_is() {
        let (_folder, repository, archive) = archived();
        let manifests = place::manifests(&archive.folder.join("20261102T020000Z-0002")).unwrap();
        fixture::flip(&manifests[0].0);
        let report = prune(&repository, &keep(1)).unwrap();
        assert!(report.notes.iter().any(|note| note.contains("stays as it is")), "{:?}", report.notes);
        assert_eq!((report.topics.len(), archive.stored().unwrap().len()), (0, 5));
    }

    #[test]
    fn a_budget_removes_the_oldest_that_may_go() {
        let (_folder, repository, archive) = archived();
        let used = prune(&repository, &PruneOptions { dry_run: true, ..keep(9) }).unwrap().room.used;
        let report = prune(&repository, &PruneOptions { budget: used - 1, ..keep(9) }).unwrap();
        assert!(report.topics[0].goes == Some(PruneReason::Budget), "{report:?}");
        assert!(stay(&report).contains(&"0005"));
        assert!(archive.newest().unwrap().is_some());
        is_sound(&repository);
    }

    #[test]
    fn what_a_killed_backup_left_goes() {
        let (_folder, repository, archive) = archived();
        std::fs::create_dir(archive.folder.join("20261106T020000Z-0006")).unwrap();
        partition(&archive, 0, &[(15, 20)]);
        let report = prune(&repository, &keep(9)).unwrap();
        assert_eq!((stay(&report).len(), archive.stored().unwrap().len()), (5, 5));
        assert!(!archive.folder.join("20261106T020000Z-0006").exists());
    }
}
