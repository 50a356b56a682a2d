//! Data topics are deleted and made again, and groups begin at their beginning.

use super::OverPipeline;
use crate::recovery::step::{Done, OF_SEVERAL, Step, StepInfo, acted, nothing};
use cdc_model::units::counted;

/// Deletes the data topics.
pub const fn delete_topics<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "delete-topics",
            does: "deletes the data topics",
            precondition: "every connector STOPPED, no tasks; no group reads the topics",
            postcondition: "the topics are gone",
        },
        destroys: |s| {
            let topics = s.pipeline().topics.iter();
            topics.map(|t| format!("topic {} ({})", t.name, counted(t.partitions, "partition"))).collect()
        },
        before: |s| Box::pin(s.pipeline().may_be_emptied("delete-topics")),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                match s.pipeline().topics.is_empty() {
                    true => Ok(Done::Nothing("no topic is rebuilt")),
                    false => acted(s.pipeline().delete_topics().await),
                }
            })
        },
        after: |s| Box::pin(s.pipeline().topics_gone("delete-topics")),
    }
}

/// Creates the data topics as they were found.
pub const fn recreate_topics<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "recreate-topics",
            does: "creates the data topics",
            precondition: "their settings are known",
            postcondition: "partitions, replicas and settings as before; empty",
        },
        destroys: nothing,
        before: |s| {
            Box::pin(async { Ok(format!("settings of {} known", counted(s.pipeline().topics.len(), "topic"))) })
        },
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                Ok(match s.pipeline().create_topics().await? {
                    0 => Done::Nothing("all topics are there"),
                    _ => Done::Acted,
                })
            })
        },
        after: |s| {
            let empty = s.pipeline().course.empties_topics();
            Box::pin(s.pipeline().topics_as_before("recreate-topics", empty))
        },
    }
}

/// Lets every group that had offsets begin at the beginning.
pub const fn group_offsets<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "group-offsets",
            does: "commits offset 0 for groups that had offsets",
            precondition: "the groups have no active member",
            postcondition: "offset 0 on every partition",
        },
        destroys: |s| s.pipeline().groups.iter().map(|g| format!("offsets of group {}", g.name)).collect(),
        before: |s| Box::pin(s.pipeline().groups_at_rest("group-offsets")),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                Ok(match s.pipeline().reset_groups().await? {
                    false => Done::Nothing("no group had offsets on the data topics"),
                    true => Done::Acted,
                })
            })
        },
        after: |s| Box::pin(s.pipeline().groups_at_zero("group-offsets")),
    }
}
