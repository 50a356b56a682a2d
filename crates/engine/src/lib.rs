//! Backup and recovery, for drills and for the bad day.

pub mod backup;
pub mod health;
pub mod recovery;
