//! Steps that playbooks share, each written once over any state that has a pipeline.

mod connectors;
mod over;
mod sources;
mod topics;

pub use connectors::{restore_config, resume, stop_connectors};
pub use over::OverPipeline;
pub use sources::{delete_offsets, force_snapshot};
pub(crate) use sources::{publication, server_answers};
pub use topics::{delete_topics, group_offsets, recreate_topics};
