//! The slot is lost, invalid, stolen, or no longer fits the offset: a new slot, a new snapshot, and topics without the
//! traces of the hole.

mod compensate;
mod diagnosis;
mod folder;
mod privileges;
mod record;
mod steps;
mod timeline;

pub(super) use compensate::refuse_unkeyed;
pub(super) use diagnosis::diagnose;
pub(super) use folder::{data_folder, folder_beside_which_it_is_locked};
pub(super) use privileges::refuse_unprivileged;
pub(super) use record::Shape;
pub use steps::DROP_SLOT;
pub(super) use steps::{COMPENSATE, PURGE};
pub(super) use timeline::Timelines;
