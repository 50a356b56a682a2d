//! The checks: pure functions from what was seen and what was to be seen to findings.

mod added;
mod compatibility;
mod held;
mod history;
mod judge;
mod life;
pub mod positions;
mod restored;
mod rows;
mod schema_ids;
mod state;
mod transactions;

#[cfg(test)]
mod tests;

pub use compatibility::compatibility;
pub use judge::judge;
pub use positions::positions;
pub use restored::rpo;
pub use schema_ids::schema_ids;
pub use state::state;

use held::history;
use life::{leaks, liveness};
use restored::restored_to_target;
use transactions::{atomicity, duplicates, ghosts, loss, order};
