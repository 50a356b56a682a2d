//! The engine for the bad day: ordered procedures made of steps, each read back from the systems.
//!
//! May be called by the commands and by `run`. What a recovery found, decided and did is in `<repository>/recoveries/<id>/` before
//! it changes anything; the same request goes on with a recovery that did not end. Success is what the systems'
//! own state says, never an exit code or a 2xx.

mod abort;
mod coordinated;
mod engine;
mod error;
mod leftovers;
mod locks;
mod memory;
mod neighbours;
mod outcome;
mod pipeline;
mod progress;
mod repair;
mod request;
mod schema;
mod server;
mod shortlist;
mod slot;
mod status;
mod step;
mod unfinished;
mod wal;

pub use abort::{abort, give_up};
pub use engine::{conclude, permit, plan, run};
pub use error::RecoveryError;
pub use leftovers::{Leftover, leftovers, remove_leftovers};
pub use outcome::{Downtime, EndOfWal, Outcome, Recovered};
pub use pipeline::{Protection, is_protected, protection};
pub use progress::{Progress, Watch};
pub use request::{Loss, Naive, OnConflict, Options, Playbook, Request, Target, TargetError, TopicsRepair};
pub use status::{ProgressStatus, Status, StepStatus, SystemStatus, status, unfinished_request};
pub use step::{Moments, NoticedBy, OnStep, StepInfo};

/// The playbooks' declarations.
pub mod declared {
    pub use super::coordinated::{STEPS as COORDINATED, changes_nothing};
    pub use super::engine::tables;
    use super::{StepInfo, TopicsRepair, slot};

    /// The slot playbook's.
    pub fn slot(topics: TopicsRepair) -> Vec<StepInfo> {
        match topics {
            TopicsRepair::Purge => slot::PURGE.iter().map(|step| step.info).collect(),
            TopicsRepair::Compensate => slot::COMPENSATE.iter().map(|step| step.info).collect(),
        }
    }
}
