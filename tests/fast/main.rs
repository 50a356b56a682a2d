//! Everything that needs no stack: one binary, because every further one costs seconds to link.

mod contract;
mod layout;
mod sample;
mod steps;
