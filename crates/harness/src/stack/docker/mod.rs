//! The Docker backend: the same servers, each in a container of its own on a network of their own.
//!
//! Every server's port is published at the network's gateway. That address is this machine's, and the containers reach it
//! too, so one address means a server to this program and to the other servers. Data folders are folders of this machine
//! under the same path inside: a path means the same to the server, to its programs and to the engine of a recovery.

mod backend;
mod container;
mod engine;
mod images;
mod label;
mod network;
mod supervise;
mod sweep;

pub use backend::Docker;
pub(in crate::stack) use container::{disturb, settle};
pub(in crate::stack) use engine::signal;
pub use images::Images;
pub(in crate::stack) use supervise::supervise;
