//! Controls: drills that must come out red.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::HumanDuration;
use cdc_model::{
    event::FindingKind,
    vocabulary::{CheckId, Instead},
};

/// A command that stands in for a recovery, and is to keep what that is to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NaiveCommand {
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// How long it may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// The same drill with something left out or done the naive way. It must come out red as it says; red for another
/// reason, or green, fails the drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Control {
    /// Names it within the variant; `without-<step>` or `naive-<procedure>` unless said otherwise.
    #[serde(default)]
    pub id: Option<String>,
    /// What is left out: `recovery`, or a step of the playbook by name.
    #[serde(default)]
    pub without: Option<String>,
    /// What is done instead of the recovery, or, beside `without`, instead of the step that is left out.
    #[serde(default)]
    pub naive: Option<Instead<NaiveCommand>>,
    /// The finding that must be there.
    #[serde(default)]
    pub red: Option<Red>,
    /// Instead of `red`: the recovery itself must refuse to go on, with this exit code.
    #[serde(default)]
    pub refuses: Option<u8>,
    /// Whether connector and task must say RUNNING while the check is red.
    #[serde(default)]
    pub silent: bool,
}

/// The finding that a control must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Red {
    /// The check that reports it; one of the variant's.
    pub check: CheckId,
    /// Its kind.
    pub kind: FindingKind,
}
