//! The recovery points that a recovery may start from. Damaged ones, and those whose consistency checks failed when they were taken,
//! are passed over and named.

use super::{RecoveryError, Request};
use crate::{
    backup::{Point, PointSelector, Repository},
    units::PointId,
};

/// Recovery points to choose from, oldest first.
#[derive(Debug)]
pub(super) struct Shortlist {
    pub(super) points: Vec<Point>,
    /// Points that are not to choose from, and why.
    passed_over: Vec<(PointId, String)>,
    /// Points to choose from although checks of theirs failed, and which.
    accepted: Vec<(PointId, String)>,
}

impl Shortlist {
    /// The point that was named, or those that fit. Refuses a named point whose checks failed, and to go on without a point
    /// where there are only such points, or damaged ones; empty where there is none at all.
    pub(super) fn of(
        repository: &Repository,
        request: &Request,
        mut fits: impl FnMut(&Point) -> bool,
    ) -> Result<Shortlist, RecoveryError> {
        let mut shortlist = Shortlist { points: Vec::new(), passed_over: Vec::new(), accepted: Vec::new() };
        if let PointSelector::Id(_) = &request.point {
            let point = repository.point(&request.point)?;
            match shortlist.take(point, request.accept_inconsistent_point) {
                None => return Ok(shortlist),
                Some((point, failed)) => return Err(refused(&point, failed)),
            }
        }
        let (mut damaged, mut inconsistent) = (None, None);
        for found in repository.finished()? {
            match found {
                Err(newer) => {
                    shortlist.passed_over.push((newer.point.clone(), newer.to_string()));
                    damaged = Some(newer.why);
                }
                Ok(point) if fits(&point) => {
                    if let Some((id, failed)) = shortlist.take(point, request.accept_inconsistent_point) {
                        let said = format!(
                            "recovery point {id} is passed over: {failed} (--point {id} --accept-inconsistent-point starts from it)"
                        );
                        shortlist.passed_over.push((id.clone(), said));
                        inconsistent = Some((id, failed));
                    }
                }
                Ok(_) => {}
            }
        }
        match (shortlist.points.is_empty(), inconsistent, damaged) {
            (true, Some((point, failed)), _) => Err(refused(&point, failed)),
            (true, None, Some(why)) => Err(why.into()),
            _ => Ok(shortlist),
        }
    }

    /// Takes a point into the list, unless checks of it failed and that was not accepted; then the point and which.
    fn take(&mut self, point: Point, accept: bool) -> Option<(PointId, String)> {
        let failed: Vec<String> = point.manifest.consistency.failed().map(ToString::to_string).collect();
        if !failed.is_empty() {
            let failed = (point.id().clone(), failed.join("; "));
            if !accept {
                return Some(failed);
            }
            self.accepted.push(failed);
        }
        self.points.push(point);
        None
    }

    /// What is wrong with each point that was passed over.
    pub(super) fn all_passed_over(&self) -> Vec<String> {
        self.passed_over.iter().map(|(_, why)| why.clone()).collect()
    }

    /// What a person should know of a choice: the newer points that were passed over, and which checks of the chosen one failed.
    pub(super) fn notes(&self, chosen: &PointId) -> Vec<String> {
        let newer = self.passed_over.iter().filter(|(id, _)| id > chosen).map(|(_, why)| why.clone());
        let accepted = self.accepted.iter().filter(|(id, _)| id == chosen);
        newer.chain(accepted.map(|(id, failed)| format!("recovery point {id} is inconsistent: {failed}"))).collect()
    }
}

fn refused(point: &PointId, failed: String) -> RecoveryError {
    RecoveryError::impossible(
        format!("recovery point {point}"),
        "consistency checks that held when it was taken",
        failed,
        format!("`backup list` shows the others; --point {point} --accept-inconsistent-point starts from this one"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::fixture::{self, POINT},
        recovery::Playbook,
        units::Exit,
    };

    const LATER: &str = "20261123T020000Z-0001";
    const LATEST: &str = "20261124T020000Z-0002";

    fn request(point: &str) -> Request {
        Request { point: point.parse().unwrap(), ..Request::new(Playbook::Coordinated) }
    }

    fn shortlist(repository: &Repository, request: &Request) -> Result<Shortlist, RecoveryError> {
        Shortlist::of(repository, request, |_| true)
    }

    fn ids(shortlist: &Shortlist) -> Vec<&str> {
        shortlist.points.iter().map(|p| p.id().as_str()).collect()
    }

    #[test]
    fn damaged_and_inconsistent_points_are_passed_over_and_named() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, fixture::fail_a_check);
        let damaged = fixture::later(&repository, LATEST, |_| {});
        fixture::flip(&damaged.join("manifest.json"));
        let found = shortlist(&repository, &request("latest")).unwrap();
        assert_eq!(ids(&found), [POINT]);
        let notes = found.notes(found.points[0].id());
        assert!(notes[0].contains(LATER) && notes[0].contains("offset_lsn<=stop_lsn does not hold"), "{notes:?}");
        assert!(notes[1].contains(LATEST) && notes[1].contains("checksum of"), "{notes:?}");
        assert!(found.notes(&PointId::new(LATEST)).is_empty(), "older ones matter to nobody");
        assert_eq!(found.all_passed_over(), notes);
    }

    #[test]
    fn an_inconsistent_point_wants_to_be_named_and_agreed_to() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, fixture::fail_a_check);
        let error = shortlist(&repository, &request(LATER)).unwrap_err();
        assert_eq!(error.exit(), Exit::PlanImpossible);
        assert!(error.to_string().contains("--accept-inconsistent-point"), "{error}");
        let agreed = Request { accept_inconsistent_point: true, ..request(LATER) };
        let found = shortlist(&repository, &agreed).unwrap();
        assert_eq!(ids(&found), [LATER]);
        assert!(found.notes(&PointId::new(LATER))[0].contains("is inconsistent: offset_lsn"));
        assert_eq!(ids(&shortlist(&repository, &request(POINT)).unwrap()), [POINT]);
    }

    #[test]
    fn where_nothing_good_is_left_the_newest_is_what_is_wrong() {
        let (_folder, repository) = fixture::repository();
        let first = repository.points_folder().join(POINT);
        fixture::later(&repository, LATER, fixture::fail_a_check);
        fixture::flip(&first.join("manifest.json"));
        let error = shortlist(&repository, &request("latest")).unwrap_err();
        assert!(error.exit() == Exit::PlanImpossible && error.to_string().contains(LATER), "{error}");
        let others = Shortlist::of(&repository, &request("latest"), |_| false).unwrap_err();
        assert_eq!(others.exit(), Exit::ChecksumMismatch, "of the damaged one nobody knows whose it is: {others}");
        std::fs::remove_dir_all(repository.points_folder()).unwrap();
        assert_eq!(ids(&shortlist(&repository, &request("latest")).unwrap()), [""; 0]);
    }
}
