//! Commands of a scenario's own.

mod leash;
mod psql;

pub(crate) use leash::{Command, Ended};
pub(crate) use psql::libpq;
