//! The pipeline around the cluster: connectors, topics, groups, slots; found once, before anything is touched, and the
//! actions on them that playbooks share.

mod connectors;
mod discover;
mod publication;
mod resume;
mod selection;
mod topics;

pub(super) use discover::{Pipeline, Source};
pub(super) use publication::{captured_tables, literal};
pub(super) use resume::drop_slot;
pub(super) use selection::Selection;
