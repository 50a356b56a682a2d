//! cdc-drill: fire drills for change-data-capture pipelines.
//!
//! A drill brings up a real PostgreSQL, Kafka, Kafka Connect with Debezium and a schema registry, loads them with a known
//! workload, takes a recovery point, breaks something for real, recovers, and proves from rows and records that the
//! pipeline is whole. `ARCHITECTURE.md` is the map of the crates behind this one.
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

/// Drills, from a test.
pub mod run {
    pub use cdc_harness::{
        run::{Finished, Options, RunError, Session},
        stack::BackendChoice,
    };
}

/// What a run found.
pub mod report {
    pub use cdc_harness::report::{ControlResult, DrillReport, RunReport};
}

/// The parts of a report that the run's events have as well.
pub mod event {
    pub use cdc_model::event::{CheckReport, Confirmation, Finding, FindingKind, Landed};
}

/// Verdicts and exit codes.
pub mod units {
    pub use cdc_model::units::{Exit, Verdict};
}

/// The README's snippets compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
