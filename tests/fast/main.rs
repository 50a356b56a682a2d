//! Everything that needs no stack: one binary, because every further one costs seconds to link.

// Also in helpers, which are no `#[test]` to the lint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archiving;
mod chronicles;
mod ci;
mod circles;
mod contract;
mod deploy;
mod docs;
mod house;
mod interrupt;
mod kubernetes;
mod layout;
mod licences;
mod locks;
mod monitoring;
mod numbers;
mod release;
mod sample;
mod steps;
