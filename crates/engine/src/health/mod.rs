//! Whether a pipeline is recoverable now, to when, how fast, and what stands in the way; and the same as metrics.
//!
//! `look` asks, `judge` decides and `metrics` counts, both as pure functions over what was seen. Nothing is changed. Whatever cannot be
//! asked is not known, and what is not known is never green where it decides whether a recovery would succeed.

mod exposition;
mod judge;
mod look;
mod metrics;
mod proof;
mod report;
mod seen;
#[cfg(test)]
mod tests;

pub use exposition::{ExpositionError, write_metrics};
pub use judge::{Obstacle, Recoverable, Severity};
pub use look::{look, name_of};
pub use metrics::{METRICS, Metric, Sample};
pub use report::Health;
pub use seen::{
    ArchiverSeen, Holdings, Known, LastRto, PointSeen, ProofSeen, RtoSource, Seen, ServerSeen, SlotSeen, SystemSeen,
    WalHole, Window,
};
