//! Scenarios, stacks, faults, drills, reports and the command line.

pub mod cli;
pub mod fault;
pub mod prove;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stack;
