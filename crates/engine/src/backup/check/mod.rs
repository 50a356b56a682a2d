//! Checking a recovery point against its manifest: every byte of it and of the WAL it needs.

mod report;
#[cfg(test)]
mod tests;
mod verify;

pub use report::{CheckOptions, Defect, DefectKind, VerifyReport};
pub(super) use verify::read_back;
pub use verify::verify;
