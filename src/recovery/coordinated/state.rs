//! What a coordinated recovery knows: found before anything is touched, and learned on the way.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    aim::{self, Aim},
    prepare::{PREPARED, Prepared},
    replay::control_file_in,
    salvage,
    timelines::{self, GivenUp},
};
use crate::{
    backup::{Origin, Point, PointSelector, Repository, is_there, parts::postgres::listed},
    client::{
        kafka::Kafka,
        postgres::{self as server, Postgres},
    },
    config::{Config, Tools},
    postgres::{
        control::{self, ControlData},
        wal::SegmentSize,
    },
    recovery::{
        RecoveryError, Request,
        memory::{Kept, Memory, Place},
        pipeline::{Found, Outdated, Pipeline},
        server::{
            Configuration, Control, Layout, Listening, MAIN, Outside, Owner, Replay, Room, copy_reachable, left_beside,
            listening, major_of, read_control_data, refuse_fixed, refuse_other_version, refuse_tablespaces, resolved,
            size_below, wal_elsewhere,
        },
        step::GoesOn,
        steps::OverPipeline,
        wal::{Tail, WalView},
        way_back::NO_WAY_BACK,
    },
    units::{IfThere, Lsn, Offset, PointId, SystemId, Timeline, TopicPartition, redact_url},
};

/// Names the program that archives and fetches WAL.
const PROGRAM_VARIABLE: &str = "CDC_DRILL_BIN";
/// Beyond the data and its WAL: room for the server to work until somebody looks.
const SPARE_BYTES: u64 = 64 << 20;
/// Beside segments of WAL a recovery writes its record, and what the server archives meanwhile.
const RECORD_BYTES: u64 = 4 << 20;

/// Under which name the record has what was learned.
const LEARNED: &str = "learned";

/// The state of the playbook.
pub(crate) struct Coordinated {
    pub(crate) pipeline: Pipeline,
    pub(crate) request: Request,
    pub(crate) point: Point,
    pub(super) aim: Aim,
    pub(super) repository: Repository,
    pub(super) system_id: SystemId,
    pub(super) segment_size: SegmentSize,
    pub(super) pgdata: Utf8PathBuf,
    pub(super) layout: Layout,
    pub(super) tools: Tools,
    pub(super) owner: Owner,
    pub(super) control: Control,
    pub(super) control_data: Option<ControlData>,
    pub(super) archiver: Utf8PathBuf,
    /// Where segments are kept that the archive may not take.
    pub(super) salvaged: Utf8PathBuf,
    /// The timeline the old server was on.
    pub(super) old_timeline: Timeline,
    /// Whether it was up when the recovery began.
    was_running: bool,
    /// The transactions that the target leaves out, as they were counted when it was found.
    given_up: Vec<GivenUp>,
    /// The recovery's record; a plan has none.
    memory: Option<Memory>,
    /// What was learned on the way.
    pub(crate) learned: Kept<Learned>,
    /// What was made before anything stopped.
    pub(crate) prepared: Kept<Prepared>,
    horizon: Horizon,
    /// What could not be counted.
    notes: Vec<String>,
    /// What of the configuration is going to stay as it is.
    differs: Vec<String>,
}

/// What was decided by looking, before anything was touched: a run that goes on does not look for the target again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    point: PointId,
    aim: Aim,
    system_id: SystemId,
    segment_bytes: u64,
    pgdata: Utf8PathBuf,
    #[serde(default)]
    layout: Layout,
    control_data: Option<ControlData>,
    old_timeline: Timeline,
    /// Whether the old server was up.
    was_running: bool,
    #[serde(default)]
    given_up: Vec<GivenUp>,
}

impl Goal {
    /// The data folder, behind links.
    pub(super) fn pgdata(&self) -> &Utf8Path {
        &self.pgdata
    }

    /// Where its parts lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// What a recovery learns between its steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// The old folder's control file when the fence stood, as SHA-256; every start of a server writes it.
    pub(super) at_rest: Option<String>,
    /// The transactions that the target leaves out, counted behind the fence.
    #[serde(default)]
    pub(super) given_up: Option<Vec<GivenUp>>,
    /// Segments that were copied.
    pub(super) salvaged: Vec<String>,
    /// What was agreed to be lost.
    pub(super) lost: Option<String>,
    /// The last record of the old server.
    pub(crate) end: Option<Tail>,
    pub(super) pinned: bool,
    /// The restored data folder, once it was looked at.
    pub(crate) restored: Option<Restored>,
    /// Where each partition of the data topics began anew.
    pub(crate) cut: Vec<(TopicPartition, Offset)>,
}

/// How far an earlier run came, by the state of the systems.
#[derive(Clone, Copy, Debug, Default)]
struct Horizon {
    /// The old data folder is set aside, and the restored one is not yet in its place.
    set_aside: bool,
    /// The restored data folder is in its place: what clients committed since must never be given up.
    exchanged: bool,
    /// The connectors stream from complete snapshots: topics are filled, groups have moved on, slots are there.
    resumed: bool,
}

/// How the restored server came out of its replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// What its log says.
    pub(crate) replay: Replay,
    /// The timeline it is on now.
    pub(crate) timeline: Timeline,
    /// Where it left the timeline before: later positions from before the recovery are abandoned.
    pub(crate) switch: Option<Lsn>,
    /// Where it was restored.
    pub(super) fresh: Utf8PathBuf,
    /// Where the old data folder is now.
    pub(crate) aside: Utf8PathBuf,
    /// Rows counted in captured tables.
    pub(crate) rows: u64,
}

impl Coordinated {
    /// Looks at everything and refuses what cannot work. Touches nothing.
    pub(crate) async fn plan(config: &Config, request: &Request) -> Result<Coordinated, RecoveryError> {
        let repository = Repository::open(&config.repository.path)?;
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
        let salvaged = repository.path().join("salvage").join(system_id.to_string());
        let loose = [pgdata.join("pg_wal"), salvaged.clone()];
        let view = WalView::open(repository.archive(system_id), segment_size, &tools, &loose)?;
        let old_timeline = current_timeline(&view, control_data.as_ref(), &pgdata);
        let kafka = Kafka::of(&config.kafka)?.own_cluster_id().await?;
        let origin = Origin { system_id: Some(system_id), kafka: Some(kafka) };
        let (mut aim, point) = aim::resolve(request, &repository, &origin, &view, old_timeline).await?;
        let owner = match owner {
            Some(owner) => owner,
            None => {
                let (owner, says) = Owner::of_lost(&pgdata, point.postgres()?.folder)?;
                tools = tools.owned_by(owner.numbers());
                notes.push(says);
                owner
            }
        };
        notes.extend(control.untold()?);
        aim.notes.splice(..0, notes);
        let given_up = timelines::given_up(&view, old_timeline, &aim.history, aim.cut).await?;
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

    /// The state of a recovery that did not end: what was found and decided then, and how far it came by now. Nothing is
    /// resolved anew: a target may mean something else since, and the point was chosen for it.
    pub(crate) async fn again(
        config: &Config,
        request: &Request,
        memory: &Memory,
    ) -> Result<Coordinated, RecoveryError> {
        let goal: Goal = memory.decided()?;
        let Goal { point, aim, system_id, segment_bytes, pgdata, layout, control_data, old_timeline, .. } = goal;
        let (was_running, given_up) = (goal.was_running, goal.given_up);
        let segment_size = SegmentSize::new(segment_bytes).ok_or_else(|| {
            RecoveryError::impossible(
                memory.folder().as_str(),
                "a WAL segment size",
                segment_bytes.to_string(),
                "the record is damaged",
            )
        })?;
        let repository = Repository::open(&config.repository.path)?;
        let learned: Kept<Learned> = Kept::of(LEARNED, Some(memory))?;
        let exchange = learned.restored.as_ref().map(|restored| Exchange::of(&pgdata, restored)).transpose()?;
        let mut config = config.clone();
        config.postgres.pgdata.clone_from(&pgdata);
        let point = repository.point(&PointSelector::Id(point))?;
        let (standing, mut tools) = (standing(memory)?, Tools::of(&config));
        let owner = match is_there(&standing)? {
            true => Owner::of(&standing)?,
            false => Owner::of_lost(&standing, point.postgres()?.folder)?.0,
        };
        if !is_there(&pgdata)? {
            tools = tools.owned_by(owner.numbers());
        }
        Ok(Coordinated {
            pipeline: Pipeline::of(&config, memory.found::<Found>()?)?,
            request: request.clone(),
            point,
            aim,
            system_id,
            segment_size,
            owner,
            tools,
            control: Control::of(&config, "postgres")?,
            control_data,
            archiver: program()?,
            salvaged: repository.path().join("salvage").join(system_id.to_string()),
            old_timeline,
            repository,
            pgdata,
            layout,
            was_running,
            given_up,
            memory: Some(memory.clone()),
            learned,
            prepared: Kept::of(PREPARED, Some(memory))?,
            notes: Vec::new(),
            differs: Vec::new(),
            horizon: Horizon {
                set_aside: exchange == Some(Exchange::Half),
                exchanged: exchange == Some(Exchange::After),
                resumed: false,
            },
        })
    }

    /// Looks whether an earlier run came as far as connectors that stream. A server that does not answer has not resumed.
    pub(crate) async fn look_how_far(&mut self, memory: &Memory) {
        if self.horizon.exchanged && memory.began_step("resume") {
            let rested = memory.began_step("restore-config");
            let resumed = self.pipeline.has_resumed(self.pipeline.course.takes_snapshots(), rested).await;
            self.horizon.resumed = resumed.unwrap_or(false);
        }
    }

    /// What was decided.
    pub(crate) fn goal(&self) -> Goal {
        Goal {
            point: self.point.id().clone(),
            aim: self.aim.clone(),
            system_id: self.system_id,
            segment_bytes: self.segment_size.bytes(),
            pgdata: self.pgdata.clone(),
            layout: self.layout.clone(),
            control_data: self.control_data.clone(),
            old_timeline: self.old_timeline,
            was_running: self.was_running,
            given_up: self.given_up.clone(),
        }
    }

    /// Takes back what the steps before the exchange did: what was restored goes, the old server is started again if it ran. An error
    /// once the data folders are exchanged: what clients committed since would be lost.
    pub(crate) async fn take_back(&mut self) -> Result<Vec<String>, RecoveryError> {
        let mut said = Vec::new();
        if let Some(restored) = self.learned.restored.clone() {
            match Exchange::of(&self.pgdata, &restored)? {
                Exchange::After => {
                    return Err(RecoveryError::Refused {
                        what: format!(
                            "the restored data folder is in its place ({}): what was committed there since would be lost",
                            self.pgdata
                        ),
                        hint: NO_WAY_BACK.into(),
                    });
                }
                Exchange::Half => {
                    std::fs::rename(&restored.aside, &self.pgdata)
                        .map_err(|e| RecoveryError::io("rename to", &self.pgdata, e))?;
                    said.push(format!("{} is in its place again", self.pgdata));
                }
                Exchange::Before => {}
            }
        }
        self.remove_prepared().await?;
        if self.was_running {
            self.start_old().await?;
            said.push("the old server runs".to_owned());
        } else {
            said.push("the old server was down when the recovery began, and is left down".to_owned());
        }
        Ok(said)
    }

    /// From here on what is learned is written down.
    pub(crate) fn keep_in(&mut self, memory: &Memory) {
        self.learned.keep_in(memory);
        self.prepared.keep_in(memory);
        self.memory = Some(memory.clone());
    }

    /// A file of the recovery's record.
    pub(super) fn own_file(&self, step: &str, name: &str) -> Result<Utf8PathBuf, RecoveryError> {
        let memory = self.memory.as_ref();
        memory.map(|m| m.file(name)).ok_or_else(|| RecoveryError::unmet(step, "a record of the recovery", "none"))
    }

    /// The recovery's id, for names of what it makes.
    pub(super) fn id(&self) -> String {
        self.memory.as_ref().map_or_else(|| "plan".to_owned(), |memory| memory.id().to_owned())
    }

    /// Makes the data folder again that is gone, so that there is one to set aside.
    pub(super) fn make_lost_folder(&self) -> Result<(), RecoveryError> {
        if self.horizon.set_aside || self.horizon.exchanged || is_there(&self.pgdata)? {
            return Ok(());
        }
        self.owner.make_folder(&self.pgdata)
    }

    /// Counts what the target leaves out, now that nobody commits any more.
    pub(super) async fn count_given_up(&mut self) -> Result<(), RecoveryError> {
        let counted = async {
            let view = self.view(true)?;
            timelines::given_up(&view, self.old_timeline, &self.aim.history, self.aim.cut).await
        };
        match counted.await {
            Ok(given_up) => self.learned.change(|l| l.given_up = Some(given_up)),
            // The count from before the fence stands, and a database is not left down for a number.
            Err(error) => {
                tracing::warn!(%error, "what the target leaves out is not counted again");
                Ok(())
            }
        }
    }

    /// Puts the program that fetches WAL where the restored server can run it. One that runs somewhere else finds its WAL
    /// laid out instead.
    pub(crate) fn place_archiver(&mut self) -> Result<(), RecoveryError> {
        if self.tools.elsewhere() {
            return Ok(());
        }
        let beside = self.pgdata.with_file_name(".cdc-drill");
        self.archiver = copy_reachable(&self.archiver, &self.owner, &self.tools, &beside)?;
        Ok(())
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
        room.need("the restored data folder", parent, old.max(facts.base_raw_bytes) + SPARE_BYTES);
        let wal = self.layout.wal.as_deref().and_then(Utf8Path::parent).unwrap_or(parent);
        room.need("the WAL that it replays", wal, segment * (facts.wal_required.len() + 2) as u64);
        if self.tools.elsewhere() {
            room.need("archived WAL as plain files", parent, segment * self.archived_since_the_point()?.len() as u64);
        }
        // Finished segments are compressed, which may save nothing.
        let unarchived = view.loose().values().filter(|path| path.starts_with(self.old_wal())).count() as u64;
        room.need("salvaged WAL", self.repository.path(), segment * (unarchived + 1) + RECORD_BYTES);
        // A hint: what cannot be looked at is no reason to say nothing of the room.
        room.refuse_none(|| left_beside(&self.pgdata).unwrap_or_default())?;
        Ok(notes)
    }

    /// Which files of the configuration are not what they were when the base backup was taken: they stay as they are now.
    fn configuration_differs(&self) -> Result<Vec<String>, RecoveryError> {
        let now = Configuration::of(&self.pgdata, self.layout.config_file.is_some());
        let listed = listed(&self.point)?;
        let as_listed = |name: &Utf8Path, checksum: String| listed.get(name.as_str()) == Some(&Some(checksum));
        let differing = now.checksums().filter(|(name, checksum)| !as_listed(name, checksum.clone()));
        let differing: Vec<String> = differing.map(|(name, _)| name.to_string()).collect();
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        let files = differing.join(", ");
        Ok(vec![format!("configuration changed since the recovery point, and kept as it is now: {files}")])
    }

    /// The timeline the old server was on.
    pub(crate) fn old_timeline(&self) -> Timeline {
        self.old_timeline
    }

    /// The timeline that the restored server left.
    pub(crate) fn abandoned_timeline(&self) -> Timeline {
        self.aim.timeline
    }

    /// What else is concerned: named, and not touched.
    pub(crate) fn findings(&self) -> Vec<String> {
        let slots = self.pipeline.found.other_slots.iter().map(|s| {
            format!("slot {} ({}) is not in a base backup: its consumer must begin anew", s.name, s.slot_type)
        });
        let subscriptions = self.pipeline.found.subscriptions.iter();
        let subscriptions = subscriptions.map(|s| format!("subscription {s} goes back to the target with its cluster"));
        let lost = self.learned.lost.iter().map(|l| format!("accepted as lost: {l}"));
        let given_up = self.learned.given_up.as_ref().unwrap_or(&self.given_up);
        let why = match given_up.is_empty() && self.learned.lost.is_none() {
            true => Outdated::Unread,
            false => Outdated::GivenUp,
        };
        let downstream = self.pipeline.downstream_finding(&self.pipeline.found.groups, why);
        let given_up = given_up.iter().map(ToString::to_string).chain(downstream);
        // What a step has done says more than what it was going to do.
        let done = &self.prepared.configuration;
        let configuration = if done.is_empty() { &self.differs } else { done };
        let points = self.aim.notes.iter().chain(&self.notes).chain(configuration).cloned().chain(given_up);
        points.chain(slots).chain(subscriptions).chain(lost).chain(self.pipeline.topic_findings()).collect()
    }
}

impl OverPipeline for Coordinated {
    fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn point(&self) -> Option<&Point> {
        Some(&self.point)
    }

    fn keep_cut(&mut self, ends: Vec<(TopicPartition, Offset)>) -> Result<(), RecoveryError> {
        self.learned.change(|l| l.cut = ends)
    }
}

impl GoesOn for Coordinated {
    fn is_done(&self, step: &str) -> Option<&'static str> {
        match step {
            "resume" | "restore-config" => None,
            _ if self.horizon.resumed => Some("the connectors stream from complete snapshots"),
            "prepare" | "fence" | "salvage" | "pin-timeline" | "restore" if self.horizon.exchanged => {
                Some("the restored data folder is in its place")
            }
            // What they look at is set aside, and what they learned is known.
            "prepare" | "fence" | "salvage" | "pin-timeline" if self.horizon.set_aside => {
                Some("the old data folder is set aside")
            }
            _ => None,
        }
    }
}

/// How far the two renames came that put a restored data folder into the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The old folder is in its place, the restored one beside it.
    Before,
    /// The old one is set aside, and its place is empty.
    Half,
    /// The restored one is in the place.
    After,
}

impl Exchange {
    /// By the folders that are there. `restored` is what the record says of them.
    pub(super) fn of(pgdata: &Utf8Path, restored: &Restored) -> Result<Exchange, RecoveryError> {
        let Restored { fresh, aside, .. } = restored;
        match (is_there(pgdata)?, is_there(aside)?, is_there(fresh)?) {
            (true, false, true) => Ok(Exchange::Before),
            (false, true, true) => Ok(Exchange::Half),
            // Somebody may have removed what was set aside.
            (true, _, false) => Ok(Exchange::After),
            (old, set_aside, new) => Err(RecoveryError::impossible(
                pgdata.as_str(),
                format!("two of three folders: {pgdata}, {aside} and {fresh}"),
                format!("{}, {} and {}", word(old), word(set_aside), word(new)),
                "the recovery set the first aside as the second and put the third in its place; move them back to one of these states",
            )),
        }
    }
}

/// Where the data folder of the cluster stands: between the two renames, where the old one was set aside.
pub(crate) fn standing(memory: &Memory) -> Result<Utf8PathBuf, RecoveryError> {
    let goal: Goal = memory.decided()?;
    let learned: Learned = memory.learned(LEARNED)?.unwrap_or_default();
    Ok(match &learned.restored {
        Some(restored) if Exchange::of(&goal.pgdata, restored)? == Exchange::Half => restored.aside.clone(),
        _ => goal.pgdata,
    })
}

/// Whether the old data folder is set aside and the restored one is not in its place yet.
pub(crate) fn is_half_exchanged(memory: &Memory) -> Result<bool, RecoveryError> {
    Ok(standing(memory)? != memory.decided::<Goal>()?.pgdata)
}

/// Where the old data folder was set aside, or is about to be.
pub(crate) fn set_aside(memory: &Memory) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let learned: Option<Learned> = memory.learned(LEARNED)?;
    Ok(learned.and_then(|learned| learned.restored).map(|restored| restored.aside))
}

fn word(there: bool) -> &'static str {
    if there { "there" } else { "missing" }
}

/// The cluster that a recovery is of.
pub(crate) fn cluster(memory: &Memory) -> Result<SystemId, RecoveryError> {
    Ok(memory.decided::<Goal>()?.system_id)
}

/// The server at the configuration's address, where it gives a session. Refused where it lets others in, and where the hook says that
/// it does not run.
async fn server_at(config: &Config, runs: bool) -> Result<Option<Postgres>, RecoveryError> {
    let said = match (Postgres::find(&config.postgres.url, "cdc-drill-recovery").await, runs) {
        (server::Found::Session(session), true) => return Ok(Some(session)),
        // What it is asked with is wrong, and would be at the end.
        (server::Found::Refuses(refused), true) => return Err(refused.into()),
        (server::Found::Unready(_), true) | (server::Found::Silence(_), _) => return Ok(None),
        (server::Found::Session(session), false) => format!("a session with a server at {}", session.address()),
        (server::Found::Refuses(error) | server::Found::Unready(error), false) => {
            // Its own hint is about a server that is to answer.
            format!("somebody there: {}", error.to_string().lines().next().unwrap_or_default())
        }
    };
    Err(RecoveryError::impossible(
        "[control.postgres] running",
        "that the server runs, or silence at the address in [postgres] url",
        format!("that it does not run, and {said}"),
        "does the hook ask about the server at this address? it must exit 1 only where the server is down",
    ))
}

/// Where the server of the data folder gives a session itself, nobody at the configuration's address is no dead server, but another
/// address: the restored one would not be found there either.
async fn refuse_other_address(config: &Config, pgdata: &Utf8Path, system_id: SystemId) -> Result<(), RecoveryError> {
    let Some(Listening { port, hosts }) = listening(pgdata)? else { return Ok(()) };
    for host in hosts {
        let url = &config.postgres.url;
        let session = Postgres::connect_on_this_machine(url, &host, port, "cdc-drill-recovery").await;
        // Of a container, `postmaster.pid` has an address within it, and another server may have that here.
        let is_it = match session {
            Ok(session) => session.system_id().await.is_ok_and(|id| id == system_id),
            Err(_) => false,
        };
        if is_it {
            return Err(RecoveryError::impossible(
                format!("[postgres] url, {}", redact_url(url.expose())),
                format!("the address of the server that runs on {pgdata}"),
                format!("silence there, while that server answers at {host}, port {port}"),
                "is the address in the configuration right, and does its name resolve? the restored server is looked for there",
            ));
        }
    }
    Ok(())
}

/// What says which cluster this is.
struct Identity<'a> {
    control_data: Option<&'a ControlData>,
    /// The control file, where there is one, also one that the server's program cannot understand.
    control_file: Option<Vec<u8>>,
    /// The identifier that a running server gave.
    running: Option<SystemId>,
}

impl Identity<'_> {
    /// The identifier and the size of WAL segments, with what a person should know of how they were found. The control file says them;
    /// where it is gone, the running server, the identifier that was named, or the only cluster that the repository knows.
    fn settle(
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
    for point in repository.finished()?.flatten() {
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

/// The newest timeline that the server itself has seen. The archive may know a newer one, left by a recovery that failed.
fn current_timeline(view: &WalView, control: Option<&ControlData>, pgdata: &Utf8PathBuf) -> Timeline {
    let own_wal = pgdata.join("pg_wal");
    let own = view.loose().iter().filter(|(_, path)| path.starts_with(&own_wal)).map(|(name, _)| name.timeline).max();
    match (control.map(|c| c.timeline), own) {
        (None, None) => view.newest_timeline(),
        (control, own) => control.into_iter().chain(own).max().unwrap_or(Timeline::FIRST),
    }
}

/// A recovery that was killed between its last two renames leaves no data folder, and the old one beside it. What one has set aside
/// that ended well is older than what is gone now.
fn refuse_half_exchanged(place: &Place, pgdata: &Utf8PathBuf) -> Result<(), RecoveryError> {
    let (Some(parent), Some(name)) = (pgdata.parent(), pgdata.file_name()) else { return Ok(()) };
    if is_there(pgdata)? {
        return Ok(());
    }
    let start = format!("{name}.aside-");
    let unlisted = |e| RecoveryError::io("list", parent, e);
    let Some(beside) = parent.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(()) };
    let mut aside = None;
    for entry in beside {
        let entry = entry.map_err(unlisted)?;
        if let Some(recovery) = entry.file_name().strip_prefix(&start)
            && !place.ended_well(recovery)?
        {
            aside = aside.max(Some(entry.into_path()));
        }
    }
    let Some(aside) = aside else { return Ok(()) };
    Err(RecoveryError::impossible(
        pgdata.as_str(),
        "a data folder",
        format!(
            "none; a recovery ended between setting the old one aside and putting the new one in its place: {aside}"
        ),
        format!("mv {aside} {pgdata}, and run the recovery again"),
    ))
}

/// Where `postgresql.conf` is, if not in the data folder: as the configuration names it, as the server says that runs, as the
/// recovery point has it, in this order. Distributions keep it in a folder of its own, which no base backup holds.
async fn config_file(
    config: &Config,
    pgdata: &Utf8Path,
    server: Option<&Postgres>,
    point: &Point,
) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let own = pgdata.join(MAIN);
    let named = match (&config.postgres.config_file, server) {
        (Some(named), _) => Some(named.clone()),
        (None, Some(session)) => session.configuration_outside().await?.map(Utf8PathBuf::from),
        (None, None) => point.postgres()?.config_file.clone(),
    };
    if let Some(named) = named.filter(|named| *named != own) {
        if named.starts_with(pgdata) {
            return Err(RecoveryError::impossible(
                named.as_str(),
                format!("the server's configuration in {own}, or outside the data folder"),
                "a file of another name in the data folder",
                "what lies in the data folder is restored with it; move the file out, or give it the usual name",
            ));
        }
        return Ok(Some(named));
    }
    if is_there(&own)? || server.is_some() || listed(point)?.contains_key(MAIN) {
        return Ok(None);
    }
    Err(RecoveryError::impossible(
        own.as_str(),
        "the server's configuration, here or where [postgres] config_file names it",
        "neither, and the server is down",
        "distributions keep it elsewhere: config_file = \"/etc/postgresql/<version>/<name>/postgresql.conf\" on Debian",
    ))
}

/// A server whose main file is neither here nor in the recovery point does not start.
fn refuse_no_configuration(config_file: Option<&Utf8Path>, outside: &Outside) -> Result<(), RecoveryError> {
    match config_file.filter(|file| outside.missing.iter().any(|missing| missing == file.as_str())) {
        None => Ok(()),
        Some(file) => Err(RecoveryError::impossible(
            file.as_str(),
            "the server's configuration, on this machine or in the recovery point",
            "neither",
            "write it again, or name another file in [postgres] config_file",
        )),
    }
}

/// The program that replay runs to fetch WAL: named, or beside this executable, or one folder above (a test's).
fn program() -> Result<Utf8PathBuf, RecoveryError> {
    if let Ok(named) = std::env::var(PROGRAM_VARIABLE) {
        return Ok(Utf8PathBuf::from(named));
    }
    let me = std::env::current_exe().ok().and_then(|p| Utf8PathBuf::from_path_buf(p).ok());
    let folders = me.iter().flat_map(|p| p.ancestors().skip(1).take(2)).map(|f| f.join("cdc-drill"));
    let looked: Vec<Utf8PathBuf> = folders.collect();
    for place in &looked {
        if is_there(place)? {
            return Ok(place.clone());
        }
    }
    Err(RecoveryError::impossible(
        "program that fetches archived WAL",
        format!("cdc-drill at {}", looked.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" or ")),
        "none",
        format!("name it in {PROGRAM_VARIABLE}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Part, fixture},
        recovery::memory::{Ending, tests as memory_tests},
        units::Exit,
    };

    fn data(system_id: u64) -> ControlData {
        ControlData { system_id: SystemId(system_id), timeline: 1.into(), checkpoint: Lsn(1), segment_size: 16 << 20 }
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
        let text = error.to_string();
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

    #[test]
    fn the_folders_tell_how_far_the_exchange_came() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        let (pgdata, fresh, aside) = (folder.join("data"), folder.join("data.restoring"), folder.join("data.aside"));
        let restored = Restored {
            replay: Replay::default(),
            timeline: 2.into(),
            switch: None,
            fresh: fresh.clone(),
            aside: aside.clone(),
            rows: 0,
        };
        for bits in 0..8u8 {
            for (bit, path) in [&pgdata, &aside, &fresh].into_iter().enumerate() {
                let _ = std::fs::remove_dir(path);
                if bits >> bit & 1 == 1 {
                    std::fs::create_dir(path).unwrap();
                }
            }
            let expected = match bits {
                0b101 => Some(Exchange::Before),
                0b110 => Some(Exchange::Half),
                0b011 | 0b001 => Some(Exchange::After),
                _ => None,
            };
            assert_eq!(Exchange::of(&pgdata, &restored).ok(), expected, "{bits:03b}");
        }
    }

    #[test]
    fn a_folder_between_two_renames_is_named() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        let (pgdata, (_folder, place)) = (folder.join("data"), memory_tests::place());
        let refuse_half_exchanged = |pgdata| refuse_half_exchanged(&place, pgdata);
        assert!(refuse_half_exchanged(&pgdata).is_ok(), "another error's matter");
        let memory = memory_tests::begin(&place);
        fs_err::create_dir(folder.join(format!("data.aside-{}", memory.id()))).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_err(), "it did not end");
        memory.close(Ending::Verified).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_ok(), "what is gone now is what that recovery restored");
        for stamp in ["20261123T010000Z", "20261123T020000Z"] {
            fs_err::create_dir(folder.join(format!("data.aside-{stamp}"))).unwrap();
        }
        let error = refuse_half_exchanged(&pgdata).unwrap_err().to_string();
        assert!(error.contains("data.aside-20261123T020000Z"), "{error}");
        fs_err::create_dir(&pgdata).unwrap();
        assert!(refuse_half_exchanged(&pgdata).is_ok());
    }

    #[test]
    fn folders_that_cannot_be_looked_at_are_neither_absent_nor_empty() {
        let made = tempfile::tempdir().unwrap();
        let pgdata = Utf8PathBuf::from_path_buf(made.path().join("data")).unwrap();
        assert!(refuse_tablespaces(&pgdata).is_ok());
        fs_err::create_dir(&pgdata).unwrap();
        for looped in [pgdata.join("pg_tblspc"), pgdata.with_file_name("other")] {
            std::os::unix::fs::symlink(&looped, &looped).unwrap();
        }
        assert!(refuse_tablespaces(&pgdata).unwrap_err().to_string().contains("pg_tblspc"));
        let (_folder, place) = memory_tests::place();
        let error = refuse_half_exchanged(&place, &pgdata.with_file_name("other")).unwrap_err();
        assert!(error.to_string().contains("other"));
    }
}
