//! The state of the coordinated playbook, over which its steps are.

use camino::Utf8PathBuf;

use super::record::{Goal, Learned, Prepared};
use crate::{
    backup::{Point, Repository},
    recovery::{
        RecoveryError, Request,
        memory::{Kept, Memory},
        pipeline::{Outdated, Pipeline},
        server::{Control, Layout, Owner},
        step::GoesOn,
        steps::OverPipeline,
        target::{Aim, GivenUp},
        wal::WalView,
    },
};
use cdc_model::units::{Offset, SystemId, Timeline, TopicPartition};
use cdc_pipeline::config::Tools;
use cdc_postgres::{control::ControlData, wal::SegmentSize};

/// The state of the playbook.
pub struct Coordinated {
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
    pub(super) was_running: bool,
    /// The transactions that the target leaves out, as they were counted when it was found.
    pub(super) given_up: Vec<GivenUp>,
    /// The recovery's record; a plan has none.
    pub(super) memory: Option<Memory>,
    /// What was learned on the way.
    pub(crate) learned: Kept<Learned>,
    /// What was made before anything stopped.
    pub(crate) prepared: Kept<Prepared>,
    pub(super) horizon: Horizon,
    /// What could not be counted.
    pub(super) notes: Vec<String>,
    /// What of the configuration is going to stay as it is.
    pub(super) differs: Vec<String>,
}

/// How far an earlier run came, by the state of the systems.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Horizon {
    /// The old data folder is set aside, and the restored one is not yet in its place.
    pub(super) set_aside: bool,
    /// The restored data folder is in its place: what clients committed since must never be given up.
    pub(super) exchanged: bool,
    /// The connectors stream from complete snapshots: topics are filled, groups have moved on, slots are there.
    pub(super) resumed: bool,
}

impl Coordinated {
    /// Everything of the cluster's WAL that can be read now.
    pub(super) fn view(&self, with_old_wal: bool) -> Result<WalView, RecoveryError> {
        let mut loose = vec![self.salvaged.clone()];
        if with_old_wal {
            // What the server holds is newer than what an earlier recovery salvaged.
            loose.insert(0, self.old_wal());
        }
        WalView::open(self.repository.archive(self.system_id), self.segment_size, &self.tools, &loose)
    }

    pub(super) fn old_wal(&self) -> Utf8PathBuf {
        self.pgdata.join("pg_wal")
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

    /// The timeline the old server was on.
    pub(crate) fn old_timeline(&self) -> Timeline {
        self.old_timeline
    }

    /// The timeline that the restored server left.
    pub(crate) fn abandoned_timeline(&self) -> Timeline {
        self.aim.followed().timeline
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
