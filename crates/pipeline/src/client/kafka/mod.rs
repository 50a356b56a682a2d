//! Kafka: the connection, topics, groups, and records.

mod connection;
mod copy;
mod groups;
mod records;
mod stretch;
mod topics;

pub use connection::Kafka;
pub(in crate::client) use connection::{blocking, is_transient};
pub use copy::{Copied, Copier};
pub use groups::{Group, Untold};
pub use records::{Outgoing, Record};
pub use stretch::{Extent, StretchEnd};
pub use topics::{Refusal, TopicSpec};
