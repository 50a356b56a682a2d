//! Replay of archived WAL on an extracted base backup, on a server that nobody else can reach.

mod archived;
mod player;
mod program;

pub(super) use archived::{archived_since, blocking, check_archived};
pub(super) use player::{Player, clean_settings, no_settings_left, remove_if_there, replays, switch_of, wait_for_end};
pub(super) use program::program;
