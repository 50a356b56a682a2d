//! Looks at everything before anything is touched, and refuses what cannot work.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Coordinated,
    address::{refuse_other_address, server_at},
    configuration::{config_file, refuse_no_configuration},
    exchange::refuse_half_exchanged,
    identity::Identity,
    record::{LEARNED, PREPARED},
    salvage,
    state::Horizon,
};
use crate::{
    backup::{Origin, Repository, is_there, parts::postgres::room_to_restore},
    recovery::{
        RecoveryError, Request,
        memory::{Kept, Place},
        pipeline::Pipeline,
        replay::{archived_since, program},
        server::{
            Control, Layout, MAIN, Outside, Owner, Room, control_file_in, left_beside, major_of, read_control_data,
            refuse_fixed, refuse_other_version, refuse_tablespaces, resolved, size_below, wal_elsewhere,
        },
        target::{given_up, resolve},
        wal::WalView,
    },
};
use cdc_model::units::{Lsn, Timeline};
use cdc_pipeline::{
    client::kafka::Kafka,
    config::{Config, Tools},
};
use cdc_postgres::control::ControlData;

/// Beyond the data and its WAL: room for the server to work until somebody looks.
const SPARE_BYTES: u64 = 64 << 20;
/// Beside segments of WAL a recovery writes its record, and what the server archives meanwhile.
const RECORD_BYTES: u64 = 4 << 20;

impl Coordinated {
    /// Looks at everything and refuses what cannot work. Touches nothing.
    pub(crate) async fn plan(config: &Config, request: &Request) -> Result<Coordinated, RecoveryError> {
        let repository = Repository::of(&config.repository)?;
        repository.unlock()?;
        let control = Control::of(config, "postgres")?;
        let pgdata = resolved(&config.postgres.pgdata)?;
        refuse_half_exchanged(&Place::of(config)?, &pgdata)?;
        let owner = if is_there(&pgdata)? { Some(Owner::of(&pgdata)?) } else { None };
        let mut tools = Tools::of(config);
        refuse_fixed("data folder", &pgdata)?;
        let wal = wal_elsewhere(&pgdata)?;
        if let Some(wal) = &wal {
            refuse_fixed("WAL folder", wal)?;
        }
        refuse_tablespaces(&pgdata)?;
        // Before their output is believed.
        let major = major_of(&pgdata)?;
        if let Some(major) = major {
            refuse_other_version(&tools, major).await?;
        }
        let was_running = control.running().await?;
        let server = server_at(config, was_running).await?;
        // One that is damaged is what a recovery is for; one that cannot be read may be whole.
        let control_file = control_file_in(&pgdata)?;
        let control_data = read_control_data(&tools, &pgdata).await.ok();
        let running = match &server {
            Some(server) => Some(server.system_id().await?),
            None => None,
        };
        if let (None, true, Some(data)) = (&server, was_running, &control_data) {
            refuse_other_address(config, &pgdata, data.system_id).await?;
        }
        let known = Identity { control_data: control_data.as_ref(), control_file, running };
        let (system_id, segment_size, mut notes) = known.settle(&repository, request.system_id)?;
        let salvaged = Place::of(config)?.salvaged(system_id);
        let loose = [pgdata.join("pg_wal"), salvaged.clone()];
        let view = WalView::open(repository.archive(system_id), segment_size, &tools, &loose)?;
        let old_timeline = current_timeline(&view, control_data.as_ref(), &pgdata);
        let kafka = Kafka::of(&config.kafka)?.own_cluster_id().await?;
        let origin = Origin { system_id: Some(system_id), kafka: Some(kafka), registry: None };
        let (mut aim, point) = resolve(request, &repository, &origin, &view, old_timeline).await?;
        if aim.timeline != old_timeline {
            aim.notes.push(format!(
                "the target lies on timeline {}, which the server has left: it is on timeline {old_timeline}",
                aim.timeline
            ));
        }
        let owner = match owner {
            Some(owner) => owner,
            None => {
                let (owner, says) = Owner::of_lost(&pgdata, point.postgres()?.folder)?;
                tools = tools.owned_by(owner.numbers());
                notes.push(says);
                owner
            }
        };
        if !tools.elsewhere() {
            repository.identity_file_for(owner.numbers().0)?;
        }
        notes.extend(control.untold()?);
        aim.notes.splice(..0, notes);
        let given_up = given_up(&view, old_timeline, &aim.history, aim.cut).await?;
        let mut pipeline = Pipeline::discover(config, request, server.as_ref(), Some(&point)).await?;
        pipeline.refuse_active()?;
        pipeline.plan_topics(request, true).await?;
        let gives_up = aim.at.is_some() || !given_up.is_empty();
        pipeline.plan_dependents(request, gives_up, server.as_ref()).await?;
        match server {
            Some(_) => {
                pipeline.plan_publications(request, Some(&point)).await?;
                pipeline.plan_sessions().await;
            }
            None => {
                let unseen = "publications and limits of sessions are not looked at before the restore, as the server does not answer";
                pipeline.found.notes.push(unseen.to_owned());
            }
        }
        let of_point = point.postgres()?.version.major();
        if major != Some(of_point) {
            refuse_other_version(&tools, of_point).await?;
        }
        let config_file = config_file(config, &pgdata, server.as_ref(), &point).await?;
        let outside = match tools.elsewhere() {
            false => Outside::look(&point, &pgdata, config_file.as_deref().unwrap_or(&pgdata.join(MAIN)))?,
            true => Outside::default(),
        };
        refuse_no_configuration(config_file.as_deref(), &outside)?;
        let layout = Layout { config_file, wal };
        let archiver = program()?;
        let state = Coordinated {
            pipeline,
            request: request.clone(),
            point,
            aim,
            repository,
            system_id,
            segment_size,
            pgdata,
            layout,
            tools,
            owner,
            control,
            control_data,
            archiver,
            salvaged,
            old_timeline,
            was_running,
            given_up,
            memory: None,
            learned: Kept::of(LEARNED, None)?,
            prepared: Kept::of(PREPARED, None)?,
            horizon: Horizon::default(),
            notes: Vec::new(),
            differs: Vec::new(),
        };
        state.refuse_holes(&view).await?;
        let (notes, differs) = (state.refuse_no_room(&view)?, state.configuration_differs()?);
        let differs = differs.into_iter().chain(outside.notes()).collect();
        Ok(Coordinated { notes, differs, ..state })
    }

    /// Requires that replay from the point to the target finds every segment.
    async fn refuse_holes(&self, view: &WalView) -> Result<(), RecoveryError> {
        let facts = self.point.postgres()?;
        let (end, later) = match self.aim.at {
            Some(at) => (at, None),
            None => self.end_for_now(view).await?,
        };
        later.as_ref().unwrap_or(view).continuous(&self.aim.history, facts.start_lsn, end.max(facts.stop_lsn))
    }

    /// Where the WAL ends while nothing is fenced yet. Of a server that goes on, what is written between finding the end and
    /// looking behind it seems to be lost; it is not when a second look reads on, which then stands for the first. The fence
    /// is followed by a last look.
    async fn end_for_now(&self, view: &WalView) -> Result<(Lsn, Option<WalView>), RecoveryError> {
        let tail = view.tail(self.aim.timeline).await;
        let Err(lost) = salvage::lost(self, view, tail.as_ref()) else { return Ok((tail?.last, None)) };
        if !self.control.running().await? {
            return Err(lost);
        }
        let later = self.view(true)?;
        let end = later.tail(self.aim.timeline).await?.last;
        // A segment that was archived and used again between listing and reading cannot be read at first.
        match tail {
            Ok(first) if end <= first.last => Err(lost),
            _ => Ok((end, Some(later))),
        }
    }

    /// Requires room for everything that is written, on the file systems where it is written; says what could not be counted. The
    /// old data folder stays, so the restored one needs room beside it: that of the old one, which may have grown since the backup.
    fn refuse_no_room(&self, view: &WalView) -> Result<Vec<String>, RecoveryError> {
        let facts = self.point.postgres()?;
        let segment = self.segment_size.bytes();
        let parent = self.pgdata.parent().unwrap_or(&self.pgdata);
        let mut notes = Vec::new();
        let old = size_below(&self.pgdata, &["pg_wal"]).unwrap_or_else(|error| {
            notes.push(format!(
                "how large {} is could not be counted ({error}): room is looked for as the recovery point needs it",
                self.pgdata
            ));
            0
        });
        let mut room = Room::default();
        room.need("the restored data folder", parent, old.max(room_to_restore(&self.point)?) + SPARE_BYTES);
        let wal = self.layout.wal.as_deref().and_then(Utf8Path::parent).unwrap_or(parent);
        room.need("the WAL that it replays", wal, segment * (facts.wal_required.len() + 2) as u64);
        if self.tools.elsewhere() {
            room.need(
                "archived WAL as plain files",
                parent,
                segment * archived_since(view.archive(), &self.point, self.segment_size)?.len() as u64,
            );
        }
        // Finished segments are compressed, which may save nothing.
        let unarchived = view.loose().values().filter(|path| path.starts_with(self.old_wal())).count() as u64;
        room.need("salvaged WAL", &self.salvaged, segment * (unarchived + 1) + RECORD_BYTES);
        // A hint: what cannot be looked at is no reason to say nothing of the room.
        room.refuse_none(|| left_beside(&self.pgdata).unwrap_or_default())?;
        Ok(notes)
    }
}

/// The newest timeline that the server itself has seen. The archive may know a newer one, left by a recovery that failed.
fn current_timeline(view: &WalView, control: Option<&ControlData>, pgdata: &Utf8PathBuf) -> Timeline {
    let own_wal = pgdata.join("pg_wal");
    let own = view.loose().iter().filter(|(_, path)| path.starts_with(&own_wal)).map(|(name, _)| name.timeline).max();
    match (control.map(|c| c.timeline), own) {
        (None, None) => view.newest_timeline(),
        (control, own) => control.into_iter().chain(own).max().unwrap_or(Timeline::FIRST),
    }
}
