//! The steps of the playbooks, which a control can leave out.

use super::model::Recover;
use cdc_model::vocabulary::TopicsRepair;

/// The steps of a recovery that a control can leave out. The recovery engine defines the steps; a test holds the two equal.
pub fn steps_of(recover: &Recover) -> &'static [&'static str] {
    match recover {
        Recover::Coordinated(_) => &[
            "prepare",
            "stop-connectors",
            "fence",
            "salvage",
            "pin-timeline",
            "restore",
            "open",
            "delete-topics",
            "recreate-topics",
            "group-offsets",
            "delete-offsets",
            "clear-schema-history",
            "publication",
            "force-snapshot",
            "resume",
            "restore-config",
        ],
        Recover::Slot(slot) => match slot.topics {
            TopicsRepair::Purge => &[
                "stop-connectors",
                "drop-slot",
                "publication",
                "delete-topics",
                "recreate-topics",
                "group-offsets",
                "delete-offsets",
                "force-snapshot",
                "resume",
                "restore-config",
            ],
            TopicsRepair::Compensate => &[
                "stop-connectors",
                "drop-slot",
                "publication",
                "delete-offsets",
                "force-snapshot",
                "resume",
                "compensate",
                "restore-config",
            ],
        },
        Recover::Replay(_) => &["stop-connectors", "replay", "group-offsets", "resume"],
        Recover::Schema(_) | Recover::Exec(_) => &[],
    }
}
