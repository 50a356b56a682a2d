//! Steps that playbooks share, each written once over any state that has a pipeline.

mod connectors;
mod over;
mod sources;
mod topics;

pub(crate) use connectors::{restore_config, resume, stop_connectors};
pub(crate) use over::OverPipeline;
pub(crate) use sources::{delete_offsets, force_snapshot, publication, server_answers};
pub(crate) use topics::{delete_topics, group_offsets, recreate_topics};
