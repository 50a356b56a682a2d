//! The checks: pure functions from what was seen and what was to be seen to findings.

pub mod compatibility;
pub mod positions;
pub mod schema_ids;
pub mod state;

pub use compatibility::compatibility;
pub use positions::positions;
pub use schema_ids::schema_ids;
pub use state::state;
