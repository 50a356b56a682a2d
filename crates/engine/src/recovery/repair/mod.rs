//! What the slot and the schema playbook share: a running server, a pipeline with something wrong in it, and steps that
//! rebuild topics from tables.

mod state;
mod table;

pub use state::Repair;
pub(super) use state::{Decided, is_of_repair};
pub(super) use table::Table;
