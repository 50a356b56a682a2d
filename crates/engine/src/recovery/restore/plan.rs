//! What a restore would do, looked at before anything is made.

use camino::Utf8PathBuf;

use super::{
    place::{Place, Record},
    request::RestoreRequest,
};
use crate::{
    backup::{
        Origin, Point, PointSelector, Repository, is_there,
        parts::postgres::{listed, room_to_restore},
    },
    recovery::{
        RecoveryError,
        coordinated::{Identity, refuse_no_configuration},
        replay::program,
        server::{MAIN, Outside, Owner, Room, refuse_other_version, resolved},
        target::{Aim, resolve},
        wal::WalView,
    },
};
use cdc_model::units::{Lsn, SystemId};
use cdc_postgres::wal::SegmentSize;

/// Room for the server to work until it is shut down.
const SPARE_BYTES: u64 = 64 << 20;
/// Tablespaces of a cluster, by the names of a base backup's files.
const TABLESPACES: &str = "pg_tblspc/";

/// A restore that can be carried out.
#[derive(Debug)]
pub struct RestorePlan {
    pub(super) request: RestoreRequest,
    pub(super) place: Place,
    pub(super) repository: Repository,
    pub(super) point: Point,
    pub(super) segment_size: SegmentSize,
    pub(super) owner: Owner,
    pub(super) program: Utf8PathBuf,
    pub(super) salvaged: Utf8PathBuf,
    pub(super) config_file: Option<Utf8PathBuf>,
    pub(super) outside: Outside,
    pub(super) record: Record,
    pub(super) notes: Vec<String>,
}

/// Looks at everything and refuses what cannot work. Touches nothing.
pub async fn plan_restore(request: &RestoreRequest) -> Result<RestorePlan, RecoveryError> {
    let place = Place { pgdata: resolved(&request.pgdata)? };
    let earlier = place.look()?;
    if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.asked != request.in_words()) {
        return Err(RecoveryError::impossible(
            format!("data folder {}", place.pgdata),
            format!("the restore that did not end there: {}", earlier.asked),
            request.in_words(),
            format!("the same request goes on with it; remove {} to give it up", place.work()),
        ));
    }
    if request.tools.elsewhere() {
        return Err(RecoveryError::impossible(
            "[control.postgres] tool",
            "PostgreSQL's programs on this machine",
            "a prefix before them",
            "run the restore where the programs are, with --repository and --bin",
        ));
    }
    let repository = Repository::of(&request.repository)?;
    repository.unlock()?;
    let known = Identity { control_data: None, control_file: None, running: None };
    let system_id = request.system_id.or(earlier.as_ref().map(|earlier| earlier.system_id));
    let (system_id, segment_size, _) = known.settle(&repository, system_id)?;
    let salvaged = repository.salvaged(system_id);
    let archive = repository.archive(system_id);
    let view = WalView::open(archive, segment_size, &request.tools, std::slice::from_ref(&salvaged))?;
    let mut notes = vec![format!("cluster with system identifier {system_id}")];
    let (record, point) = match earlier {
        Some(record) => {
            notes.push("goes on with the restore that did not end".to_owned());
            let point = repository.point(&PointSelector::Id(record.point.clone()))?;
            (record, point)
        }
        None => decide(request, &repository, &view, system_id).await?,
    };
    let facts = point.postgres()?;
    refuse_tablespaces(&point)?;
    refuse_other_version(&request.tools, facts.version.major()).await?;
    let end = record.aim.at.or(record.end).unwrap_or(facts.stop_lsn).max(facts.stop_lsn);
    view.continuous(&record.aim.history, facts.start_lsn, end)?;
    let owner = match is_there(&place.pgdata)? {
        true => Owner::of(&place.pgdata)?,
        false => {
            let (owner, _) = Owner::of_lost(&place.pgdata, facts.folder)?;
            notes.push(format!("data folder {} is made, for uid {}", place.pgdata, owner.numbers().0));
            owner
        }
    };
    repository.identity_file_for(owner.numbers().0)?;
    let own = place.pgdata.join(MAIN);
    let named = request.config_file.clone().or_else(|| facts.config_file.clone());
    // One that lies in a data folder lies in this one: the recovery point has it.
    let within = listed(&point)?.contains_key(MAIN);
    let config_file = named.filter(|file| *file != own && !(within && request.config_file.is_none()));
    let outside = Outside::look(&point, &place.pgdata, config_file.as_deref().unwrap_or(&own))?;
    refuse_no_configuration(config_file.as_deref(), &outside)?;
    if let Some(file) = &config_file {
        notes.push(format!(
            "the server's configuration is {file}, outside the data folder: that it names this one is for you to see to"
        ));
    }
    notes.extend(outside.notes());
    let mut room = Room::default();
    room.need("the restored data folder", &place.pgdata, room_to_restore(&point)? + SPARE_BYTES);
    room.need("the WAL that it replays", &place.pgdata, segment_size.bytes() * (facts.wal_required.len() + 2) as u64);
    room.refuse_none(Vec::new)?;
    let request = request.clone();
    let program = program()?;
    Ok(RestorePlan {
        request,
        place,
        repository,
        point,
        segment_size,
        owner,
        program,
        salvaged,
        config_file,
        outside,
        record,
        notes,
    })
}

/// Finds the target, the recovery point, and the last transaction that is kept.
async fn decide(
    request: &RestoreRequest,
    repository: &Repository,
    view: &WalView,
    system_id: SystemId,
) -> Result<(Record, Point), RecoveryError> {
    let origin = Origin { system_id: Some(system_id), kafka: None, registry: None };
    // There is no server that would say which timeline it is on.
    let current = request.timeline.unwrap_or_else(|| view.newest_timeline());
    let (mut aim, point) = resolve(&request.as_recovery(), repository, &origin, view, current).await?;
    let end = match aim.at {
        Some(_) => None,
        None => {
            let tail = view.tail(aim.timeline).await?;
            aim.notes.push(format!(
                "the end of timeline {} is that of the archive, {}: what the server wrote after that and never archived is not kept",
                aim.timeline, tail.last
            ));
            Some(tail.last)
        }
    };
    let cut = aim.cut.or(end.map(|end| Lsn(end.0 + 1)));
    let from = point.postgres()?.stop_lsn;
    let last = match cut {
        Some(cut) => view.last_commit(&aim.history, from, cut).await?,
        None => None,
    };
    let asked = request.in_words();
    let last_commit_at = last.as_ref().map(|commit| commit.time);
    let last_commit = last.map(|commit| commit.to_string());
    let point_id = point.id().clone();
    let record = Record { asked, point: point_id, aim, system_id, end, last_commit, last_commit_at, restored: None };
    Ok((record, point))
}

/// A tablespace lies outside of the data folder, and a base backup of one that has some is not taken.
fn refuse_tablespaces(point: &Point) -> Result<(), RecoveryError> {
    let listed = listed(point)?;
    let found: Vec<&str> = listed.keys().filter_map(|file| file.strip_prefix(TABLESPACES)?.split('/').next()).collect();
    match found.first() {
        None => Ok(()),
        Some(first) => Err(RecoveryError::impossible(
            format!("recovery point {}", point.id()),
            "a cluster without tablespaces",
            format!("tablespace {first}"),
            "restore it by hand: tablespaces are not mapped",
        )),
    }
}

impl RestorePlan {
    pub(super) fn aim(&self) -> &Aim {
        &self.record.aim
    }
}
