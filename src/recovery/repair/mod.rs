//! What the slot and the schema playbook share: a running server, a pipeline with something wrong in it, and steps that
//! rebuild topics from tables.

mod state;
mod steps;

pub(super) use state::{Decided, Repair};
pub(super) use steps::{
    DELETE_OFFSETS, DELETE_TOPICS, FORCE_SNAPSHOT, GROUP_OFFSETS, OF_SEVERAL, PUBLICATION, RECREATE_TOPICS,
    RESTORE_CONFIG, RESUME, STOP_CONNECTORS, acted, nothing, step,
};
