//! The native backend: servers as processes of this machine.

mod exercise;
mod java;
mod native;
mod servers;
mod training;

pub(in crate::stack) use java::JavaServer;
pub use native::Native;
