//! Looks at what a drill left, and hands it over as values.

mod basis;
mod ledger;
mod observed;
mod probes;

pub(crate) use basis::basis;
pub(crate) use ledger::ledger;
pub(crate) use observed::observed;
