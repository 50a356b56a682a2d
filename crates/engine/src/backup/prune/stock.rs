//! What a repository holds, as far as pruning asks.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::topics::TopicsStock;
use crate::backup::{
    BackupError, Kind, Origin, Point, Repository, check::Record, format::layout, pruned::Pruned, storage, wal::Archive,
};
use cdc_model::units::{PointId, SystemId};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// What a repository holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    /// The points that can be used, oldest first.
    pub(super) points: Vec<PointStock>,
    /// The archived files of each cluster.
    pub(super) wal: BTreeMap<SystemId, Vec<WalStock>>,
    /// The sizes of their segments.
    pub(super) segment_sizes: BTreeMap<SystemId, SegmentSize>,
    /// The archives of topics.
    pub(super) topics: TopicsStock,
    /// The bytes of points that were announced to go and are still there.
    pub(super) unremoved: u64,
    /// The folders of these points.
    pub(super) unremoved_folders: Vec<Utf8PathBuf>,
    /// The bytes of everything.
    pub(super) bytes: u64,
    /// What is not touched, and why.
    pub(super) notes: Vec<String>,
    /// What was pruned before.
    pub(super) pruned: Pruned,
}

/// A point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PointStock {
    pub(super) id: PointId,
    pub(super) folder: Utf8PathBuf,
    pub(super) manifest: String,
    pub(super) number: u64,
    /// PostgreSQL's system identifier and the Kafka cluster's id, as far as they are known.
    pub(super) pipeline: (Option<SystemId>, Option<String>),
    pub(super) kind: Kind,
    /// When its capture began; none where that cannot be read: age removes no such point.
    pub(super) begin: Option<Timestamp>,
    pub(super) begin_text: String,
    pub(super) bytes: u64,
    /// Whether its files are there with their sizes, and the WAL that it needs. One of which something is missing goes as others do, and
    /// stands for none of them.
    pub(super) is_usable: bool,
    /// Whether it has passed a deep check.
    pub(super) is_good: bool,
    /// Whether its consistency checks held: a recovery starts from it unasked.
    pub(super) is_consistent: bool,
    /// The backups of topics' records that were made with it.
    pub(super) records: BTreeSet<String>,
    /// The cluster, and the number of the first segment that a recovery needs; none for a point without the database.
    pub(super) start: Option<(SystemId, u64)>,
    /// The place in the stock of the point whose base backup its own adds to; none for a full one.
    pub(super) adds_to: Option<usize>,
    /// The size of the base backup as it was in the cluster, and the bytes that it takes here; none for one that adds to another.
    pub(super) base: Option<(u64, u64)>,
}

/// An archived file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalStock {
    pub(super) file: WalFile,
    pub(super) path: Utf8PathBuf,
    pub(super) bytes: u64,
    /// Whether it is no file of the archive but one that a recovery salvaged: nothing says that it should be there.
    pub(super) is_salvaged: bool,
    /// The number of its segment, or of the segment that it is about; none for the history of a timeline.
    pub(super) number: Option<u64>,
}

impl PointStock {
    fn of(point: &Point, record: &Record) -> Result<PointStock, BackupError> {
        let manifest = &point.manifest;
        let origin = Origin::of(manifest);
        let start = match manifest.pg.get() {
            None => None,
            Some(pg) => {
                let size = SegmentSize::new(pg.segment_bytes);
                let size = size.ok_or_else(|| BackupError::malformed(&point.folder, "no size of a WAL segment"))?;
                Some((pg.system_id, size.segment_of(pg.start_lsn)))
            }
        };
        let passed = record.passed.get(point.id());
        let stored = manifest.files.iter().find(|file| file.path == layout::BASE);
        Ok(PointStock {
            id: point.id().clone(),
            folder: point.folder.clone(),
            manifest: point.manifest_sha256.clone(),
            number: manifest.chain.as_ref().map(|chain| chain.number).unwrap_or_default(),
            pipeline: (origin.system_id, origin.kafka),
            kind: manifest.kind,
            begin: manifest.window.begin.parse().ok(),
            begin_text: manifest.window.begin.clone(),
            bytes: storage::size_of(&point.folder)?,
            is_usable: point.has_its_files()?,
            is_good: passed.is_some_and(|passed| passed.manifest == point.manifest_sha256),
            records: manifest.kafka.get().into_iter().flat_map(|k| &k.records).map(|r| r.backup.clone()).collect(),
            is_consistent: manifest.consistency.failed().next().is_none(),
            start,
            adds_to: None,
            base: manifest
                .pg
                .get()
                .zip(stored)
                .filter(|(pg, _)| pg.adds_to.is_none())
                .map(|(pg, stored)| (pg.base_raw_bytes, stored.size)),
        })
    }
}

impl Stock {
    /// Looks at everything. A point that is damaged is noted and stays, and needs no WAL; one that cannot be looked at, or that
    /// a newer release wrote, is an error.
    pub(super) fn of(repository: &Repository) -> Result<Stock, BackupError> {
        let root = repository.path();
        let record = Record::read(root)?.unwrap_or_default();
        let mut stock = Stock {
            pruned: Pruned::read(root)?
                .ok_or_else(|| BackupError::checksum(Pruned::path(root), "what was pruned before", "nothing"))?,
            bytes: storage::size_of(root)?.saturating_sub(storage::size_of(&root.join("locks"))?),
            topics: TopicsStock::of(repository)?,
            ..Stock::default()
        };
        stock.notes.append(&mut stock.topics.notes);
        let (mut needed, mut links) = (Vec::new(), Vec::new());
        for point in repository.finished()? {
            match point {
                Ok(point) => {
                    if let Some(pg) = point.manifest.pg.get() {
                        let files = pg.wal_required.iter().filter_map(|name| Some((pg.system_id, name.parse().ok()?)));
                        links.extend(pg.adds_to.clone().map(|link| (stock.points.len(), link)));
                        needed.push((stock.points.len(), files.collect::<Vec<(SystemId, WalFile)>>()));
                    }
                    stock.points.push(PointStock::of(&point, &record)?);
                }
                Err(damaged) if damaged.why.is_damage() => {
                    let cause = damaged.why;
                    stock.notes.push(format!("recovery point {} is damaged and stays: {cause}", damaged.point));
                }
                Err(unreadable) => return Err(unreadable.why),
            }
        }
        for place in repository.being_pruned()? {
            stock.unremoved += storage::size_of(&place.folder)?;
            stock.unremoved_folders.push(place.folder);
        }
        let mut archived: BTreeSet<(SystemId, WalFile)> = BTreeSet::new();
        for system_id in repository.archived_clusters()? {
            let held = repository.archive(system_id).all_files()?;
            let size = Archive::size_of(held.iter())?;
            stock.segment_sizes.extend(size.map(|size| (system_id, size)));
            archived.extend(held.iter().map(|held| (system_id, held.file)));
            let files = held.into_iter().map(|held| WalStock {
                number: segment_of(&held.file).and_then(|name| name.number(size?)),
                file: held.file,
                path: held.path,
                bytes: held.size,
                is_salvaged: false,
            });
            let mut files: Vec<WalStock> = files.collect();
            files.extend(salvaged(&repository.salvaged(system_id), size)?);
            stock.wal.insert(system_id, files);
            if stock.points.iter().all(|point| point.start.is_none_or(|(id, _)| id != system_id)) {
                stock.notes.push(format!("the archived WAL of cluster {system_id} stays: no recovery point needs it"));
            }
        }
        for (at, link) in links {
            stock.points[at].adds_to = stock.points.iter().position(|point| point.id == link.point);
        }
        for (at, needed) in needed {
            stock.points[at].is_usable &= needed.iter().all(|file| archived.contains(file));
        }
        for at in 0..stock.points.len() {
            stock.points[at].is_usable &= stock.below(at).iter().all(|below| stock.points[*below].is_usable);
        }
        let unusable = stock.points.iter().filter(|point| !point.is_usable);
        stock.notes.extend(unusable.map(|point| {
            format!(
                "recovery point {} cannot be used, as something of it is missing: `cdc-drill backup check`",
                point.id
            )
        }));
        Ok(stock)
    }
}

impl Stock {
    /// The points whose base backups a point needs besides its own.
    pub(super) fn below(&self, at: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut next = self.points[at].adds_to;
        while let Some(below) = next.filter(|below| !found.contains(below)) {
            found.push(below);
            next = self.points[below].adds_to;
        }
        found
    }

    /// The points that cannot be restored without a point.
    pub(super) fn above(&self, at: usize) -> Vec<usize> {
        (0..self.points.len()).filter(|other| self.below(*other).contains(&at)).collect()
    }
}

/// What recoveries salvaged of a cluster.
fn salvaged(folder: &Utf8Path, size: Option<SegmentSize>) -> Result<Vec<WalStock>, BackupError> {
    let mut found = Vec::new();
    for entry in storage::entries(folder)?.into_iter().flatten() {
        let Ok(file) = entry.name().parse::<WalFile>() else { continue };
        let Some(bytes) = entry.size()? else { continue };
        found.push(WalStock {
            number: segment_of(&file).and_then(|name| name.number(size?)),
            file,
            path: entry.path,
            bytes,
            is_salvaged: true,
        });
    }
    Ok(found)
}

/// The segment that a file is, or is about.
pub(super) fn segment_of(file: &WalFile) -> Option<SegmentName> {
    match file {
        WalFile::Segment(name) | WalFile::Partial(name) | WalFile::BackupLabel(name, _) => Some(*name),
        WalFile::History(_) => None,
    }
}
