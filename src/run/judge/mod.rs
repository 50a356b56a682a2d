//! From what was seen and what was to be seen to a verdict. Pure.

mod checked;
mod control;
mod outcome;
mod record;
mod secrets;

pub use checked::{Checked, checked};
pub use control::named_findings;
pub use outcome::{Ending, Outcome, combined, outcome, outcome_of, verdict_of};
pub use record::{Evidence, Failure, Record, RecordError};
