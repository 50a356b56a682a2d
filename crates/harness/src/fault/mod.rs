//! Things broken on purpose, and the proof that they broke.
//!
//! A [`Fault`] is injected into a [`Target`] and leaves a [`FaultGuard`], which looks for the effect ([`FaultGuard::landed`])
//! and undoes the means, not the effect ([`FaultGuard::heal`]). Nothing here decides when, or whether that is good or bad.

mod alter;
mod database;
mod disturb;
mod error;
mod guard;
mod hook;
mod kill;
mod pages;
mod records;
mod registry;
mod signals;
mod slot;
mod target;

pub use alter::schema_refused;
pub use error::FaultError;
pub use guard::{Fault, FaultGuard};
pub use registry::{RegistryBefore, records_under_other_ids};
pub use signals::signals;
pub use target::Target;
