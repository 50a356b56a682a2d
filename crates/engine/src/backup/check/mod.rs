//! Checking a recovery point against its manifest, and a whole repository against everything that says what should be there.

mod archive;
mod archiver;
mod asked;
#[cfg(test)]
mod fault_tests;
mod proof;
mod reach;
mod record;
mod report;
mod standing;
#[cfg(test)]
mod tests;
mod verify;
mod whole;

pub use archiver::{ArchiverEvent, ArchiverStanding, Lost, ServerArchiving};
pub use reach::Reach;
pub(super) use reach::reach_by_names;
pub use record::Passed;
pub(super) use record::Record;
pub use report::{CheckOptions, Defect, DefectKind, VerifyReport};
pub(super) use verify::read_back;
pub use verify::verify;
pub use whole::{CheckReport, PointStanding, check};
