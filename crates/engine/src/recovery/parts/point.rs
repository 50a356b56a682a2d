//! The recovery point that a part is restored from.

use super::PartRequest;
use crate::{
    backup::{BackupError, Foreign, Origin, Point, PointSelector, Repository},
    recovery::RecoveryError,
};

/// A point and what was read of it.
#[derive(Debug)]
pub(super) struct Chosen<T> {
    pub(super) point: Point,
    pub(super) part: T,
    /// Newer points that were passed over, and why.
    pub(super) notes: Vec<String>,
}

/// The point that was named; or the newest of this pipeline that has the part, whose checks held, and of which the part is intact. A
/// point may lack other parts, and what its base backup adds to.
pub(super) fn choose<T>(
    repository: &Repository,
    request: &PartRequest,
    origin: &Origin,
    read: impl Fn(&Point) -> Result<T, BackupError>,
) -> Result<Chosen<T>, RecoveryError> {
    if let PointSelector::Id(id) = &request.point {
        let point = repository.point_without_bases(id)?;
        let mut notes = Vec::new();
        match origin.foreign(&point.manifest) {
            Some(foreign @ Foreign::Cluster(_)) => {
                return Err(RecoveryError::impossible(
                    format!("recovery point {}", point.id()),
                    "a point of this pipeline",
                    format!("one of {foreign}"),
                    "`backup list` shows what there is",
                ));
            }
            Some(foreign) => notes.push(format!("recovery point {} is of {foreign}", point.id())),
            None => {}
        }
        if let Some(failed) = failed_checks(&point) {
            if !request.accept_inconsistent_point {
                return Err(RecoveryError::impossible(
                    format!("recovery point {}", point.id()),
                    "consistency checks that held when it was taken",
                    failed,
                    format!(
                        "`backup list` shows the others; --point {} --accept-inconsistent-point takes this one",
                        point.id()
                    ),
                ));
            }
            notes.push(format!("recovery point {} is inconsistent: {failed}", point.id()));
        }
        let part = read(&point)?;
        return Ok(Chosen { point, part, notes });
    }
    let (mut notes, mut damage) = (Vec::new(), None);
    for found in repository.finished_without_bases()?.into_iter().rev() {
        let point = match found {
            Ok(point) => point,
            Err(passed) => {
                notes.push(passed.to_string());
                damage = damage.or(Some(passed.why));
                continue;
            }
        };
        if !request.part.is_in(&point.manifest) {
            continue;
        }
        let id = point.id().clone();
        if let Some(foreign) = origin.foreign(&point.manifest) {
            notes.push(format!("recovery point {id} is passed over: it is of {foreign}"));
            continue;
        }
        if let Some(failed) = failed_checks(&point) {
            notes.push(format!(
                "recovery point {id} is passed over: {failed} (--point {id} --accept-inconsistent-point takes it)"
            ));
            continue;
        }
        match read(&point) {
            Ok(part) => return Ok(Chosen { point, part, notes }),
            Err(why) if why.is_damage() => {
                notes.push(format!("recovery point {id} is passed over: {why}"));
                damage = damage.or(Some(why));
            }
            Err(why) => return Err(why.into()),
        }
    }
    match damage {
        Some(why) => Err(why.into()),
        None => Err(RecoveryError::impossible(
            format!("recovery points of {}", repository.path()),
            format!("one of this pipeline that has its {}", request.part.word()),
            if notes.is_empty() { "none".to_owned() } else { notes.join("; ") },
            "`backup list` shows what there is; --point ID names one",
        )),
    }
}

fn failed_checks(point: &Point) -> Option<String> {
    let failed: Vec<String> = point.manifest.consistency.failed().map(ToString::to_string).collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::fixture::{self, POINT},
        recovery::parts::PipelinePart,
    };
    use cdc_model::units::{Exit, Failure};

    const LATER: &str = "20261123T020000Z-0001";
    const LATEST: &str = "20261124T020000Z-0002";

    fn request(point: &str) -> PartRequest {
        PartRequest { point: point.parse().unwrap(), ..PartRequest::new(PipelinePart::Groups) }
    }

    #[test]
    fn the_newest_point_with_the_part_intact_is_taken_and_the_others_are_named() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, fixture::fail_a_check);
        let damaged = fixture::later(&repository, LATEST, |_| {});
        fixture::flip(&damaged.join("kafka/groups.json"));
        let groups = |request: &PartRequest| choose(&repository, request, &Origin::default(), Point::groups);
        let chosen = groups(&request("latest")).unwrap();
        assert_eq!(chosen.point.id().as_str(), POINT);
        let notes = chosen.notes.join("\n");
        assert!(notes.contains(LATEST) && notes.contains("kafka/groups.json"), "{notes}");
        assert!(notes.contains(LATER) && notes.contains("--accept-inconsistent-point"), "{notes}");
        // The damage is of another part.
        let topics = choose(&repository, &request("latest"), &Origin::default(), Point::topics).unwrap();
        assert_eq!(topics.point.id().as_str(), LATEST);
        assert_eq!(groups(&request(LATEST)).unwrap_err().exit(), Exit::ChecksumMismatch);
        assert_eq!(groups(&request(LATER)).unwrap_err().exit(), Exit::PlanImpossible);
        let accepted = PartRequest { accept_inconsistent_point: true, ..request(LATER) };
        assert!(groups(&accepted).unwrap().notes[0].contains("is inconsistent"));
    }

    #[test]
    fn a_part_is_taken_from_a_point_whose_base_backup_cannot_be_used() {
        let (_folder, repository) = fixture::repository();
        let first = repository.point(&POINT.parse().unwrap()).unwrap().link();
        fixture::later(&repository, LATER, |_| {});
        let added_to = repository.point(&LATER.parse().unwrap()).unwrap().link();
        fixture::later(&repository, LATEST, |manifest| fixture::add_to(manifest, added_to));
        std::fs::remove_dir_all(repository.points_folder().join(LATER)).unwrap();
        assert_eq!(repository.newest().unwrap().point.link(), first, "its base backup is of no use");
        for point in ["latest", LATEST] {
            let chosen = choose(&repository, &request(point), &Origin::default(), Point::groups).unwrap();
            assert_eq!((chosen.point.id().as_str(), chosen.notes), (LATEST, Vec::new()));
        }
    }

    #[test]
    fn a_point_of_another_cluster_is_refused() {
        let (_folder, repository) = fixture::repository();
        let stranger = Origin { system_id: Some(cdc_model::units::SystemId(4711)), ..Origin::default() };
        for point in ["latest", POINT] {
            let error = choose(&repository, &request(point), &stranger, Point::groups).unwrap_err();
            assert_eq!(error.exit(), Exit::PlanImpossible, "{error}");
            assert!(error.to_string().contains("the cluster with system identifier"), "{error}");
        }
    }
}
