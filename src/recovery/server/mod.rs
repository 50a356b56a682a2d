//! The PostgreSQL server as a data folder and a process: its control file, its hooks, and a fenced start.

mod control;
mod fenced;
mod folder;
mod hook;
mod postmaster;

pub(super) use control::ControlData;
pub(super) use fenced::{Fenced, Replay};
pub(super) use folder::{Owner, copy_reachable, free_bytes, recovery_settings_in};
pub(super) use hook::Control;
