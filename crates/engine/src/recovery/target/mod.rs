//! From what a person asked for to a position in the WAL, and what can be reached at all.

mod aim;
mod reach;
mod timelines;

pub(super) use aim::{Aim, reaches, resolve};
pub(super) use timelines::{GivenUp, given_up};
