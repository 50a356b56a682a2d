//! The type zoo: every type that can stand in a column, under every converter and every mode that concerns it, with what `verify`
//! says of each. A campaign and not a part of `cargo test`: `just zoo`. It writes its table to tests/zoo/types.md, and fails where a
//! healthy value is called different or a planted difference is neither found nor named.

// Also in helpers, which are no `#[test]` to the lint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod outcome;
mod packs;
mod pipeline;
#[path = "../live/sandbox.rs"]
#[allow(dead_code, reason = "the live tests use more of it")]
mod sandbox;
mod specimens;
mod tables;
mod visit;

/// The program under test, which is also what archives WAL and supervises servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");
