//! Stop, restore, wipe, reset, re-snapshot: the whole pipeline back to one moment of its database.
//!
//! The unit is the PostgreSQL cluster: everything that reads from it is in the plan, because everything that reads from it
//! goes back.

mod address;
mod again;
mod archiver;
mod archiving;
mod configuration;
mod exchange;
mod fence;
mod identity;
mod plan;
mod prepare;
mod record;
mod replay;
mod salvage;
mod start;
mod state;
mod steps;
mod take_back;

pub(super) use configuration::refuse_no_configuration;
pub(super) use exchange::{is_half_exchanged, set_aside, standing};
pub(super) use identity::Identity;
pub(super) use prepare::prepared;
pub(super) use record::cluster;
pub use replay::Reading;
pub use state::Coordinated;
pub use steps::{RESTORE, TABLE};
pub use steps::{STEPS, changes_nothing};
