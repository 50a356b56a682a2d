//! Asking the repository, the server and everybody else. Each answer stands by itself: what one does not say hides no other.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    report::Health,
    seen::{
        ArchiverSeen, Holdings, Known, PointSeen, ProofSeen, Seen, ServerSeen, SlotSeen, SystemSeen, WalHole, Window,
    },
};
use crate::{
    backup::{
        ArchiverStanding, Attempt, BackupError, ClusterName, Kind, ListedPoint, Origin, Reach, Repository,
        ServerArchiving, TaskRecord, file_system::file_system, is_in_a_bucket, list_with_points, size_of, wal::Archive,
    },
    recovery,
};
use cdc_model::units::{Lsn, SystemId, Timeline};
use cdc_pipeline::{
    client::{ClientError, connect::Connect, kafka::Kafka, limits::asking, postgres::Postgres, registry::Registry},
    config::Config,
};
use cdc_postgres::wal::{SegmentName, WalFile};

/// How many segments are looked through for a commit, from the end of the archive back.
const LOOKED_THROUGH: u64 = 64;

/// Looks at a pipeline. `just_ended` is a task of this process, which the repository may not have taken down.
pub async fn look(config: &Config, just_ended: Option<&Attempt>) -> Health {
    let at = Timestamp::now();
    // Before the repository: what the server has given away by now is there then.
    let ((server, slots), systems) = tokio::join!(server(config), systems(config));
    let origin = Origin {
        system_id: server.as_ref().ok().map(|(archiving, _)| archiving.system_id),
        kafka: None,
        registry: None,
    };
    let (of_repository, of_recovery) = (config.clone(), config.clone());
    let archiving = server.as_ref().ok().map(|(archiving, _)| archiving.clone());
    let repository = tokio::task::spawn_blocking(move || InRepository::look(&of_repository, &origin, archiving));
    let open = tokio::task::spawn_blocking(move || recovery::open_recovery(&of_recovery));
    let unfinished = |error: tokio::task::JoinError| format!("the look ended: {error}");
    let InRepository { holdings, archiver, mut tasks, proof } = match repository.await {
        Ok(seen) => seen,
        Err(error) => InRepository::unknown(&unfinished(error)),
    };
    let open_recovery = match open.await {
        Ok(open) => Known::of(open),
        Err(error) => Known::Unknown(unfinished(error)),
    };
    if let Some(ended) = just_ended {
        remember(&mut tasks, ended);
    }
    let server = match server {
        Ok((_, position)) => Known::Known(ServerSeen { position, archiver, slots }),
        Err(why) => Known::Unknown(why),
    };
    Health::of(Seen {
        pipeline: name_of(config),
        at,
        limits: config.monitor.clone(),
        objectives: config.objectives,
        holdings,
        server,
        systems,
        open_recovery,
        tasks,
        proof,
    })
}

/// What a pipeline is called in metrics and events.
pub fn name_of(config: &Config) -> String {
    config.monitor.pipeline.clone().unwrap_or_else(|| ClusterName::of(config).address)
}

/// Takes in a task of this process, also where the repository could not.
fn remember(tasks: &mut Known<Vec<TaskRecord>>, ended: &Attempt) {
    let mut all = tasks.get().cloned().unwrap_or_default();
    match all.iter_mut().find(|known| known.last.task == ended.task) {
        Some(known) => {
            known.take(ended.clone());
            known.at_work = Some(false);
        }
        None => all.push(TaskRecord { at_work: Some(false), ..TaskRecord::new(None, ended.clone()) }),
    }
    *tasks = Known::Known(all);
}

/// What the repository says.
struct InRepository {
    holdings: Known<Option<Holdings>>,
    archiver: Known<ArchiverSeen>,
    tasks: Known<Vec<TaskRecord>>,
    proof: Known<Option<ProofSeen>>,
}

impl InRepository {
    fn unknown(why: &str) -> InRepository {
        InRepository {
            holdings: Known::Unknown(why.to_owned()),
            archiver: Known::Unknown(why.to_owned()),
            tasks: Known::Unknown(why.to_owned()),
            proof: Known::Unknown(why.to_owned()),
        }
    }

    fn look(config: &Config, origin: &Origin, archiving: Option<ServerArchiving>) -> InRepository {
        let repository = match Repository::of(&config.repository) {
            Ok(repository) => repository,
            Err(BackupError::NotARepository { .. }) => {
                let none = "there is no repository";
                return InRepository {
                    holdings: Known::Known(None),
                    tasks: Known::Known(Vec::new()),
                    proof: Known::Known(None),
                    ..InRepository::unknown(none)
                };
            }
            Err(error) => return InRepository::unknown(&error.to_string()),
        };
        let cluster = ClusterName::of(config);
        let system_id = origin.system_id.or(cluster.system_id);
        let origin = Origin { system_id, ..origin.clone() };
        let archiver = match archiving {
            Some(server) => Known::of(archiver(&repository, &server)),
            None => Known::Unknown("the server does not answer".to_owned()),
        };
        InRepository {
            holdings: Known::of(holdings(&repository, config, &origin).map(Some)),
            archiver,
            tasks: Known::of(repository.attempts(&cluster)),
            proof: Known::of(super::proof::newest(&repository, &origin)),
        }
    }
}

fn archiver(repository: &Repository, server: &ServerArchiving) -> Result<ArchiverSeen, BackupError> {
    let standing = ArchiverStanding::by_names(repository, server)?;
    Ok(ArchiverSeen {
        mode: server.mode.clone(),
        failing: standing.failing,
        failures: server.failed,
        last_failed: server.last_failed.clone(),
        last_archived: server.last_archived.clone(),
        late: standing.late.len() as u64,
        oldest_waiting_seconds: server.oldest_ready_seconds.filter(|_| !standing.late.is_empty()),
        lost: standing.lost,
    })
}

fn holdings(repository: &Repository, config: &Config, origin: &Origin) -> Result<Holdings, BackupError> {
    let (listing, loaded) = list_with_points(repository)?;
    let mut points = Vec::new();
    let mut clusters = BTreeSet::new();
    for listed in listing.points {
        let point = loaded.iter().find(|point| *point.id() == listed.summary.point);
        if point.is_some_and(|point| origin.foreign(&point.manifest).is_some()) {
            continue;
        }
        let lacks = match point {
            Some(point) if !point.has_its_files()? => Some("files of it are missing, or have another size".to_owned()),
            _ => None,
        };
        clusters.extend(point.and_then(|point| Some(point.manifest.pg.get()?.system_id)));
        points.push(seen(listed, point.map(|point| point.manifest_sha256.clone()), lacks));
    }
    // Without a server that says which, only one cluster can be meant.
    let system_id = origin.system_id.or_else(|| clusters.first().copied().filter(|_| clusters.len() == 1));
    let mut notes = listing.notes;
    if origin.system_id.is_none() && clusters.len() > 1 {
        notes.push(
            "the repository has points of several clusters, and which one is this pipeline's is not known".into(),
        );
    }
    let bucket = is_in_a_bucket(repository.path());
    let free = match bucket {
        true => None,
        false => Some(file_system(repository.path()).map_err(BackupError::io("look at", repository.path()))?.1),
    };
    let (mut window, holes) = reaches(&points, system_id);
    if let Some(window) = &mut window {
        window.to_time = last_commit(&repository.archive(window.system_id), window)?;
    }
    Ok(Holdings {
        repository: repository.path().to_string(),
        points,
        window,
        holes,
        used: size_of(repository.path())?,
        budget: config.backup.budget.as_u64(),
        free,
        notes,
    })
}

fn seen(listed: ListedPoint, manifest: Option<String>, lacks: Option<String>) -> PointSeen {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    PointSeen {
        point: listed.summary.point,
        kind: listed.kind,
        begin: time(&listed.summary.begin),
        end: time(&listed.summary.end),
        bytes: listed.summary.bytes,
        defect: listed.summary.defect.or(lacks),
        failed_checks: listed.summary.failed_checks.iter().map(ToString::to_string).collect(),
        checked: listed.passed.and_then(|passed| time(&passed.at)),
        manifest,
        reachable: listed.reachable,
    }
}

/// What can be gone back to without a gap, up to the newest position that the newest usable point leads to, and where WAL is missing.
fn reaches(points: &[PointSeen], system_id: Option<SystemId>) -> (Option<Window>, Vec<WalHole>) {
    let usable: Vec<&PointSeen> = points.iter().filter(|point| point.is_usable()).collect();
    // A server that was recovered writes on the highest.
    let newest: Option<&Reach> =
        usable.last().and_then(|point| point.reachable.iter().max_by_key(|reach| reach.timeline));
    let mut holes = BTreeSet::new();
    for point in points.iter().filter(|point| point.kind == Some(Kind::Full)) {
        for reach in &point.reachable {
            let is_of_newest = newest.is_some_and(|newest| newest.timeline == reach.timeline && newest.to == reach.to);
            holes.extend(reach.hole.as_ref().map(|segment| WalHole {
                timeline: reach.timeline,
                segment: segment.clone(),
                is_behind_newest: is_of_newest,
            }));
        }
    }
    let window = newest.zip(system_id).map(|(newest, system_id)| {
        let leads_there = |reach: &&Reach| reach.timeline == newest.timeline && reach.to == newest.to;
        let begins = usable.iter().filter_map(|p| Some((p.reachable.iter().find(leads_there)?.from, p.end)));
        let (from, from_time) = begins.min_by_key(|(from, _)| *from).unwrap_or((newest.from, None));
        Window { system_id, timeline: newest.timeline, from, to: newest.to, from_time, to_time: None }
    });
    (window, holes.into_iter().collect())
}

/// The time of the last commit before the end of a window, as the archived segments note it. A hint for people: nothing is decided by it.
fn last_commit(archive: &Archive, window: &Window) -> Result<Option<Timestamp>, BackupError> {
    let Some(size) = archive.segment_size()? else { return Ok(None) };
    let history = archive.history(window.timeline)?;
    let end = size.segment_of(window.to);
    for number in (end.saturating_sub(LOOKED_THROUGH)..end).rev() {
        let owner: Timeline = history.owner(Lsn(size.start(number + 1).0 - 1));
        let Some(held) = archive.find(&WalFile::Segment(SegmentName::new(owner, number, size)))? else { continue };
        match held.facts()? {
            Some(facts) => {
                if let Some(commits) = facts.commits {
                    return Ok(Some(commits.latest));
                }
            }
            None => return Ok(None),
        }
    }
    Ok(None)
}

type Asked = (Result<(ServerArchiving, Option<Lsn>), String>, Vec<SlotSeen>);

async fn server(config: &Config) -> Asked {
    let asked = async {
        let archiving = ServerArchiving::ask(config).await.map_err(|error| error.to_string())?;
        let (position, slots) = slots(config).await.map_err(|error| error.to_string())?;
        Ok(((archiving, position), slots))
    };
    match within(asked).await {
        Ok((server, slots)) => (Ok(server), slots),
        Err(why) => (Err(config.mask(&why)), Vec::new()),
    }
}

async fn slots(config: &Config) -> Result<(Option<Lsn>, Vec<SlotSeen>), ClientError> {
    let server = Postgres::connect(&config.postgres.url, "cdc-drill status").await?;
    let position: Option<Lsn> = server
        .text("select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end")
        .await?
        .and_then(|text| text.parse().ok());
    let slots = server.slots().await?.into_iter().map(|slot| SlotSeen {
        invalidated: slot.invalidated().map(str::to_owned),
        name: slot.name.to_string(),
        active: slot.active,
        wal_status: slot.wal_status,
        retained_bytes: position.zip(slot.restart_lsn).map(|(now, kept)| now.0.saturating_sub(kept.0)),
    });
    Ok((position, slots.collect()))
}

async fn systems(config: &Config) -> Vec<SystemSeen> {
    let kafka = async { Kafka::of(&config.kafka)?.own_cluster_id().await.map(drop) };
    let workers = Connect::of(&config.connect);
    let connect = async { workers.root().await.map(drop) };
    let schemas = Registry::of(&config.registry);
    let registry = async { schemas.info().await.map(drop) };
    let (kafka, connect, registry) = tokio::join!(answers(kafka), answers(connect), answers(registry));
    let all = [("kafka", kafka), ("connect", connect), ("registry", registry)];
    all.map(|(system, silent)| SystemSeen { system, silent: silent.map(|why| config.mask(&why)) }).into()
}

async fn answers(question: impl Future<Output = Result<(), ClientError>>) -> Option<String> {
    within(async { question.await.map_err(|error| error.to_string()) }).await.err()
}

/// An answer, where it comes while a person waits for it.
async fn within<T>(question: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let limit = asking::STATE.now();
    match tokio::time::timeout(limit, question).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("says nothing within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{PointId, Verdict};

    const SYSTEM: SystemId = SystemId(7);

    fn reach(timeline: u32, from: u64, to: u64, hole: Option<&str>) -> Reach {
        Reach {
            point: PointId::new("p"),
            timeline: Timeline::new(timeline).unwrap(),
            from: Lsn(from),
            to: Lsn(to),
            hole: hole.map(str::to_owned),
        }
    }

    fn point(kind: Kind, reachable: Vec<Reach>) -> PointSeen {
        PointSeen {
            point: PointId::new("p"),
            kind: Some(kind),
            begin: None,
            end: None,
            bytes: 1,
            defect: None,
            failed_checks: Vec::new(),
            checked: None,
            manifest: None,
            reachable,
        }
    }

    fn ends(points: &[PointSeen]) -> Option<(u32, u64, u64)> {
        reaches(points, Some(SYSTEM)).0.map(|window| (window.timeline.get(), window.from.0, window.to.0))
    }

    #[test]
    fn the_window_has_every_moment_up_to_the_newest_position() {
        let old = point(Kind::Full, vec![reach(1, 10, 90, None)]);
        let new = point(Kind::Full, vec![reach(1, 50, 90, None)]);
        assert_eq!(ends(&[old.clone(), new.clone()]), Some((1, 10, 90)));
        assert_eq!(ends(&[]), None);
        // A hole between the two: only what is behind it is one stretch.
        let torn = point(Kind::Full, vec![reach(1, 10, 30, Some("h"))]);
        let (window, holes) = reaches(&[torn, new.clone()], Some(SYSTEM));
        assert_eq!(window.map(|w| (w.from.0, w.to.0)), Some((50, 90)));
        assert_eq!(holes.iter().map(|hole| hole.is_behind_newest).collect::<Vec<_>>(), [false]);
        // A hole behind the newest.
        let short = point(Kind::Full, vec![reach(1, 50, 60, Some("h"))]);
        let (_, holes) = reaches(&[point(Kind::Full, vec![reach(1, 10, 60, Some("h"))]), short], Some(SYSTEM));
        assert_eq!(holes.iter().map(|hole| hole.is_behind_newest).collect::<Vec<_>>(), [true]);
        // After a recovery: the points lead to the end of the new timeline.
        let recovered = point(Kind::Full, vec![reach(1, 50, 90, None), reach(2, 50, 120, None)]);
        assert_eq!(ends(&[old.clone(), recovered]), Some((2, 50, 120)));
        // What a recovery would not start from begins no window.
        let selected = point(Kind::Selected, vec![reach(1, 5, 90, None)]);
        let damaged = PointSeen { defect: Some("gone".into()), ..old.clone() };
        let inconsistent = PointSeen { failed_checks: vec!["publications".into()], ..old };
        assert_eq!(ends(&[selected, damaged, inconsistent, new]), Some((1, 50, 90)));
    }

    #[test]
    fn a_task_of_this_process_is_known_whatever_the_repository_took_down() {
        let attempt = |verdict| Attempt {
            task: crate::backup::Task::Backup,
            began: "now".into(),
            host: "h".into(),
            ended: Some(crate::backup::Ended {
                at: "then".into(),
                exit_code: 13,
                verdict,
                reason: None,
                point: None,
                rto_seconds: None,
            }),
        };
        let mut tasks = Known::Unknown("no disk".to_owned());
        remember(&mut tasks, &attempt(Verdict::Passed));
        remember(&mut tasks, &attempt(Verdict::Failed));
        let known = tasks.get().unwrap();
        assert_eq!((known.len(), known[0].passed.is_some()), (1, true));
        assert_eq!(known[0].last.ended.as_ref().unwrap().verdict, Verdict::Failed);
    }
}
