//! Confirms a control's finding by a way that shares nothing with `verify`: plain SQL on the table, a search for the
//! token's bytes in raw records, a direct question to the registry or the broker. What to ask for is taken from a finding's
//! data, never from its words.

mod answer;
mod findings;
mod inquiry;
mod row;
mod token;

pub(crate) use findings::confirmed;
