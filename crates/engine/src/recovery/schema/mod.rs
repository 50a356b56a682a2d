//! The registry is damaged, or refuses a change: ids, versions and levels as they were, or a decision.

mod beyond;
mod blocked;
mod conflict;
mod found;
mod in_place;
mod levels;
mod merge;
mod plan;
mod records;
mod steps;
mod store;
mod undo;

pub(super) use beyond::put as put_beyond;
pub(super) use found::SchemaPlan;
pub(super) use levels::put_level;
pub(super) use merge::differences;
pub(super) use plan::plan;
pub(super) use steps::{ACCEPT, DAMAGE, REJECT, SOUND};
pub(super) use store::{is_put_back, store_aside};
