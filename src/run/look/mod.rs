//! Looks at what a drill left, and hands it over as values.

mod basis;
mod ledger;
mod observed;
mod probes;

pub use basis::basis;
pub use ledger::ledger;
pub use observed::observed;
