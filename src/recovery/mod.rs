//! The engine for the bad day: ordered procedures made of steps, each read back from the systems.
//!
//! May be called by the commands and by `run`. Writes a journal to `<repository>/journal/`. Success is what the systems'
//! own state says, never an exit code or a 2xx.

mod coordinated;
mod engine;
mod error;
mod journal;
mod neighbours;
mod outcome;
mod pipeline;
mod repair;
mod request;
mod schema;
mod server;
mod slot;
mod step;
mod unfinished;
mod wal;

pub use engine::{plan, run};
pub use error::RecoveryError;
pub use journal::Journal;
pub use outcome::{EndOfWal, Outcome, Recovered};
pub use request::{Naive, OnConflict, Options, Playbook, Request, Target, TargetError, TopicsRepair};
pub use step::{NoticedBy, OnStep, StepInfo};

/// The playbooks' declarations.
pub mod declared {
    pub use super::coordinated::STEPS as COORDINATED;
    use super::{StepInfo, TopicsRepair, slot};

    /// The slot playbook's.
    pub fn slot(topics: TopicsRepair) -> Vec<StepInfo> {
        match topics {
            TopicsRepair::Purge => slot::PURGE.iter().map(|step| step.info).collect(),
            TopicsRepair::Compensate => slot::COMPENSATE.iter().map(|step| step.info).collect(),
        }
    }
}
