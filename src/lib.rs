//! cdc-drill: fire drills for change-data-capture pipelines.
//!
//! A drill brings up a real PostgreSQL, Kafka, Kafka Connect with Debezium and a schema registry, loads them with a known
//! workload, takes a recovery point, breaks something for real, recovers, and proves from rows and records that the
//! pipeline is whole. `ARCHITECTURE.md` is the map.
//!
//! A [`run::Session`] loads scenarios, runs them and hands back the report. Until it runs, everything is data: loading and checking need no
//! server.
//!
//! ```
//! use cdc_drill::run::Session;
//!
//! let session = Session::new("target/drills").scenario("slot-loss")?;
//! assert!(session.drills().any(|drill| drill == "slot-loss/dropped-initial"));
//! # Ok::<(), cdc_drill::run::RunError>(())
//! ```

#![warn(missing_docs)]

pub mod attach;
pub mod backup;
pub mod cli;
pub mod client;
pub mod config;
pub mod debezium;
pub mod event;
pub mod fault;
pub mod moment;
pub mod postgres;
pub mod recovery;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stack;
pub mod units;
pub mod verify;
pub mod vocabulary;
pub mod workload;

/// The README's snippets compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
