//! What a coordinated recovery knows: found before anything is touched, and learned on the way.

use camino::Utf8PathBuf;
use serde::Serialize;

use super::{
    aim::{self, Aim},
    salvage,
};
use crate::{
    backup::{Point, Repository, wal::SegmentSize},
    client::{ClientError, postgres::Postgres},
    config::{Config, Tools},
    recovery::{
        Options, RecoveryError, Request,
        journal::Journal,
        pipeline::Pipeline,
        server::{Control, ControlData, Owner, Replay, copy_reachable, free_bytes},
        wal::{Tail, WalView},
    },
    units::{Lsn, Offset, TopicPartition},
};

/// Names the program that archives and fetches WAL.
const PROGRAM_VARIABLE: &str = "CDC_DRILL_BIN";
/// Beyond the base backup and its WAL: room for the server to work until somebody looks.
const SPARE_BYTES: u64 = 64 << 20;

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
    pub(crate) journal: Option<Journal>,

    // Learned on the way.
    /// The old folder's control file when the fence stood.
    pub(super) at_rest: Option<Vec<u8>>,
    pub(super) salvaged_segments: Vec<String>,
    pub(super) lost: Option<String>,
    pub(crate) end: Option<Tail>,
    pub(super) pinned: bool,
    pub(crate) restored: Option<Restored>,
    pub(crate) cut: Vec<(TopicPartition, Offset)>,
}

/// How the restored server came out of its replay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Restored {
    /// What its log says.
    pub(crate) replay: Replay,
    /// The timeline it is on now.
    pub(crate) timeline: u32,
    /// Where it left the timeline before: later positions from before the recovery are abandoned.
    pub(crate) switch: Option<Lsn>,
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
        let server = match control.running().await? {
            true => match Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await {
                Ok(session) => Some(session),
                // It is up and does not let us in: what it is asked with is wrong, and would be at the end.
                Err(refused @ ClientError::Answer { .. }) => return Err(refused.into()),
                Err(_) => None,
            },
            false => None,
        };
        let control_data = ControlData::read(&tools, &pgdata).await.ok();
        let (system_id, segment_size) = identity(control_data.as_ref(), &repository)?;
        let salvaged = repository.path().join("salvage").join(system_id.to_string());
        let loose = [pgdata.join("pg_wal"), salvaged.clone()];
        let view = WalView::open(repository.archive(system_id), segment_size, &tools, &loose)?;
        let old_timeline = current_timeline(&view, control_data.as_ref(), &pgdata);
        let (aim, point) = aim::resolve(request, &repository, system_id, &view, old_timeline).await?;
        let pipeline = Pipeline::discover(config, request, options, server.as_ref(), Some(&point)).await?;
        pipeline.refuse_active()?;
        if server.is_some() {
            pipeline.refuse_renamed_changes().await?;
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
            journal: None,
            at_rest: None,
            salvaged_segments: Vec::new(),
            lost: None,
            end: None,
            pinned: false,
            restored: None,
            cut: Vec::new(),
        };
        state.refuse_holes(&view).await?;
        state.refuse_full_disk()?;
        Ok(state)
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
        let slots = self.pipeline.other_slots.iter().map(|s| {
            format!("slot {} ({}) is not in a base backup: its consumer must begin anew", s.name, s.slot_type)
        });
        let subscriptions = self.pipeline.subscriptions.iter();
        let subscriptions = subscriptions.map(|s| format!("subscription {s} goes back to the target with its cluster"));
        let lost = self.lost.iter().map(|l| format!("accepted as lost: {l}"));
        slots.chain(subscriptions).chain(lost).chain(self.pipeline.topic_findings()).collect()
    }

    /// Notes something in the journal, when this is not a plan.
    pub(super) fn note(&self, what: &str, value: &impl Serialize) -> Result<(), RecoveryError> {
        self.journal.as_ref().map_or(Ok(()), |j| j.note(what, value))
    }
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
    if pgdata.exists() {
        return Ok(());
    }
    let start = format!("{name}.aside-");
    let Ok(beside) = parent.read_dir_utf8() else { return Ok(()) };
    let aside =
        beside.flatten().filter(|entry| entry.file_name().starts_with(&start)).map(|e| e.path().to_owned()).max();
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
    let count = folder.read_dir_utf8().map_or(0, Iterator::count);
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
    looked.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
        RecoveryError::impossible(
            "program that fetches archived WAL",
            format!("cdc-drill at {}", looked.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" or ")),
            "none",
            format!("name it in {PROGRAM_VARIABLE}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
