//! The shop workload: seeded writers on several connections over the schema of `fixtures/sql/shop.sql`.

mod kind;
mod load;
mod perform;
mod plan;
mod pool;
mod seed;
mod session;
mod shape;
mod values;
mod writer;

pub use load::{Workload, WorkloadSpec};
pub use shape::{TABLES, tables};
