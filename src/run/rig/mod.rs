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

pub use assembly::Rig;
pub use census::Census;
pub use context::Context;
pub use logs::keep_logs;
pub use pipeline::{Pipeline, needs_own_registry};
pub use quiet::{place, quiesce, quieted};
pub use servers::{Servers, may_drill};
pub use settled::settled;
pub use writers::Writers;
