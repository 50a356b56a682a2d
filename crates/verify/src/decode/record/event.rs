//! Events, and why a record is none.

use serde::{Deserialize, Serialize};

use crate::decode::schema::Typed;
use cdc_model::units::SchemaId;

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Op {
    /// A snapshot's read.
    Read,
    /// A new row.
    Create,
    /// A changed row.
    Update,
    /// A deleted row.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// A row whose operation the record does not tell: it is there now.
    Upsert,
    /// A tombstone: null.
    Tombstone,
    /// Anything else, a logical decoding message for instance.
    Other,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it did.
    pub op: Op,
    /// `source.lsn`.
    pub lsn: Option<u64>,
    /// `source.txId`.
    pub tx: Option<u64>,
    /// The end of the transaction that was the last to be committed when this event was made.
    pub commit: Option<u64>,
    /// Where the connector was in the WAL when it made this event. Reads of an incremental snapshot say it too, which have no
    /// position of their own.
    pub reached: Option<u64>,
    /// Whether it is from a snapshot.
    pub snapshot: bool,
    /// Nanoseconds since 1970 when the connector made it.
    pub made_ns: i64,
    /// The schema id of the key.
    pub key_schema: Option<SchemaId>,
    /// The schema id of the value.
    pub value_schema: Option<SchemaId>,
}

impl Meta {
    /// Of an event of which nothing is known.
    pub(crate) const NONE: Meta = Meta {
        op: Op::Other,
        lsn: None,
        tx: None,
        commit: None,
        reached: None,
        snapshot: false,
        made_ns: 0,
        key_schema: None,
        value_schema: None,
    };
}

/// An event, in the decoder's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Event<'d> {
    /// Where it comes from.
    pub meta: Meta,
    /// The packed key; the columns are [`super::Decoder::key_columns`].
    pub key: Option<&'d [u8]>,
    /// The packed row before.
    pub before: Option<&'d [u8]>,
    /// The packed row after.
    pub after: Option<&'d [u8]>,
    /// Whether a cell of the row after is a placeholder.
    pub unavailable: bool,
}

/// Why a record is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The schema id, where the record names one.
    pub schema: Option<SchemaId>,
    /// Whether the schema is at fault: its id does not resolve, or it does not describe the bytes.
    pub wrong_schema: bool,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

pub(super) fn op_of(op: &str) -> Op {
    match op {
        "r" => Op::Read,
        "c" => Op::Create,
        "u" => Op::Update,
        "d" => Op::Delete,
        "t" => Op::Truncate,
        _ => Op::Other,
    }
}

pub(super) fn unreadable(expected: &str, found: String) -> Unreadable {
    Unreadable { schema: None, wrong_schema: false, expected: expected.to_owned(), found }
}

pub(super) fn misread(id: SchemaId, found: String) -> Unreadable {
    Unreadable {
        schema: Some(id),
        wrong_schema: true,
        expected: format!("schema {id} to describe every byte of the record"),
        found,
    }
}

pub(super) fn not_a(what: &str, typed: &Typed, id: SchemaId) -> Unreadable {
    Unreadable {
        schema: Some(id),
        wrong_schema: true,
        expected: format!("a {what}"),
        found: format!("schema {id} is {}", typed.shape.words()),
    }
}
