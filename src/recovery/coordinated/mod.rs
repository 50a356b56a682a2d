//! Stop, restore, wipe, reset, re-snapshot: the whole pipeline back to one moment of its database.
//!
//! The unit is the PostgreSQL cluster: everything that reads from it is in the plan, because everything that reads from it
//! goes back.

mod aim;
mod prepare;
mod replay;
mod salvage;
mod state;
mod steps;
mod timelines;

pub(super) use prepare::prepared;
pub(crate) use replay::Reading;
pub(crate) use state::Coordinated;
pub(super) use state::{cluster, is_half_exchanged, set_aside, standing};
pub(crate) use steps::{RESTORE, TABLE};
pub use steps::{STEPS, changes_nothing};
