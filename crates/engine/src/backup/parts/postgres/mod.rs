//! The cluster: base backup, WAL positions, and what a base backup does not hold (slots) or hides (publications).

mod base;
mod capture;
mod extract;
mod facts;
mod fingerprints;
mod increment;
mod outside;
mod time;

pub(crate) use capture::{await_archived, capture};
pub use extract::{Extracted, Owner, extract};
pub(crate) use extract::{check as check_base, compare_folder, listed, remove_sources};
pub use facts::publications;
pub use fingerprints::{DatabaseFingerprints, Fingerprints, TableFingerprint, read as fingerprint};
pub(crate) use increment::{bytes_to_restore, room_to_restore};
pub(crate) use time::SetClock;
