//! Commands of a scenario's own.

mod leash;
mod psql;

pub use leash::{Command, Ended};
pub use psql::libpq;
