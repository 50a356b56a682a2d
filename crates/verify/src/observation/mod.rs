//! What was seen, and what was to be seen: plain data.

mod connector;
mod expectation;
mod held;
mod registry;
mod seen;
mod table;
mod writing;

pub use connector::{ConnectorView, Orphan, OrphanKind, Unidentified};
pub use expectation::{Captured, Cut, Expectation, Fate, NewerVersions};
pub use held::{HeldRecord, digest};
pub use registry::{GroupVersion, Probe, RegistryView, SubjectView, VersionView};
pub use seen::{Observation, ServerView};
pub use table::{Rows, TableView};
pub use writing::{Canary, Interrupted, Quiet};
