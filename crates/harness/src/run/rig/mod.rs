//! What lives: a drill's pipeline, what writes to it, and the means of its faults. These may wait, and judge nothing.

mod assembly;
mod census;
mod context;
mod logs;
mod pipeline;
mod quiet;
mod servers;
mod settled;
mod sources;
mod writers;

pub(crate) use assembly::Rig;
pub(crate) use census::Census;
pub(crate) use context::Context;
pub(crate) use logs::keep_logs;
pub(crate) use pipeline::{Pipeline, needs_own_registry};
pub(crate) use quiet::{place, quiesce, quieted};
pub(crate) use servers::Servers;
pub use servers::may_drill;
pub(crate) use settled::settled;
pub(crate) use writers::Writers;
