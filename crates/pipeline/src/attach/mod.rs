//! May this pipeline be touched? For pipelines that are somebody's: what the configuration permits, whether it is the
//! cluster it is taken for, and whether it carries the marker that its owner put on it.
//!
//! A configuration without `[attach]` is the user's own sandbox, and everything is permitted. With it, everything that
//! changes something first passes [`permit`], and what it touches by name passes [`within`]:
//!
//! - `allow` lists the kind of change: `backup`, `recover`, `inject`.
//! - The PostgreSQL system identifier and the Kafka cluster id are listed, and the Connect workers are that cluster's.
//! - The marker is there twice: the word `cdc-drill-target=NAME` in the comment on the database
//!   (`comment on database shop is 'cdc-drill-target=NAME'`; comments survive backup and recovery), and an empty topic
//!   `cdc-drill-target.NAME`. Where the database is dead, its control file must have a listed identifier, and the topic
//!   alone is asked: a recovery must be possible on the bad day.
//! - Topic prefixes of connectors, topics and subjects that are touched lie in a listed namespace.

mod error;
mod guard;

pub use error::AttachError;
pub use guard::{marker_comment, marker_topic, permit, permit_again, permit_recovery, within};
