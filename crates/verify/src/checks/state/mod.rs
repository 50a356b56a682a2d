//! `state`: the latest event of each key in each topic equals the table's row, both ways.

mod check;
mod comparison;
mod keyed;
mod loose;
mod notes;
mod outcome;

pub(super) use check::ghost_rows;
pub use check::state;
