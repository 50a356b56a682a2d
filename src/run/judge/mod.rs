//! From what was seen and what was to be seen to a verdict. Pure.

mod checked;
mod control;
mod outcome;

pub use checked::{Checked, checked};
pub use control::named_findings;
pub use outcome::{Ending, Outcome, outcome, verdict_of};
