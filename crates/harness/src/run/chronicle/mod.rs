//! What is known of a drill: the part of its plan that judgement depends on, what its pipeline is called and captures, and a fact
//! for whatever its steps brought about. Pure and serializable: nothing here waits, and nothing here can be asked.

mod expectation;
mod fact;
mod history;
mod layout;
mod terms;
#[cfg(test)]
mod tests;

pub(crate) use expectation::{TOKEN_COLUMN, basis_registry, expectation};
pub(crate) use fact::{EpochEnd, Fact, FailedLoad, GroupMade, Mark, Means, Recovery, Topics};
pub(crate) use history::{Basis, Chronicle, WalSource};
pub(crate) use layout::{Layout, Source};
pub(crate) use terms::{ControlTerms, Terms};
