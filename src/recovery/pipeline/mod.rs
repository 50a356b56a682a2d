//! The pipeline around the cluster: connectors, topics, groups, slots; found once, before anything is touched, and the
//! actions on them that playbooks share.

mod connectors;
mod discover;
mod found;
mod login;
mod protected;
mod publication;
mod resume;
mod topics;

pub(super) use discover::Pipeline;
pub(super) use found::{Found, Source};
pub use protected::{Protection, is_protected, protection};
pub(super) use publication::{
    PublicationChange, PublicationRepair, captured_tables, coverage, literal, must_stream, publication_repair,
    unstreamed,
};
pub(super) use resume::drop_slot;
