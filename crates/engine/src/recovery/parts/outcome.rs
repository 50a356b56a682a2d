//! What a restore of a part would do, or has done.

use serde::Serialize;

use super::PipelinePart;
use cdc_model::units::PointId;

/// One object, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartChange {
    /// Its name.
    pub name: String,
    /// What is done to it, in order.
    pub does: Vec<String>,
    /// What is there now and will not be afterwards.
    pub destroys: Vec<String>,
}

/// What a restore of a part would do, or has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartOutcome {
    /// The part.
    pub part: PipelinePart,
    /// The recovery point.
    pub point: PointId,
    /// The objects that differ from the point, and what becomes of them.
    pub changes: Vec<PartChange>,
    /// The objects that are as the point has them.
    pub unchanged: Vec<String>,
    /// What a person should know: what was passed over, cannot be compared or is left as it is.
    pub notes: Vec<String>,
    /// What was read back after the changes; empty in a plan.
    pub read_back: Vec<String>,
}

impl PartOutcome {
    pub(super) fn extend(&mut self, changes: &[PartChange], unchanged: &[String], notes: &[String]) {
        self.changes.extend_from_slice(changes);
        self.unchanged.extend_from_slice(unchanged);
        self.notes.extend_from_slice(notes);
    }
}
