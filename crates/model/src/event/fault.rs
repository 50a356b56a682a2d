//! Faults, and what the systems said of themselves.

use serde::{Deserialize, Serialize};

use super::HookCall;

/// A fault and the proof that it landed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The fault's name in the scenario language.
    pub fault: String,
    /// Whether the effect was seen.
    pub landed: Landed,
    /// What was looked at and what it said.
    pub evidence: String,
    /// The control hooks that breaking and looking called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
}

/// Whether a fault landed, judged by an effect and never by the injector's own result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landed {
    /// The effect was seen.
    Confirmed,
    /// Something else was seen.
    Mismatch,
    /// It could not be looked at.
    Inconclusive,
}

/// A status that a system gave of itself while the pipeline was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Who said it: `connector shop`, `task shop/0`, `slot shop`, `registry`.
    pub source: String,
    /// What it said: `RUNNING`, `active`, `200`.
    pub said: String,
    /// Whether that was a lie, that is: it said healthy while it was not.
    pub lied: bool,
}
