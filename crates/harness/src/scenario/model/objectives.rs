//! What a recovery must keep to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::HumanDuration;
use cdc_model::event::Downtime;

/// What the recovery must keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Objectives {
    /// Recovery time: how long until the pipeline is whole again, at most. Longer fails the drill, on whatever machine.
    pub rto: Option<HumanDuration>,
    /// Recovery time as it was measured on the reference machine (2 cores, 24 GiB, quiet, five drills at a time), at most.
    /// Scaled by the speed that this machine is measured to have; longer is reported and fails nothing.
    pub reference_rto: Option<HumanDuration>,
    /// How long what clients use may be down, at most. Longer fails the drill, on whatever machine.
    pub downtime: Option<DowntimeObjective>,
    /// The same as it was measured on the reference machine; scaled and reported like `reference-rto`, and never a failure.
    pub reference_downtime: Option<DowntimeObjective>,
    /// Recovery point: how much may be missing.
    pub rpo: Option<RpoObjective>,
}

/// How long what clients use may be down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DowntimeObjective {
    /// From the stop of the old server to the restored one that takes sessions: only a coordinated recovery stops one.
    pub database: Option<HumanDuration>,
    /// From the stop of the connectors to their new streams, behind complete snapshots.
    pub connectors: Option<HumanDuration>,
}

impl DowntimeObjective {
    /// The limits, as reports have them.
    pub fn limits(self) -> Downtime {
        let seconds = |limit: Option<HumanDuration>| limit.map(|limit| limit.0.as_secs_f64());
        Downtime { database_seconds: seconds(self.database), connectors_seconds: seconds(self.connectors) }
    }
}

/// How much may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RpoObjective {
    /// Acknowledged transactions before the target that may be missing.
    pub transactions: u64,
}
