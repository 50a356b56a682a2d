//! What a recovery remembers: a folder below the repository, complete on disk before anything is changed.
//!
//! `<repository>/recoveries/<id>/` holds `recovery.json` (what was asked for, and of which cluster), `found.json` (everything that
//! has to be put back, with configurations: readable by the owner only), `decided.json` (what was decided by looking),
//! `steps.jsonl` (what began, what ended and what was learned on the way, each line on disk before the recovery goes on) and, in the
//! end, `closed.json`.

mod asked;
mod folder;
mod kept;
mod place;

pub(super) use asked::{Asked, ClusterName};
pub(super) use folder::{Beginning, Ending, Memory};
pub(super) use kept::Kept;
pub(super) use place::{all, ended_well, is_unfinished, the_unfinished, unfinished, unfinished_of};

#[cfg(test)]
pub(super) use folder::tests;
