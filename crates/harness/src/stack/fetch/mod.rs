//! Gets the programs once, pinned by version and sha256, into a cache folder; later uses work offline.
//!
//! Files: `CACHE/lock`, `CACHE/stack-<pins>/` and `CACHE/plugins-<pins and sources>/` (each put in place by one rename, so it
//! is whole or not there), `CACHE/fetching-*` while they are made.

mod aot;
mod clients;
mod folder;
mod object_server;
mod obtain;
mod plugins;
mod programs;
mod sums;
mod unpack;

pub(super) use clients::on_path;
pub(super) use folder::{free_bytes, lock, open_folder};
pub use object_server::object_server;
pub(super) use obtain::check_platform;
pub use programs::{Programs, cache_folder};
