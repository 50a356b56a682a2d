//! The connectors that a recovery has no business with: looked at before and after it, to prove that it left them alone.

mod compare;
mod look;
mod slots;

pub(super) use compare::compare;
pub(super) use look::{look, look_again};
