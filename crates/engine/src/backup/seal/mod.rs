//! Encryption of what a repository holds, with age: to whom, and how it is read again.
//!
//! Whoever writes needs the recipients alone, which the repository names itself; whoever reads needs an identity, from a file. What stays
//! readable without one is listed in `docs/repository.md`.

mod encryption;
mod identity;
mod keys;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use encryption::Encryption;
pub(crate) use identity::name_identity;
pub(crate) use keys::{Seal, refuse_other_keys};
pub(crate) use stream::{Opened, Sealing};
