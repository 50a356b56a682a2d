//! Seeded writers and the ledger of what they did.
//!
//! [`shop`] writes to the schema of `fixtures/sql/shop.sql` and keeps a ledger of every row. [`sql`] runs a scenario's own
//! statements on any schema; its ledger knows each transaction by rows of a table of its own. [`pgbench`] is real input
//! nobody here wrote, and what it did is known by [`capture()`]. Commit order comes from the WAL ([`commit_order`]).

pub mod ledger;
pub mod pgbench;
pub mod shop;
pub mod sql;

mod capture;
mod common;
mod crew;
mod error;
mod order;
mod row;
mod store;
mod summary;

pub use capture::{Catalogue, capture, place_marker, present_tokens, retain_columns, settle};
pub use error::WorkloadError;
pub use order::{WalPlace, WalRange, WalScan, commit_order, switch_lsn};
pub use row::{Row, RowShape};
pub use shop::{Workload, WorkloadSpec};
pub use summary::{LoadSpec, LoadSummary};
