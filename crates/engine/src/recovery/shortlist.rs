//! The recovery points that a recovery may start from. Damaged ones, and those whose consistency checks failed when they were taken,
//! are passed over and named.

use std::collections::BTreeMap;

use super::{Playbook, RecoveryError, Request};
use crate::backup::{BackupError, Foreign, Kind, Origin, Point, PointSelector, Repository};
use cdc_model::units::{PointId, SystemId};

/// Recovery points to choose from, oldest first.
#[derive(Debug, Default)]
pub(super) struct Shortlist {
    pub(super) points: Vec<Point>,
    /// Points that are not to choose from, and why.
    passed_over: Vec<(PointId, String)>,
    /// Points of other pipelines: how many of each, and the newest.
    foreign: BTreeMap<Foreign, (usize, PointId)>,
    /// Points to choose from although something is the matter with them, and what.
    accepted: Vec<(PointId, String)>,
}

impl Shortlist {
    /// The point that was named, or those of this pipeline that hold all parts. Refuses a named point whose checks failed or that is of
    /// another PostgreSQL cluster, and to go on without a point where there are only points with failed checks, or damaged ones;
    /// empty where there is none at all.
    ///
    /// The coordinated playbook takes points of this PostgreSQL cluster that know another Kafka cluster where there are no others: Kafka
    /// may have been lost as well. To other playbooks they are another pipeline's, unless they are named.
    pub(super) fn of(repository: &Repository, request: &Request, origin: &Origin) -> Result<Shortlist, RecoveryError> {
        let mut shortlist = Shortlist::default();
        if let PointSelector::Id(named) = &request.point {
            let found = match request.playbook {
                Playbook::Coordinated => repository.point(&request.point),
                _ => repository.point_without_bases(named),
            };
            let point = match found {
                Err(cause) if cause.is_damage() => {
                    return Err(damaged(repository, request, origin, named, cause, |_| true));
                }
                point => point?,
            };
            match origin.foreign(&point.manifest) {
                Some(Foreign::Cluster(id)) => return Err(of_another_cluster(&point, origin, id)),
                Some(foreign @ Foreign::Kafka(_)) => shortlist.accept_foreign(&point, &foreign),
                None => {}
            }
            match shortlist.take(point, request.accept_inconsistent_point) {
                None => return Ok(shortlist),
                Some((point, failed)) => return Err(refused(&point, failed)),
            }
        }
        let (mut damaged, mut inconsistent, mut elsewhere) = (None, None, Vec::new());
        // Only a base backup that is restored needs what it adds to.
        let finished = match request.playbook {
            Playbook::Coordinated => repository.finished()?,
            _ => repository.finished_without_bases()?,
        };
        for found in finished {
            let point = match found {
                Err(newer) => {
                    shortlist.passed_over.push((newer.point.clone(), newer.to_string()));
                    damaged = Some(newer.why);
                    continue;
                }
                Ok(point) if point.manifest.kind == Kind::Full => point,
                Ok(_) => continue,
            };
            if let Some(foreign) = origin.foreign(&point.manifest) {
                if matches!(foreign, Foreign::Kafka(_)) {
                    elsewhere.push((point.clone(), foreign.clone()));
                }
                shortlist.pass_over_foreign(foreign, point.id());
                continue;
            }
            inconsistent = shortlist.take_or_pass_over(point, request).or(inconsistent);
        }
        if shortlist.points.is_empty() && inconsistent.is_none() && request.playbook == Playbook::Coordinated {
            for (point, foreign) in elsewhere {
                shortlist.foreign.remove(&foreign);
                shortlist.accept_foreign(&point, &foreign);
                inconsistent = shortlist.take_or_pass_over(point, request).or(inconsistent);
            }
        }
        match (shortlist.points.is_empty(), inconsistent, damaged) {
            (true, Some((point, failed)), _) => Err(refused(&point, failed)),
            (true, None, Some(why)) => Err(why.into()),
            _ => Ok(shortlist),
        }
    }

    /// Takes a point off the list whose files are not what was written, if it is one: then what is wrong with it. One that was named
    /// is refused.
    pub(super) fn pass_over_damaged(
        &mut self,
        repository: &Repository,
        request: &Request,
        origin: &Origin,
        point: &Point,
        fits: impl Fn(&Point) -> bool,
    ) -> Result<Option<BackupError>, RecoveryError> {
        match point.check_parts() {
            Ok(()) => Ok(None),
            Err(why) if !why.is_damage() => Err(why.into()),
            Err(why) if matches!(request.point, PointSelector::Id(_)) => {
                Err(damaged(repository, request, origin, point.id(), why, fits))
            }
            Err(why) => {
                self.points.retain(|other| other.id() != point.id());
                self.passed_over
                    .push((point.id().clone(), format!("recovery point {} is passed over: {why}", point.id())));
                Ok(Some(why))
            }
        }
    }

    /// Takes the newest point that is intact. An error where all are damaged; none where there is none.
    pub(super) fn newest_intact(
        &mut self,
        repository: &Repository,
        request: &Request,
        origin: &Origin,
    ) -> Result<Option<Point>, RecoveryError> {
        let mut newest: Option<BackupError> = None;
        while let Some(point) = self.points.last().cloned() {
            match self.pass_over_damaged(repository, request, origin, &point, |_| true)? {
                None => return Ok(Some(point)),
                Some(why) => _ = newest.get_or_insert(why),
            }
        }
        newest.map_or(Ok(None), |why| Err(why.into()))
    }

    fn accept_foreign(&mut self, point: &Point, foreign: &Foreign) {
        self.accepted.push((point.id().clone(), format!("recovery point {} is of {foreign}", point.id())));
    }

    fn pass_over_foreign(&mut self, foreign: Foreign, id: &PointId) {
        let (count, newest) = self.foreign.entry(foreign).or_insert_with(|| (0, id.clone()));
        (*count, *newest) = (*count + 1, id.clone());
    }

    /// Takes a point, or passes it over; then the point and which checks of it failed.
    fn take_or_pass_over(&mut self, point: Point, request: &Request) -> Option<(PointId, String)> {
        let (id, failed) = self.take(point, request.accept_inconsistent_point)?;
        let said = format!(
            "recovery point {id} is passed over: {failed} (--point {id} --accept-inconsistent-point starts from it)"
        );
        self.passed_over.push((id.clone(), said));
        Some((id, failed))
    }

    /// Takes a point into the list, unless checks of it failed and that was not accepted; then the point and which.
    fn take(&mut self, point: Point, accept: bool) -> Option<(PointId, String)> {
        let failed: Vec<String> = point.manifest.consistency.failed().map(ToString::to_string).collect();
        if !failed.is_empty() {
            let failed = (point.id().clone(), failed.join("; "));
            if !accept {
                return Some(failed);
            }
            self.accepted
                .push((failed.0.clone(), format!("recovery point {} is inconsistent: {}", failed.0, failed.1)));
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
        let accepted = self.accepted.iter().filter(|(id, _)| id == chosen).map(|(_, what)| what.clone());
        newer.chain(self.others()).chain(accepted).collect()
    }

    /// The points of other pipelines, a line for each pipeline.
    pub(super) fn others(&self) -> Vec<String> {
        let line = |(foreign, (count, newest)): (&Foreign, &(usize, PointId))| match count {
            1 => format!("recovery point {newest} is passed over: it is of {foreign}"),
            _ => format!("{count} recovery points are passed over, the newest of them {newest}: they are of {foreign}"),
        };
        self.foreign.iter().map(line).collect()
    }
}

/// The error about a damaged point, which names another one of its pipeline that is intact and fits.
pub(super) fn damaged(
    repository: &Repository,
    request: &Request,
    origin: &Origin,
    point: &PointId,
    cause: BackupError,
    fits: impl Fn(&Point) -> bool,
) -> RecoveryError {
    let request = Request { point: PointSelector::Latest, ..request.clone() };
    let others = Shortlist::of(repository, &request, origin).unwrap_or_default().points;
    let mut others = others.into_iter().rev().filter(|other| other.id() != point && fits(other));
    let other = others.find(|other| other.check_parts().is_ok()).map(|other| other.id().clone());
    RecoveryError::Damaged { point: point.clone(), cause, other }
}

fn of_another_cluster(point: &Point, origin: &Origin, id: SystemId) -> RecoveryError {
    let own = origin.system_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    RecoveryError::impossible(
        format!("recovery point {}", point.id()),
        format!("a point of the cluster with system identifier {own}"),
        format!("system identifier {id}"),
        "it is the backup of another cluster; `backup list` shows what there is",
    )
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
    };
    use cdc_model::units::{Exit, Failure};

    const LATER: &str = "20261123T020000Z-0001";
    const LATEST: &str = "20261124T020000Z-0002";

    fn request(point: &str) -> Request {
        Request { point: point.parse().unwrap(), ..Request::new(Playbook::Coordinated) }
    }

    fn shortlist(repository: &Repository, request: &Request) -> Result<Shortlist, RecoveryError> {
        Shortlist::of(repository, request, &Origin::default())
    }

    fn of(system_id: SystemId, kafka: Option<&str>) -> Origin {
        Origin { system_id: Some(system_id), kafka: kafka.map(str::to_owned), registry: None }
    }

    fn ids(shortlist: &Shortlist) -> Vec<&str> {
        shortlist.points.iter().map(|p| p.id().as_str()).collect()
    }

    #[test]
    fn damaged_and_inconsistent_points_are_passed_over_and_named() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, fixture::fail_a_check);
        let damaged = fixture::later(&repository, LATEST, |_| {});
        fixture::flip(&fixture::manifest_of(&repository, &damaged));
        let found = shortlist(&repository, &request("latest")).unwrap();
        assert_eq!(ids(&found), [POINT]);
        let notes = found.notes(found.points[0].id());
        assert!(notes[0].contains(LATER) && notes[0].contains("offset_lsn<=stop_lsn does not hold"), "{notes:?}");
        assert!(notes[1].contains(LATEST) && notes[1].contains("checksum of"), "{notes:?}");
        assert!(found.notes(&PointId::new(LATEST)).is_empty(), "older ones matter to nobody");
        assert_eq!(found.all_passed_over(), notes);
    }

    #[test]
    fn a_point_with_a_damaged_part_is_passed_over_and_one_that_is_named_points_to_another() {
        let (_folder, repository) = fixture::repository();
        let damaged = fixture::later(&repository, LATER, |_| {});
        fixture::flip(&damaged.join("kafka/topics.json"));
        let incomplete = fixture::later(&repository, LATEST, |_| {});
        std::fs::remove_file(incomplete.join("pg/slots.json")).unwrap();
        let newest = |request: &Request| {
            let mut found = shortlist(&repository, request).unwrap();
            let point = found.newest_intact(&repository, request, &Origin::default());
            point.map(|point| (point.map(|p| p.id().clone()), found))
        };
        let (point, found) = newest(&request("latest")).unwrap();
        assert_eq!(point, Some(PointId::new(POINT)));
        let notes = found.notes(&PointId::new(POINT)).join("\n");
        for part in [LATER, "kafka/topics.json: expected", LATEST, "pg/slots.json is not there"] {
            assert!(notes.contains(part), "no `{part}` in {notes}");
        }
        let error = newest(&request(LATER)).unwrap_err();
        assert_eq!(error.exit(), Exit::ChecksumMismatch);
        assert!(error.in_full().contains(&format!("--point {POINT} starts from another")), "{}", error.in_full());
        // The manifest's damage is seen before.
        fixture::flip(&fixture::manifest_of(&repository, &damaged));
        let error = shortlist(&repository, &request(LATER)).unwrap_err();
        assert_eq!(error.exit(), Exit::ChecksumMismatch);
        assert!(error.in_full().contains(&format!("--point {POINT} starts from another")), "{}", error.in_full());
        fixture::flip(&repository.points_folder().join(POINT).join("connect/connectors.json"));
        let error = newest(&request("latest")).unwrap_err();
        assert_eq!(error.exit(), Exit::BackupIncomplete, "the newest is what is wrong: {error}");
        let error = newest(&request(LATEST)).unwrap_err().in_full();
        assert!(error.contains("no other recovery point of this repository is intact"), "{error}");
    }

    #[test]
    fn only_a_recovery_of_the_database_needs_what_a_base_backup_adds_to() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, |_| {});
        let added_to = repository.point(&LATER.parse().unwrap()).unwrap().link();
        fixture::later(&repository, LATEST, |manifest| fixture::add_to(manifest, added_to));
        let of = |playbook, point: &str| shortlist(&repository, &Request { playbook, ..request(point) });
        assert_eq!(ids(&of(Playbook::Coordinated, "latest").unwrap()), [POINT, LATER, LATEST]);
        std::fs::remove_dir_all(repository.points_folder().join(LATER)).unwrap();
        assert_eq!(ids(&of(Playbook::Coordinated, "latest").unwrap()), [POINT]);
        assert_eq!(of(Playbook::Coordinated, LATEST).unwrap_err().exit(), Exit::BackupIncomplete);
        for playbook in [Playbook::Slot, Playbook::Schema] {
            assert_eq!(ids(&of(playbook, "latest").unwrap()), [POINT, LATEST], "{playbook}");
            assert_eq!(ids(&of(playbook, LATEST).unwrap()), [LATEST], "{playbook}");
        }
    }

    #[test]
    fn an_inconsistent_point_wants_to_be_named_and_agreed_to() {
        let (_folder, repository) = fixture::repository();
        fixture::later(&repository, LATER, fixture::fail_a_check);
        let error = shortlist(&repository, &request(LATER)).unwrap_err();
        assert_eq!(error.exit(), Exit::PlanImpossible);
        assert!(error.in_full().contains("--accept-inconsistent-point"), "{error}");
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
        fixture::flip(&fixture::manifest_of(&repository, &first));
        let error = shortlist(&repository, &request("latest")).unwrap_err();
        assert!(error.exit() == Exit::PlanImpossible && error.to_string().contains(LATER), "{error}");
        let others = Shortlist::of(&repository, &request("latest"), &of(SystemId(1), None)).unwrap_err();
        assert_eq!(others.exit(), Exit::ChecksumMismatch, "of the damaged one nobody knows whose it is: {others}");
        std::fs::remove_dir_all(repository.points_folder()).unwrap();
        assert_eq!(ids(&shortlist(&repository, &request("latest")).unwrap()), [""; 0]);
    }

    #[test]
    fn points_of_other_pipelines_are_passed_over_and_counted() {
        let (_folder, repository) = fixture::repository();
        let own = Origin::of(&repository.point(&PointSelector::Latest).unwrap().manifest);
        let (system_id, kafka) = (own.system_id.unwrap(), own.kafka.clone().unwrap());
        let theirs = |manifest: &mut crate::backup::Manifest| {
            let crate::backup::Part::Present(facts) = &mut manifest.pg else { panic!("no cluster") };
            facts.system_id = SystemId(4711);
        };
        fixture::later(&repository, LATER, theirs);
        fixture::later(&repository, LATEST, theirs);
        for playbook in [Playbook::Coordinated, Playbook::Slot, Playbook::Schema] {
            let request = Request { playbook, ..request("latest") };
            let found = Shortlist::of(&repository, &request, &own).unwrap();
            assert_eq!(ids(&found), [POINT], "{playbook}");
            let notes = found.notes(found.points[0].id());
            let said =
                format!("2 recovery points are passed over, the newest of them {LATEST}: they are of the cluster with");
            assert!(notes.len() == 1 && notes[0].starts_with(&said) && notes[0].ends_with("4711"), "{notes:?}");
            let named = Request { point: LATER.parse().unwrap(), ..request.clone() };
            let error = Shortlist::of(&repository, &named, &own).unwrap_err();
            assert!(error.exit() == Exit::PlanImpossible && error.to_string().contains("4711"), "{error}");
            let none = Shortlist::of(&repository, &request, &of(SystemId(1), None)).unwrap();
            assert!(none.points.is_empty() && none.others().len() == 2, "{none:?}");
        }
        // The same cluster behind another Kafka: of use to whoever restores the cluster, or to whoever names it.
        let moved = of(system_id, Some("another"));
        let found = |playbook, point: &str| {
            Shortlist::of(&repository, &Request { playbook, ..request(point) }, &moved).unwrap()
        };
        let coordinated = found(Playbook::Coordinated, "latest");
        assert_eq!(ids(&coordinated), [POINT]);
        assert!(coordinated.notes(&PointId::new(POINT)).iter().any(|note| note.contains(&kafka)));
        assert!(found(Playbook::Schema, "latest").points.is_empty());
        assert_eq!(ids(&found(Playbook::Schema, POINT)), [POINT]);
    }
}
