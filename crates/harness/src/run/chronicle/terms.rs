//! The part of a drill's plan that judgement depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::{DowntimeObjective, DrillPlan, Expect, ObjectivesPlan};
use cdc_model::{
    event::{ControlPlan, Downtime},
    vocabulary::CheckId,
};

/// What a drill is judged by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The checks that must pass, in the scenario's order.
    pub checks: Vec<CheckId>,
    /// Present when the drill is a control.
    pub control: Option<ControlTerms>,
    /// The limits of its recoveries.
    pub objectives: Objectives,
    /// Partitions of each data topic.
    pub partitions: u32,
    /// Settings that each data topic must have.
    pub topic_settings: BTreeMap<String, String>,
}

/// What a control must lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlTerms {
    /// What is left out, and the finding that must come of it.
    pub plan: ControlPlan,
    /// The exit code with which the recovery must refuse, where it must.
    pub refuses: Option<u8>,
}

/// The limits that a recovery must keep to; without one, nothing is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// Seconds that a recovery may take.
    pub rto_seconds: Option<f64>,
    /// Seconds that database and connectors may be down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<Downtime>,
    /// Acknowledged transactions before the target that may be missing.
    pub rpo_transactions: Option<u64>,
    /// Seconds of acknowledged changes before the target that may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<f64>,
}

impl From<&ObjectivesPlan> for Objectives {
    fn from(plan: &ObjectivesPlan) -> Objectives {
        Objectives {
            rto_seconds: plan.rto.map(|limit| limit.as_secs_f64()),
            downtime: plan.downtime.map(DowntimeObjective::limits),
            rpo_transactions: plan.rpo_transactions,
            rpo_seconds: plan.rpo.map(|limit| limit.as_secs_f64()),
        }
    }
}

impl From<&DrillPlan> for Terms {
    fn from(plan: &DrillPlan) -> Terms {
        let control = plan.control.as_ref().map(|control| ControlTerms {
            plan: control.told(),
            refuses: match control.expect {
                Expect::Red(_) => None,
                Expect::Refusal(code) => Some(code),
            },
        });
        Terms {
            checks: plan.checks.clone(),
            control,
            objectives: Objectives::from(&plan.objectives),
            partitions: plan.pipeline.partitions,
            topic_settings: plan.pipeline.topic_settings.clone(),
        }
    }
}
