//! The PostgreSQL server as a data folder and a process: its control file, its hooks, where its parts lie, what it needs room for,
//! its configuration, and a fenced start.

mod configuration;
mod control;
mod fenced;
mod folder;
mod hook;
mod layout;
mod outside;
mod postmaster;
mod programs;
mod room;

pub(super) use configuration::{Configuration, MAIN};
pub(super) use control::{control_file_in, read_control_data};
pub(super) use fenced::{ASKED_FOR, Fenced, Heard, Replay, Seen};
pub(super) use folder::{Owner, copy_reachable, recovery_settings_in};
pub(super) use hook::Control;
pub(super) use layout::{Layout, is_same, refuse_fixed, refuse_tablespaces, resolved, wal_elsewhere};
pub(super) use outside::{Outside, remove_made};
pub(super) use postmaster::{Listening, end_orphans, is_occupied, listening};
pub(super) use programs::{major_of, refuse_other_version, start_dry, tls_files};
pub(super) use room::{Room, left_beside, size_below};
