//! From what was seen and what was to be seen to a verdict. Pure.

mod checked;
mod control;
mod outcome;
mod record;
mod secrets;

pub(crate) use checked::{Checked, checked};
pub(crate) use control::named_findings;
pub use outcome::Outcome;
pub(crate) use outcome::{Ending, combined, outcome, outcome_of, verdict_of};
pub(crate) use record::{Evidence, Failure};
pub use record::{Record, RecordError};
