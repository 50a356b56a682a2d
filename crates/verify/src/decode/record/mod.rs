//! From a record's bytes to an event: what was done, where, and the rows before and after in packed form.

mod avro_rows;
mod decoder;
mod event;
mod json_rows;
mod plan;
mod schemas;
mod wire;

pub use decoder::Decoder;
pub use event::{Event, Meta, Op, Unreadable};
pub use schemas::Schemas;
