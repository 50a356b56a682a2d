//! How a run looks: events become `report.json`, `junit.xml`, `report.html` and lines on a terminal. Nothing here talks to
//! a system; every report can be made again from `events.jsonl` alone.
//!
//! Writes below `reports/<run>/`: `events.jsonl` as events come, and the three reports at the end.

mod annotations;
mod error;
mod fold;
mod folder;
mod html;
mod junit;
mod model;
mod picture;
mod redact;
mod terminal;
mod waterfall;
mod words;

#[cfg(test)]
mod tests;

pub use annotations::{AnnotationFormat, annotations};
pub use error::ReportError;
pub use fold::{Fold, fold};
pub use folder::{Folder, read_events, write_reports, write_text};
pub use html::html;
pub use junit::junit;
pub use model::{
    ControlResult, DrillReport, FaultSummary, RecoveryReport, RpoReport, RunReport, ServerStart, SignalReport,
    StackReport, StepTime,
};
pub use picture::picture;
pub use redact::{redact, redact_json};
pub use terminal::{Terminal, verdict_text};
