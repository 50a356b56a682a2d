//! What a fold has seen, besides the last event of each key.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{keys::Entry, order::Position};
use crate::{
    decode::record::{Op, Unreadable},
    deliveries::Change,
};
use cdc_model::units::{SchemaId, packed};

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'f> {
    /// Its last event, with a row, and the partition in which it stands. Placeholders there have taken earlier values.
    Live(i32, Cow<'f, Entry>),
    /// There is no event of it, or the last one took the row away.
    Gone,
    /// Its last events, or its last event and a TRUNCATE, stand in different partitions, and nothing decides which came later;
    /// or the last one has a placeholder, and nothing decides which of the events of other partitions came before it.
    Unordered,
}

/// A TRUNCATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncate {
    /// Its offset.
    pub offset: i64,
    /// `source.lsn`, zero where unknown.
    pub lsn: u64,
    /// `source.txId`, zero where unknown.
    pub tx: u64,
    /// When the connector made it; zero where unknown.
    pub made_ns: i64,
}

impl Truncate {
    pub(super) fn at(&self, partition: i32) -> Position {
        Position { partition, offset: self.offset, lsn: self.lsn, made_ns: self.made_ns }
    }
}

/// An event of a table without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loose {
    /// When the connector made it.
    pub made_ns: i64,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// `source.lsn`, zero where it has none.
    pub lsn: u64,
    /// The same, or where the connector was when it made it; zero where unknown.
    pub reached: u64,
    /// `source.txId`.
    pub tx: u64,
    /// What it did.
    pub op: Op,
    /// The packed row before.
    #[serde(with = "packed")]
    pub before: Option<Box<[u8]>>,
    /// The packed row after.
    #[serde(with = "packed")]
    pub after: Option<Box<[u8]>>,
}

impl Loose {
    pub(super) fn change(&self) -> Change<'_> {
        let Loose { tx, lsn, op, before, after, .. } = self;
        Change { tx: *tx, lsn: *lsn, op: *op, before: before.as_deref(), after: after.as_deref() }
    }

    pub(super) fn at(&self) -> Position {
        Position { partition: self.partition, offset: self.offset, lsn: self.reached, made_ns: self.made_ns }
    }
}

/// One event as the checks of a drill need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// What it did.
    pub op: Op,
    /// `source.lsn`.
    pub lsn: Option<u64>,
    /// `source.txId`.
    pub tx: Option<u64>,
    /// Whether it is from a snapshot.
    pub snapshot: bool,
    /// When the connector made it.
    pub made_ns: i64,
    /// The packed key.
    #[serde(with = "packed")]
    pub key: Option<Box<[u8]>>,
    /// The token of the row before.
    pub token_before: Option<Box<str>>,
    /// The token of the row after.
    pub token_after: Option<Box<str>>,
    /// The schema id of the value.
    pub schema: Option<SchemaId>,
}

/// A record that is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub why: Unreadable,
}

/// How many problems of a partition are kept; the rest are counted.
pub(super) const PROBLEMS_MAX: usize = 50;

/// Where a schema id was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// By how many records.
    pub records: u64,
    /// The first of them.
    pub first: (i32, i64),
}

/// Whether a schema id stands in keys or in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// In keys.
    Key,
    /// In values.
    Value,
}

/// A record kept for later: its transaction is not visible in the table's snapshot yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Its offset.
    pub offset: i64,
    /// The key's bytes.
    #[serde(with = "packed")]
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    #[serde(with = "packed")]
    pub value: Option<Vec<u8>>,
    /// When the record was written, in milliseconds since 1970, as the record itself says.
    pub written_ms: Option<i64>,
}

/// The first row of a partition that has a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstWith {
    /// Its offset.
    pub offset: i64,
    /// `source.lsn`, or where the connector was; zero where unknown.
    pub lsn: u64,
}

impl FirstWith {
    /// Whether a record of this offset and position was made when there was the column. A record of before may have been delivered
    /// again behind it.
    pub fn precedes(&self, offset: i64, lsn: u64) -> bool {
        self.offset < offset && (self.lsn == 0 || lsn == 0 || self.lsn <= lsn)
    }
}
