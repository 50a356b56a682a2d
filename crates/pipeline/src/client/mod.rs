//! Thin typed clients for the four systems. No policy: they ask, and say exactly what was answered.

pub mod catalogue;
pub mod cluster;
pub mod connect;
pub mod group;
pub mod kafka;
pub mod limits;
pub mod pace;
pub mod postgres;
pub mod registry;
pub mod wait;
pub mod watch;

mod consumer_groups;
mod error;
mod listener;
mod native;
mod rest;
mod server_address;
mod tls;
mod topic_ids;
mod walsender;

pub use error::ClientError;
