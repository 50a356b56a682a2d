//! The pipeline around the cluster: connectors, topics, groups, slots; found once, before anything is touched, and the
//! actions on them that playbooks share.

mod absent;
mod active;
mod connectors;
mod dependents;
mod discover;
mod downstream;
mod filled;
mod fitness;
mod found;
mod groups;
mod login;
mod protected;
mod publication;
mod resume;
mod sessions;
mod sinks;
mod state;
mod topics;
mod wanted;
mod worker;

pub(super) use absent::has_same_slot;
pub(super) use discover::refuse_unaddressable;
pub(super) use downstream::Outdated;
pub(super) use found::{Found, Source};
pub use protected::{Protection, is_protected, protection};
pub use publication::captured_tables;
pub(super) use publication::{coverage, publication_repair};
pub use resume::drop_slot;
pub use state::Pipeline;
pub(super) use wanted::{PublicationChange, PublicationRepair, must_stream, unstreamed};
