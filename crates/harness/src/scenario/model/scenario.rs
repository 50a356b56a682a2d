//! The scenario itself, and its variants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Control, Objectives, PipelinePart, Recover, StackPart, Step, WorkloadPart};
use crate::scenario::words::Named;
use cdc_model::vocabulary::CheckId;

/// A scenario: what to load, break and recover, and what must then hold. Each variant is one drill, and one more for
/// each of its controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// The version of this language: 1.
    pub version: u32,
    /// Names the scenario: lower case, digits, hyphens.
    pub id: String,
    /// What it is about, in a sentence.
    pub title: String,
    /// The servers.
    #[serde(default)]
    pub stack: StackPart,
    /// What runs on them and is protected.
    #[serde(default)]
    pub pipeline: PipelinePart,
    /// What writes to the source database.
    #[serde(default)]
    pub workload: WorkloadPart,
    /// The ways it can go, each a drill of its own, by id.
    pub variants: Named<Variant>,
}

/// One way a scenario can go: one drill, and one more for each control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// What this variant is about, in a sentence; the scenario's title unless said otherwise.
    #[serde(default)]
    pub title: Option<String>,
    /// Changes to the scenario's `stack`.
    #[serde(default)]
    pub stack: StackPart,
    /// Changes to the scenario's `pipeline`.
    #[serde(default)]
    pub pipeline: PipelinePart,
    /// Changes to the scenario's `workload`.
    #[serde(default)]
    pub workload: WorkloadPart,
    /// What happens, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// What must hold afterwards.
    #[schemars(length(min = 1))]
    pub checks: Vec<CheckId>,
    /// How fast and how complete the recovery must be.
    #[serde(default)]
    pub objectives: Objectives,
    /// The same drill with something left out or done the naive way; each must come out red as it says.
    #[serde(default)]
    pub controls: Vec<Control>,
}

impl Variant {
    /// The recoveries among its steps.
    pub fn recoveries(&self) -> impl Iterator<Item = &Recover> {
        self.steps.iter().filter_map(|step| match step {
            Step::Recover(recover) => Some(recover),
            _ => None,
        })
    }
}
