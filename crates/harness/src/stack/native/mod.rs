//! The native backend: servers as processes of this machine.

mod backend;
mod exercise;
mod java;
mod servers;
mod training;

pub use backend::Native;
pub(in crate::stack) use java::JavaServer;
