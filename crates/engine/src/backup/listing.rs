//! `backup list`: what a repository holds, without reading what it holds.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    BackupError, Format, Kind, Passed, PointSummary, PostgresFacts, Reach, Repository,
    check::{Record, reach_by_names},
};
use cdc_model::units::{PointId, SystemId, system_id_text};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// A recovery point, with what makes it worth keeping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedPoint {
    /// The point.
    #[serde(flatten)]
    pub summary: PointSummary,
    /// Which parts it holds; null where its manifest is missing or damaged.
    pub kind: Option<Kind>,
    /// The point whose base backup its own adds to; null for a full one.
    pub adds_to: Option<PointId>,
    /// How long ago its capture began, in seconds; null where that is not known, or where it lies ahead of this machine's clock.
    pub age_seconds: Option<u64>,
    /// The last deep check that it has passed; null for none.
    pub passed: Option<Passed>,
    /// What a recovery from it can end in, by the names of the archived files, along each timeline.
    pub reachable: Vec<Reach>,
    /// The bytes of archived WAL from its start on, which stay as long as it does; null for a point without the database.
    pub wal_bytes: Option<u64>,
}

/// The archived WAL of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedCluster {
    /// The cluster.
    #[serde(with = "system_id_text")]
    pub system_id: SystemId,
    /// How many files are archived.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a repository holds.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Every recovery point, oldest first.
    pub points: Vec<ListedPoint>,
    /// The archives.
    pub wal: Vec<ArchivedCluster>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

/// Lists a repository. What is damaged is named, and hides nothing else.
pub fn list(repository: &Repository) -> Result<Listing, BackupError> {
    list_with_points(repository).map(|(listing, _)| listing)
}

/// The same, with those points that can be used as they are.
pub(crate) fn list_with_points(repository: &Repository) -> Result<(Listing, Vec<super::Point>), BackupError> {
    let mut listing = Listing::default();
    let record = match Record::read(repository.path()) {
        Ok(record) => record.unwrap_or_default(),
        Err(error) if error.is_damage() => {
            listing.notes.push(format!("which points have passed a deep check is not known: {error}"));
            Record::default()
        }
        Err(error) => return Err(error),
    };
    let now = Timestamp::now();
    let mut loaded: Vec<super::Point> = Vec::new();
    for (summary, point) in repository.listed()? {
        let known = point;
        let point = known.as_ref();
        let begin: Option<Timestamp> = summary.begin.parse().ok();
        let passed = point.zip(record.passed.get(&summary.point));
        listing.points.push(ListedPoint {
            kind: point.map(|point| point.manifest.kind),
            adds_to: point.and_then(|point| Some(point.manifest.pg.get()?.adds_to.as_ref()?.point.clone())),
            age_seconds: begin.and_then(|begin| u64::try_from(now.duration_since(begin).as_secs()).ok()),
            passed: passed.filter(|(point, passed)| point.manifest_sha256 == passed.manifest).map(|(_, p)| p.clone()),
            reachable: Vec::new(),
            wal_bytes: None,
            summary,
        });
        loaded.extend(known);
    }
    for system_id in repository.archived_clusters()? {
        let of_cluster = |point: &super::Point| point.manifest.pg.get().is_some_and(|pg| pg.system_id == system_id);
        let points: Vec<(PointId, &PostgresFacts)> = loaded
            .iter()
            .filter(|point| of_cluster(point))
            .filter_map(|point| Some((point.id().clone(), point.manifest.pg.get()?)))
            .collect();
        match archive(repository, system_id, &points, &mut listing) {
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                listing.notes.push(format!("what can be reached of cluster {system_id} is not known: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    if repository.format() == Format::Two {
        let left = repository.being_pruned()?.into_iter();
        listing.notes.extend(left.map(|place| {
            format!(
                "recovery point {} was pruned, and files of it are left: `cdc-drill backup prune` removes them",
                place.id
            )
        }));
    }
    Ok((listing, loaded))
}

fn archive(
    repository: &Repository,
    system_id: SystemId,
    points: &[(PointId, &PostgresFacts)],
    listing: &mut Listing,
) -> Result<(), BackupError> {
    let archive = repository.archive(system_id);
    let held = archive.all_files()?;
    let bytes = held.iter().map(|held| held.size).sum();
    listing.wal.push(ArchivedCluster { system_id, files: held.len() as u64, bytes });
    for (id, pg) in points {
        let start = SegmentSize::new(pg.segment_bytes).map(|size| (size, size.segment_of(pg.start_lsn)));
        let is_needed = |name: SegmentName| start.is_some_and(|(size, first)| name.number(size) >= Some(first));
        let needed = held.iter().filter(|held| matches!(held.file, WalFile::Segment(name) if is_needed(name)));
        if let Some(listed) = listing.points.iter_mut().find(|listed| listed.summary.point == *id) {
            listed.wal_bytes = Some(needed.map(|held| held.size).sum());
        }
    }
    for reach in reach_by_names(points, &archive, &held)? {
        if let Some(listed) = listing.points.iter_mut().find(|listed| listed.summary.point == reach.point) {
            listed.reachable.push(reach);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{
        CheckOptions, check,
        fixture::{self, NEEDED, POINT, SYSTEM, size},
    };
    use cdc_model::units::Timeline;
    use rstest::rstest;

    #[rstest]
    fn a_list_shows_what_a_deep_check_would_say_of_what_is_whole(#[values(Format::One, Format::Two)] format: Format) {
        let (folder, repository) = fixture::repository_of(format);
        let before = list(&repository).unwrap();
        assert_eq!((before.points[0].passed.clone(), before.points[0].kind), (None, Some(Kind::Full)));
        let report = check(&repository, &CheckOptions { deep: true, tools: None, archiving: None }).unwrap();
        let listing = list(&repository).unwrap();
        assert_eq!(listing.points[0].passed, report.points[0].passed);
        assert_eq!(listing.points[0].reachable, report.reachable);
        assert!(listing.points[0].passed.is_some() && listing.notes.is_empty(), "{:?}", listing.notes);
        assert_eq!((listing.wal[0].system_id, listing.wal[0].files), (SYSTEM, 5));
        assert!(listing.points[0].wal_bytes.unwrap() < listing.wal[0].bytes, "one segment is before its start");
        // A gap.
        let root = camino::Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        fixture::archive(&repository, &root, Timeline::FIRST, NEEDED.end() + 3);
        let reach = &list(&repository).unwrap().points[0].reachable[0];
        assert_eq!((reach.to, reach.hole.clone()), (size().start(7), Some(fixture::segment(7).to_string())));
    }

    #[test]
    fn damage_is_named_and_hides_nothing_else() {
        let (_folder, repository) = fixture::repository();
        let later = fixture::later(&repository, "20261123T020000Z-8b21", |_| {});
        fixture::flip(&fixture::manifest_of(&repository, &later));
        fixture::flip(&Record::path(repository.path()));
        let listing = list(&repository).unwrap();
        let ids: Vec<(&str, Option<Kind>)> =
            listing.points.iter().map(|listed| (listed.summary.point.as_str(), listed.kind)).collect();
        assert_eq!(ids, [(POINT, Some(Kind::Full)), ("20261123T020000Z-8b21", None)]);
        assert!(listing.notes[0].contains("checks.json"), "{:?}", listing.notes);
    }
}
