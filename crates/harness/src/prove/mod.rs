//! Proving a recovery point: it is restored into a scratch stack of its own, read again by the real Debezium, judged from rows and records,
//! and what was seen lies beside the point as evidence. `judge`, `connectors` and `history` are pure functions; `course` is the order of
//! what happens. Nothing here connects to a server of the pipeline, and nothing is written into the repository but the evidence.

mod connectors;
mod course;
mod error;
mod evidence;
mod history;
mod judge;
mod observed;
mod scratch;
mod sign;
mod write;

pub use course::{ProveRequest, Proved, prove};
pub use error::ProveError;
pub use evidence::{Evidence, NotCompared};
pub use history::{History, StepTrend, history};
pub use sign::{EvidenceReport, SignatureBy, VerifyRequest, verify_evidence};
pub use write::report_of;
