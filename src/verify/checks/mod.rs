//! The checks: pure functions from what was seen and what was to be seen to findings.

mod added;
pub mod compatibility;
mod history;
mod judge;
mod life;
pub mod positions;
mod restored;
mod rows;
pub mod schema_ids;
pub mod state;
mod transactions;

#[cfg(test)]
mod tests;

pub use compatibility::compatibility;
pub use judge::judge;
pub use life::{leaks, liveness};
pub use positions::positions;
pub use restored::{restored_to_target, rpo};
pub use schema_ids::schema_ids;
pub use state::state;
pub use transactions::{atomicity, duplicates, ghosts, loss, order};
