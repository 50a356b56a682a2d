//! The words of the house: units, events, vocabulary.

pub mod event;
pub mod moment;
pub mod units;
pub mod vocabulary;
