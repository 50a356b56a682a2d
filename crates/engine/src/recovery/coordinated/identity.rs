//! Which cluster a recovery is of, where its control file is whole, damaged or gone.

use std::collections::BTreeMap;

use crate::{
    backup::{Point, Repository},
    recovery::RecoveryError,
};
use cdc_model::units::SystemId;
use cdc_postgres::{
    control::{self, ControlData},
    wal::SegmentSize,
};

/// What says which cluster this is.
pub(crate) struct Identity<'a> {
    pub(crate) control_data: Option<&'a ControlData>,
    /// The control file, where there is one, also one that the server's program cannot understand.
    pub(crate) control_file: Option<Vec<u8>>,
    /// The identifier that a running server gave.
    pub(crate) running: Option<SystemId>,
}

impl Identity<'_> {
    /// The identifier and the size of WAL segments, with what a person should know of how they were found. The control file says them;
    /// where it is gone, the running server, the identifier that was named, or the only cluster that the repository knows.
    pub(crate) fn settle(
        &self,
        repository: &Repository,
        named: Option<SystemId>,
    ) -> Result<(SystemId, SegmentSize, Vec<String>), RecoveryError> {
        let unlike = |what: &str, expected: SystemId, found: SystemId| {
            RecoveryError::impossible(
                what,
                format!("the cluster of the data folder, with system identifier {expected}"),
                format!("system identifier {found}"),
                "is this the right place? the data folder and the address in the configuration must be of one cluster",
            )
        };
        if let Some(data) = self.control_data
            && let Some((id, size)) = SegmentSize::new(data.segment_size).map(|size| (data.system_id, size))
        {
            if let Some(other) = named.filter(|named| *named != id) {
                return Err(unlike("--system-id", id, other));
            }
            if let Some(other) = self.running.filter(|running| *running != id) {
                return Err(unlike("the server at [postgres] url", id, other));
            }
            return Ok((id, size, Vec::new()));
        }
        let known = clusters_of(repository)?;
        // The first eight bytes, which may be whole in a file that is not.
        let written = self.control_file.as_ref().and_then(|bytes| control::system_id_in(bytes));
        let (id, note) = match (named, self.running, written.filter(|id| known.contains_key(id))) {
            (Some(named), Some(running), ..) if running != named => {
                return Err(unlike("--system-id", running, named));
            }
            (Some(named), ..) => (named, None),
            (None, Some(running), ..) => (running, None),
            (None, None, Some(written)) => (written, None),
            (None, None, None) => match known.keys().collect::<Vec<_>>().as_slice() {
                [only] => {
                    let note = format!(
                        "the control file is gone: the cluster is taken for {only}, the only one that the repository knows"
                    );
                    (**only, Some(note))
                }
                _ => return Err(unidentified(repository, &known)),
            },
        };
        let points = known.get(&id).map_or(&[][..], Vec::as_slice);
        let size = points.iter().rev().find_map(|point| SegmentSize::new(point.postgres().ok()?.segment_bytes));
        let Some(size) = size else {
            return Err(match known.is_empty() {
                true => unidentified(repository, &known),
                false => RecoveryError::impossible(
                    format!("repository {}", repository.path()),
                    format!("a complete recovery point of the cluster with system identifier {id}"),
                    described(&known),
                    "there is nothing to recover from; is this the repository that the cluster is backed up to?",
                ),
            });
        };
        Ok((id, size, note.into_iter().collect()))
    }
}

/// The clusters of which a repository has WAL or recovery points, with these.
fn clusters_of(repository: &Repository) -> Result<BTreeMap<SystemId, Vec<Point>>, RecoveryError> {
    let mut found: BTreeMap<SystemId, Vec<Point>> =
        repository.archived_clusters()?.into_iter().map(|id| (id, Vec::new())).collect();
    for point in repository.finished()?.into_iter().flatten() {
        if let Some(id) = point.postgres().ok().map(|facts| facts.system_id) {
            found.entry(id).or_default().push(point);
        }
    }
    Ok(found)
}

fn described(known: &BTreeMap<SystemId, Vec<Point>>) -> String {
    let each = known.iter().map(|(id, points)| match points.last() {
        Some(newest) => format!("{id} (newest recovery point {})", newest.id()),
        None => format!("{id} (WAL only)"),
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

fn unidentified(repository: &Repository, known: &BTreeMap<SystemId, Vec<Point>>) -> RecoveryError {
    RecoveryError::impossible(
        "identity of the cluster",
        "a control file, a server that runs, or one cluster in the repository",
        format!("neither; {} knows {}", repository.path(), described(known)),
        "name the cluster with --system-id N",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Part, PointSelector, fixture};
    use cdc_model::units::{Exit, Failure, Lsn, Timeline};

    fn data(system_id: u64) -> ControlData {
        ControlData {
            state: "in production".into(),
            system_id: SystemId(system_id),
            timeline: Timeline::literal(1),
            checkpoint: Lsn(1),
            segment_size: 16 << 20,
        }
    }

    #[test]
    fn a_cluster_without_a_control_file_is_named_where_the_repository_knows_several() {
        let (_folder, repository) = fixture::repository();
        let own = repository.point(&PointSelector::Latest).unwrap().postgres().unwrap().system_id;
        let lost = || Identity { control_data: None, control_file: None, running: None };
        let (id, _, notes) = lost().settle(&repository, None).unwrap();
        assert!(id == own && notes[0].contains("the only one"), "{notes:?}");
        fixture::later(&repository, "20261123T020000Z-0001", |manifest| {
            let Part::Present(facts) = &mut manifest.pg else { panic!("no cluster") };
            facts.system_id = SystemId(4711);
        });
        let error = lost().settle(&repository, None).unwrap_err();
        let text = error.in_full();
        assert!(
            error.exit() == Exit::PlanImpossible && text.contains("--system-id") && text.contains("4711"),
            "{text}"
        );
        assert_eq!(lost().settle(&repository, Some(own)).unwrap().0, own);
        assert_eq!(lost().settle(&repository, Some(SystemId(4711))).unwrap().0, SystemId(4711));
        assert!(
            lost().settle(&repository, Some(SystemId(1))).unwrap_err().to_string().contains("4711"),
            "of none that it knows"
        );
        let running = Identity { running: Some(SystemId(4711)), ..lost() };
        assert_eq!(running.settle(&repository, None).unwrap().0, SystemId(4711));
        assert!(running.settle(&repository, Some(own)).is_err());
        // Damaged behind its beginning, or altogether.
        let mut bytes = own.0.to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        let damaged = |bytes: Vec<u8>| Identity { control_file: Some(bytes), ..lost() };
        assert_eq!(damaged(bytes).settle(&repository, None).unwrap().0, own);
        assert!(damaged(vec![0; 16]).settle(&repository, None).is_err());
        assert!(damaged(vec![1]).settle(&repository, None).is_err());
    }

    #[test]
    fn the_control_file_is_not_overruled() {
        let (_folder, repository) = fixture::repository();
        let data = data(77);
        let found = |running: Option<u64>, named: Option<u64>| {
            let identity = Identity { control_data: Some(&data), control_file: None, running: running.map(SystemId) };
            identity.settle(&repository, named.map(SystemId))
        };
        assert_eq!(found(None, None).unwrap().0, SystemId(77));
        assert_eq!(found(Some(77), Some(77)).unwrap().0, SystemId(77));
        assert!(found(None, Some(78)).unwrap_err().to_string().contains("--system-id"));
        assert!(found(Some(78), None).unwrap_err().to_string().contains("[postgres] url"));
    }
}
