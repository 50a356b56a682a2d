//! Executes plans: brings pipelines up, takes the steps, judges, cleans up, and tells everything as events. The only
//! module that owns tasks.

mod assess;
mod confirm;
mod drill;
mod emit;
mod engine;
mod error;
mod judge;
mod pipeline;
mod shared;
mod steps;
mod writers;

pub use emit::Emitter;
pub use engine::{JOBS_DEFAULT, Options, run};
pub use error::RunError;

use engine::Context;
