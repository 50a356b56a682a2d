//! What a coordinated recovery knows: found before anything is touched, and learned on the way.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    aim::{self, Aim},
    replay::control_file_in,
    salvage,
};
use crate::{
    backup::{Point, PointSelector, Repository, is_there, wal::SegmentSize},
    client::{ClientError, postgres::Postgres},
    config::{Config, Tools},
    recovery::{
        Naive, Options, RecoveryError, Request,
        abort::NO_WAY_BACK,
        memory::{Kept, Memory},
        pipeline::{Found, Pipeline},
        server::{Control, ControlData, Owner, Replay, copy_reachable, free_bytes},
        step::GoesOn,
        wal::{Tail, WalView},
    },
    units::{IfThere, Lsn, Offset, PointId, TopicPartition},
};

/// Names the program that archives and fetches WAL.
const PROGRAM_VARIABLE: &str = "CDC_DRILL_BIN";
/// Beyond the base backup and its WAL: room for the server to work until somebody looks.
const SPARE_BYTES: u64 = 64 << 20;

/// Under which name the record has what was learned.
const LEARNED: &str = "learned";

/// The state of the playbook.
pub(crate) struct Coordinated {
    pub(crate) pipeline: Pipeline,
    pub(crate) request: Request,
    pub(crate) point: Point,
    pub(super) aim: Aim,
    pub(super) repository: Repository,
    pub(super) system_id: u64,
    pub(super) segment_size: SegmentSize,
    pub(super) pgdata: Utf8PathBuf,
    pub(super) tools: Tools,
    pub(super) owner: Owner,
    pub(super) control: Control,
    pub(super) control_data: Option<ControlData>,
    pub(super) archiver: Utf8PathBuf,
    /// Where segments are kept that the archive may not take.
    pub(super) salvaged: Utf8PathBuf,
    /// The timeline the old server was on.
    pub(super) old_timeline: u32,
    /// Whether it was up when the recovery began.
    was_running: bool,
    /// The recovery's record; a plan has none.
    memory: Option<Memory>,
    /// What was learned on the way.
    pub(crate) learned: Kept<Learned>,
    horizon: Horizon,
}

/// What was decided by looking, before anything was touched: a run that goes on does not look for the target again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    point: PointId,
    aim: Aim,
    system_id: u64,
    segment_bytes: u64,
    pgdata: Utf8PathBuf,
    control_data: Option<ControlData>,
    old_timeline: u32,
    /// Whether the old server was up.
    was_running: bool,
}

/// What a recovery learns between its steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// The old folder's control file when the fence stood, as SHA-256; every start of a server writes it.
    pub(super) at_rest: Option<String>,
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
    pub(crate) timeline: u32,
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
    pub(crate) async fn plan(
        config: &Config,
        request: &Request,
        options: &Options,
    ) -> Result<Coordinated, RecoveryError> {
        let repository = Repository::open(&config.repository.path)?;
        let control = Control::of(config, "postgres")?;
        let pgdata = config.postgres.pgdata.clone();
        let tools = Tools::of(config);
        refuse_half_exchanged(&pgdata)?;
        let owner = Owner::of(&pgdata)?;
        let was_running = control.running().await?;
        let server = match was_running {
            true => match Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await {
                Ok(session) => Some(session),
                // It is up and does not let us in: what it is asked with is wrong, and would be at the end.
                Err(refused @ ClientError::Answer { .. }) => return Err(refused.into()),
                Err(_) => None,
            },
            false => None,
        };
        // One that is damaged is what a recovery is for; one that cannot be read may be whole.
        control_file_in(&pgdata)?;
        let control_data = ControlData::read(&tools, &pgdata).await.ok();
        let (system_id, segment_size) = identity(control_data.as_ref(), &repository)?;
        let salvaged = repository.path().join("salvage").join(system_id.to_string());
        let loose = [pgdata.join("pg_wal"), salvaged.clone()];
        let view = WalView::open(repository.archive(system_id), segment_size, &tools, &loose)?;
        let old_timeline = current_timeline(&view, control_data.as_ref(), &pgdata);
        let (aim, point) = aim::resolve(request, &repository, system_id, &view, old_timeline).await?;
        let mut pipeline = Pipeline::discover(config, request, options, server.as_ref(), Some(&point)).await?;
        pipeline.refuse_active()?;
        pipeline.plan_topics(true).await?;
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
        refuse_tablespaces(&pgdata)?;
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
            tools,
            owner,
            control,
            control_data,
            archiver,
            salvaged,
            old_timeline,
            was_running,
            memory: None,
            learned: Kept::of(LEARNED, None)?,
            horizon: Horizon::default(),
        };
        state.refuse_holes(&view).await?;
        state.refuse_full_disk()?;
        Ok(state)
    }

    /// The state of a recovery that did not end: what was found and decided then, and how far it came by now. Nothing is
    /// resolved anew: a target may mean something else since, and the point was chosen for it.
    pub(crate) async fn again(
        config: &Config,
        request: &Request,
        options: &Options,
        memory: &Memory,
    ) -> Result<Coordinated, RecoveryError> {
        let goal: Goal = memory.decided()?;
        let Goal { point, aim, system_id, segment_bytes, pgdata, control_data, old_timeline, was_running } = goal;
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
        let mut state = Coordinated {
            pipeline: Pipeline::of(&config, options, memory.found::<Found>()?)?,
            request: request.clone(),
            point: repository.point(&PointSelector::Id(point))?,
            aim,
            system_id,
            segment_size,
            owner: Owner::of(&standing(memory)?)?,
            tools: Tools::of(&config),
            control: Control::of(&config, "postgres")?,
            control_data,
            archiver: program()?,
            salvaged: repository.path().join("salvage").join(system_id.to_string()),
            old_timeline,
            repository,
            pgdata,
            was_running,
            memory: Some(memory.clone()),
            learned,
            horizon: Horizon { exchanged: exchange == Some(Exchange::After), resumed: false },
        };
        if state.horizon.exchanged && memory.began_step("resume") {
            let rested = memory.began_step("restore-config");
            // A server that does not answer has not resumed.
            let resumed = state.pipeline.has_resumed(state.expects_snapshot(), rested).await;
            state.horizon.resumed = resumed.unwrap_or(false);
        }
        Ok(state)
    }

    /// What was decided.
    pub(crate) fn goal(&self) -> Goal {
        Goal {
            point: self.point.id().clone(),
            aim: self.aim.clone(),
            system_id: self.system_id,
            segment_bytes: self.segment_size.bytes(),
            pgdata: self.pgdata.clone(),
            control_data: self.control_data.clone(),
            old_timeline: self.old_timeline,
            was_running: self.was_running,
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
        self.discard().await?;
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

    /// Whether the steps that force a snapshot are done, so that one can be waited for.
    pub(super) fn expects_snapshot(&self) -> bool {
        let options = &self.pipeline.options;
        options.naive != Some(Naive::SlotByHand) && !options.omits("force-snapshot") && !options.omits("delete-offsets")
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

    /// The old data folder stays, so the restored one needs room beside it.
    fn refuse_full_disk(&self) -> Result<(), RecoveryError> {
        let facts = self.point.postgres()?;
        let parent = self.pgdata.parent().unwrap_or(&self.pgdata);
        let laid_out = if self.tools.elsewhere() { self.archived_since_the_point()?.len() } else { 0 };
        let wal = self.segment_size.bytes() * (facts.wal_required.len() + laid_out + 2) as u64;
        let (needed, free) = (facts.base_raw_bytes + wal + SPARE_BYTES, free_bytes(parent)?);
        if free < needed {
            return Err(RecoveryError::impossible(
                format!("free space beside {}", self.pgdata),
                format!("{} MB for the restored data folder", needed >> 20),
                format!("{} MB", free >> 20),
                "the old data folder is kept beside the new one; make room",
            ));
        }
        Ok(())
    }

    /// The timeline the old server was on.
    pub(crate) fn old_timeline(&self) -> u32 {
        self.old_timeline
    }

    /// The timeline that the restored server left.
    pub(crate) fn abandoned_timeline(&self) -> u32 {
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
        let points = self.aim.notes.iter().cloned();
        points.chain(slots).chain(subscriptions).chain(lost).chain(self.pipeline.topic_findings()).collect()
    }
}

impl GoesOn for Coordinated {
    fn is_done(&self, step: &str) -> Option<&'static str> {
        match step {
            "resume" | "restore-config" => None,
            _ if self.horizon.resumed => Some("the connectors stream from complete snapshots"),
            "fence" | "salvage" | "pin-timeline" | "restore" if self.horizon.exchanged => {
                Some("the restored data folder is in its place")
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

/// Where the old data folder was set aside, or is about to be.
pub(crate) fn set_aside(memory: &Memory) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    let learned: Option<Learned> = memory.learned(LEARNED)?;
    Ok(learned.and_then(|learned| learned.restored).map(|restored| restored.aside))
}

fn word(there: bool) -> &'static str {
    if there { "there" } else { "missing" }
}

/// Which cluster this is: by its control file or, when that is gone, by the only cluster that the repository knows.
fn identity(control: Option<&ControlData>, repository: &Repository) -> Result<(u64, SegmentSize), RecoveryError> {
    let known = match control {
        Some(data) => data.system_id.parse().ok().zip(SegmentSize::new(data.segment_size)),
        None => {
            let newest = repository.point(&crate::backup::PointSelector::Latest)?;
            let facts = newest.postgres()?;
            facts.system_id.parse().ok().zip(SegmentSize::new(facts.segment_bytes))
        }
    };
    known.ok_or_else(|| {
        RecoveryError::impossible(
            "identity of the cluster",
            "a system identifier and a segment size",
            "neither",
            "name the recovery point with --point",
        )
    })
}

/// The newest timeline that the server itself has seen. The archive may know a newer one, left by a recovery that failed.
fn current_timeline(view: &WalView, control: Option<&ControlData>, pgdata: &Utf8PathBuf) -> u32 {
    let own_wal = pgdata.join("pg_wal");
    let own = view.loose().iter().filter(|(_, path)| path.starts_with(&own_wal)).map(|(name, _)| name.timeline).max();
    match (control.map(|c| c.timeline), own) {
        (None, None) => view.newest_timeline(),
        (control, own) => control.into_iter().chain(own).max().unwrap_or(1),
    }
}

/// A recovery that was killed between its last two renames leaves no data folder, and the old one beside it.
fn refuse_half_exchanged(pgdata: &Utf8PathBuf) -> Result<(), RecoveryError> {
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
        if entry.file_name().starts_with(&start) {
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

fn refuse_tablespaces(pgdata: &Utf8PathBuf) -> Result<(), RecoveryError> {
    let folder = pgdata.join("pg_tblspc");
    let entries = folder.read_dir_utf8().if_there().map_err(|e| RecoveryError::io("list", &folder, e))?;
    let count = entries.into_iter().flatten().count();
    if count == 0 {
        return Ok(());
    }
    Err(RecoveryError::impossible(
        folder.as_str(),
        "no tablespace outside the data folder",
        format!("{count}"),
        "a cluster with tablespaces must be restored by hand: their folders would be shared with the old cluster",
    ))
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

    #[test]
    fn the_folders_tell_how_far_the_exchange_came() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(made.path().to_owned()).unwrap();
        let (pgdata, fresh, aside) = (folder.join("data"), folder.join("data.restoring"), folder.join("data.aside"));
        let restored = Restored {
            replay: Replay::default(),
            timeline: 2,
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
        let pgdata = folder.join("data");
        assert!(refuse_half_exchanged(&pgdata).is_ok(), "another error's matter");
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
        assert!(refuse_half_exchanged(&pgdata.with_file_name("other")).unwrap_err().to_string().contains("other"));
    }
}
