//! Executes plans: brings pipelines up, takes the steps, judges, cleans up, and tells everything as events. The only
//! module that owns tasks.

mod assess;
mod command;
mod confirm;
mod drill;
mod emit;
mod engine;
mod error;
mod exec;
mod judge;
mod pipeline;
mod room;
mod session;
mod shared;
mod steps;
mod writers;

pub use emit::Emitter;
pub use engine::{Options, machine, run};
pub use error::RunError;
pub use session::{Finished, Session};
pub use shared::may_drill;

use engine::Context;
