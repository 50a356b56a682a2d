//! What controls make of a recovery: a step is left out, or what people do who have no recovery is done instead. The engine takes the
//! steps as they are composed here, and does not know why.

mod composition;
mod damaged_archive;
mod damaged_pages;
mod left_out;
mod noticed;
mod registry;
mod restart;
mod slot_by_hand;

pub(super) use composition::Composition;
pub(super) use damaged_archive::damage;
pub use noticed::{COORDINATED, NoticedBy, REPLAY};
