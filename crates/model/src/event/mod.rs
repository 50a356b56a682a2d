//! What happened, when, to what: the only contract between running and reporting.
//!
//! A run writes one [`Event`] a line to `reports/<run>/events.jsonl`. Every report can be made again from that file with
//! no stack alive. The format is versioned by [`FORMAT`]; files of older versions are read as well.

mod check;
mod control;
mod fault;
mod finding;
mod load;
mod objective;
mod recovery;
mod what;

pub use check::{CheckReport, FINDINGS_MAX};
pub use control::{Confirmation, ControlPlan, ControlReport, difference};
pub use fault::{FaultReport, Landed, Signal};
pub use finding::{About, Cells, Evidence, Finding, FindingKey, FindingKind};
pub use load::{KindCounts, KindError, Loaded, StepOutcome, WriterCounts};
pub use objective::{Objective, ObjectiveReport};
pub use recovery::{Amount, Downtime, HookCall, Rpo, StepReport, StepResult};
pub use what::{Event, FORMAT, What};
