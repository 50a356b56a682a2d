//! Seeded writers and the ledger of what they did.

pub mod ledger;
