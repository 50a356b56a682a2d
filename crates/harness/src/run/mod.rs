//! Executes plans: brings pipelines up, takes the steps, judges, cleans up, and tells everything as events. The only
//! module that owns tasks.
//!
//! What lives is in `rig`, what is known in `chronicle`. `steps` and `look` take both and hand back facts; `judge` takes what is
//! known alone.

mod chronicle;
mod command;
mod confirm;
pub mod controls;
mod drill;
mod emit;
mod engine;
mod error;
mod judge;
mod known;
mod look;
mod readable;
mod rig;
mod room;
mod session;
mod steps;

pub use emit::Emitter;
pub use engine::{Options, machine, run};
pub use error::RunError;
pub use judge::{Outcome, Record, RecordError};
pub use readable::readable;
pub use rig::may_drill;
pub use session::{Finished, Session};

use known::Known;
