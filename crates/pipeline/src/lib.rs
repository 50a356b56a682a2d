//! How a pipeline is reached: configuration, clients, what a connector captures, permission.

pub mod attach;
pub mod client;
pub mod config;
pub mod debezium;
