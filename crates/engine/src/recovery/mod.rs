//! The engine for the bad day: ordered procedures made of steps, each read back from the systems.
//!
//! May be called by the commands and by `run`. What a recovery found, decided and did is in `<repository>/recoveries/<id>/` before
//! it changes anything; the same request goes on with a recovery that did not end. Success is what the systems'
//! own state says, never an exit code or a 2xx.

mod abort;
mod chosen;
mod composer;
mod coordinated;
mod course;
mod engine;
mod error;
mod leftovers;
mod locks;
mod memory;
mod neighbours;
mod operator;
mod outcome;
mod parts;
mod pipeline;
mod point_after;
mod progress;
mod repair;
mod replay;
mod request;
mod restore;
mod schema;
mod server;
mod shortlist;
mod slot;
mod status;
mod step;
mod steps;
mod target;
mod unfinished;
mod wal;
mod way_back;

pub use abort::{Abandoned, abort, give_up};
pub use engine::{conclude, permit, plan, run};
pub use error::RecoveryError;
pub use leftovers::{Leftover, leftovers, remove_leftovers};
pub use memory::refuse_unfinished;
pub use outcome::{EndOfWal, Outcome, Recovered};
pub use parts::{
    PartChange, PartOutcome, PartPlan, PartRequest, PipelinePart, ScratchPart, plan_part, plan_scratch_part,
};
pub use pipeline::{Protection, is_protected, protection};
pub use point_after::{NewPoint, point_after};
pub use progress::{Progress, Watch};
pub use request::{Playbook, Request, Target, TargetError};
pub use restore::{RestoreOutcome, RestorePlan, RestoreRequest, plan_restore};
pub use status::{
    OpenRecovery, ProgressStatus, Status, StepStatus, SystemStatus, open_recovery, status, unfinished_request,
};
pub use step::{Moments, OnStep, StepInfo};

/// What other procedures are composed of: steps, the states that they are taken over, and what they are made of.
pub mod compose {
    pub use super::coordinated::TABLE as COORDINATED;
    pub use super::{
        composer::Composer,
        coordinated::{Coordinated, RESTORE, Reading},
        engine::run_composed,
        memory::Variation,
        pipeline::{Pipeline, captured_tables, drop_slot},
        repair::Repair,
        slot::DROP_SLOT,
        step::{Done, Step, acted, nothing},
        steps::{
            OverPipeline, delete_offsets, delete_topics, force_snapshot, group_offsets, recreate_topics,
            restore_config, resume, stop_connectors,
        },
    };
    pub use cdc_model::moment::Inside;
}

/// The playbooks' declarations.
pub mod declared {
    use super::{StepInfo, parts, restore, slot};
    pub use super::{
        chosen::tables,
        coordinated::{STEPS as COORDINATED, changes_nothing},
    };
    use cdc_model::vocabulary::TopicsRepair;

    /// The moments of what has no steps and can be interrupted all the same: restores of a part, and of a data folder. By the name
    /// under which they are interrupted.
    pub fn procedures() -> Vec<(&'static str, &'static [&'static str])> {
        let mut all = parts::procedures();
        all.push((restore::PROCEDURE, &restore::MOMENTS));
        all
    }

    /// The slot playbook's.
    pub fn slot(topics: TopicsRepair) -> Vec<StepInfo> {
        match topics {
            TopicsRepair::Purge => slot::PURGE.steps.iter().map(|step| step.info).collect(),
            TopicsRepair::Compensate => slot::COMPENSATE.steps.iter().map(|step| step.info).collect(),
        }
    }
}
