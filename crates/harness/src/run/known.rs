//! What a step knows.

use crate::{
    run::{
        RunError,
        chronicle::{Chronicle, Layout, Mark},
    },
    scenario::{Absence, DrillPlan},
};
use cdc_model::units::PointId;

/// The drill's plan, and what happened so far.
#[derive(Clone, Copy)]
pub(crate) struct Known<'k> {
    /// The plan.
    pub plan: &'k DrillPlan,
    /// What happened so far.
    pub chronicle: &'k Chronicle,
}

impl<'k> Known<'k> {
    /// What the pipeline is called and captures.
    pub(crate) fn layout(self) -> &'k Layout {
        &self.chronicle.layout
    }

    /// A mark; one that no step has set is an error of the scenario.
    pub(crate) fn mark(self, name: &str) -> Result<&'k Mark, RunError> {
        self.chronicle.mark(name).ok_or_else(|| self.unknown("mark", name))
    }

    /// A recovery point's id; one that no step has taken is an error of the scenario.
    pub(crate) fn point(self, name: &str) -> Result<&'k PointId, RunError> {
        self.chronicle.point(name).ok_or_else(|| self.unknown("recovery point", name))
    }

    /// What a control leaves out of the recovery.
    pub(crate) fn absence(self) -> Option<&'k Absence> {
        self.plan.without()
    }

    /// The error of a step that asks for what was never made.
    pub(crate) fn unknown(self, kind: &str, name: &str) -> RunError {
        RunError::Scenario {
            scenario: self.plan.id.to_string(),
            what: format!("{kind} {name}"),
            expected: format!("a {kind} of that name taken earlier in the drill"),
            found: "none".into(),
            hint: format!("put the step that makes the {kind} before the one that uses it"),
        }
    }
}
