//! From what a file says to what a drill does: one pass over the parts, each with its own resolver. A resolver gives back the resolved
//! part, or the proof that it reported why there is none ([`problems::Reported`]): nothing vanishes silently, and no second pass
//! decides anew what holds.

mod checks;
mod command;
mod controls;
mod faults;
mod fixture;
mod objectives;
mod pipeline;
mod problems;
mod recover;
mod scenario;
mod situation;
mod stack;
mod steps;
mod surroundings;
mod tables;
mod workload;

pub use fixture::Fixtures;
pub use scenario::resolve;
