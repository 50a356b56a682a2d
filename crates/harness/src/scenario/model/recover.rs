//! Recoveries: by a playbook, or by a runbook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::{HumanDuration, Target};
use cdc_model::vocabulary::{OnConflict, TopicsRepair};

/// A recovery: by one of the three playbooks, by a replay of topic archives or by a command of the scenario's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recover {
    /// Stop, restore, wipe, reset, re-snapshot.
    Coordinated(Coordinated),
    /// Diagnose and replace the replication slot, repair the topics.
    Slot(SlotRecovery),
    /// Diagnose and repair the registry, or decide on an incompatible change.
    Schema(SchemaRecovery),
    /// Stop the connectors, replay the archives of the topics that lost their records, position the groups, resume.
    Replay(ReplayRecovery),
    /// Run a command: a runbook of the scenario's own. It is judged by the data that it leaves, as the playbooks are.
    Exec(Runbook),
}

impl Recover {
    /// The playbook's name; `replay` for archives of topics, `exec` for a command.
    pub fn playbook(&self) -> &'static str {
        match self {
            Recover::Coordinated(_) => "coordinated",
            Recover::Slot(_) => "slot",
            Recover::Schema(_) => "schema",
            Recover::Replay(_) => "replay",
            Recover::Exec(_) => "exec",
        }
    }

    /// What the writers do meanwhile.
    pub fn writers(&self) -> WhileRecovering {
        match self {
            Recover::Coordinated(r) => r.writers,
            Recover::Slot(r) => r.writers,
            Recover::Schema(r) => r.writers,
            Recover::Replay(r) => r.writers,
            Recover::Exec(r) => r.writers,
        }
    }

    /// What of the epoch that it ends it is to keep.
    pub fn target(&self) -> &Target {
        match self {
            Recover::Coordinated(r) => &r.target,
            Recover::Exec(r) => &r.target,
            Recover::Slot(_) | Recover::Schema(_) | Recover::Replay(_) => &Target::Latest,
        }
    }

    /// The backup it starts from, where the scenario names one.
    pub fn point(&self) -> Option<&str> {
        match self {
            Recover::Coordinated(r) => r.point.as_deref(),
            Recover::Schema(r) => r.point.as_deref(),
            Recover::Slot(_) | Recover::Replay(_) | Recover::Exec(_) => None,
        }
    }
}

/// What clients do while the recovery runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhileRecovering {
    /// They were stopped before.
    #[default]
    Stop,
    /// They go on trying to commit from before the recovery until after it.
    Continue,
}

/// The coordinated playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Coordinated {
    /// Where recovery stops.
    pub target: Target,
    /// The timeline on which the target lies; the mark's own timeline, or the current one for `latest`, unless said
    /// otherwise.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub timeline: Option<u32>,
    /// The backup to start from; the last one before the target unless said otherwise.
    #[serde(default)]
    pub point: Option<String>,
    /// What the writers do meanwhile.
    #[serde(default)]
    pub writers: WhileRecovering,
}

/// The slot playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SlotRecovery {
    /// How the topics are made right.
    pub topics: TopicsRepair,
    /// What the writers do meanwhile.
    pub writers: WhileRecovering,
}

/// The schema playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SchemaRecovery {
    /// What to do about an incompatible change.
    pub on_conflict: OnConflict,
    /// The backup that holds the registry as it should be; the last one unless said otherwise.
    pub point: Option<String>,
    /// What the writers do meanwhile.
    pub writers: WhileRecovering,
}

/// A replay of topic archives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ReplayRecovery {
    /// What the writers do meanwhile.
    pub writers: WhileRecovering,
}

/// A runbook of the scenario's own. Everything that it needs to know is in its environment: see docs/own-runbook.md. What it
/// leaves behind is judged; an exit status other than 0, or none within its time, is a failed recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Runbook {
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// What it is to keep: everything (`latest`), or what was committed before a mark.
    #[serde(default)]
    pub target: Target,
    /// How long it may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// What the writers do meanwhile.
    #[serde(default)]
    pub writers: WhileRecovering,
}
