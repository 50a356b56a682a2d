//! A recovery point and archived WAL to a data folder where nothing was, with no server about: what is left to do where the machine
//! is gone, or where somebody wants to look at an earlier state beside the running one.
//!
//! Everything is made in a folder of its own within the data folder ([`place::WORK`]), which has its record too; only a data folder
//! that was replayed, read back and shut down is moved to its place. The same request goes on with a restore that did not end.

mod place;
mod plan;
mod request;
mod run;

pub use plan::{RestorePlan, plan_restore};
pub use request::RestoreRequest;
pub use run::RestoreOutcome;
pub(super) use run::{MOMENTS, PROCEDURE};
