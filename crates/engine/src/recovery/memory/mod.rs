//! What a recovery remembers: a folder, complete on disk before anything is changed.
//!
//! `<recoveries>/<id>/`, where `[recovery] folder` is `<recoveries>` (by default `<repository>/recoveries`), holds `recovery.json` (what
//! was asked for, of which cluster, from which repository), `found.json` (everything that
//! has to be put back, with configurations: readable by the owner only), `decided.json` (what was decided by looking),
//! `steps.jsonl` (what began, what ended and what was learned on the way, each line on disk before the recovery goes on) and, in the
//! end, `closed.json`. `progress.json` is how far the step at work is, for those who watch.

mod asked;
mod folder;
mod guard;
mod kept;
mod place;
mod unfinished;

pub(super) use asked::Asked;
pub use asked::Variation;
pub(super) use folder::{Beginning, Ending, Memory};
pub(super) use guard::Guard;
pub(super) use kept::Kept;
pub(super) use place::Place;
pub use unfinished::refuse_unfinished;
pub(super) use unfinished::{Elsewhere, the_unfinished, unfinished_of};

#[cfg(test)]
pub(super) use folder::tests;
#[cfg(test)]
pub(super) use unfinished::tests::moved;
