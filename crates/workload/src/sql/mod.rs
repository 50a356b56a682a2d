//! A scenario's own SQL as the workload, for any schema: seeded writers draw transactions and fill their statements.
//!
//! Nothing is known of the statements but their text. What is known of each transaction is two rows in a table of the
//! workload's own ([`TRANSACTIONS`]), written in the same transaction before its first and behind its last statement: where
//! they are, all of it is, because PostgreSQL's transactions are atomic.

mod foreign;
mod load;
mod render;
mod tables;
mod writer;

pub use foreign::committed;
pub use load::{SqlLoad, SqlSpec, SqlWorkload};
pub use render::Transaction;
pub use tables::{MARKERS, TRANSACTIONS, lay, lay_markers, present_tokens, tables};
