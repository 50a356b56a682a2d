//! Kafka: the connection, topics, groups, and records.

mod connection;
mod groups;
mod records;
mod topics;

pub use connection::Kafka;
pub(in crate::client) use connection::{blocking, is_transient};
pub use groups::{Group, Untold};
pub use records::{Outgoing, Record};
pub use topics::{Refusal, TopicSpec};
