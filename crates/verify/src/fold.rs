//! How a topic folds to a table. Pure, and compact: a million rows fit in a few hundred megabytes.
//!
//! A keyed table is what the last event of each key leaves. Within a partition the offsets are the order, whatever the
//! positions in the WAL say: an incremental snapshot's reads have none, and after a point-in-time recovery they begin
//! again. A TRUNCATE concerns all partitions and stands in one, and a key may stand in several after a change of their
//! number: there [`Clock`] decides, and what it cannot order is reported ([`Standing::Unordered`]).
//!
//! A table without a key is a multiset of images: an insert adds one, a delete takes one away, an update does both; the
//! events of all partitions are put in the order in which the connector made them, and those that were delivered again
//! are known by their position and left out. A snapshot's read restates a row: it adds an image only where there are
//! fewer than that snapshot has read.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use serde::{Deserialize, Serialize};

use super::{
    decode::{
        record::{Event, Op, Unreadable},
        repr::Repr,
        row::{Cell, Placeholder, Reservations, cells, push},
    },
    deliveries::{Change, Delivery, deliveries},
};
use cdc_model::units::{SchemaId, packed, pairs};

/// Hashes packed keys, eight bytes at a time. Keys come from the user's own tables: no defence against crafted ones.
#[derive(Clone, Copy, Default)]
pub struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// A map by packed key.
pub type KeyMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fast>>;

/// A [`KeyMap`] in JSON: an object from each key, in base64, in order.
mod by_key {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Entry, KeyMap, packed};

    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Key(#[serde(with = "packed")] Box<[u8]>);

    pub(super) fn serialize<S: Serializer>(map: &KeyMap<Entry>, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeMap<Key, &Entry> = map.iter().map(|(key, entry)| (Key(key.clone()), entry)).collect();
        sorted.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyMap<Entry>, D::Error> {
        let sorted = BTreeMap::<Key, Entry>::deserialize(deserializer)?;
        Ok(sorted.into_iter().map(|(key, entry)| (key.0, entry)).collect())
    }
}

/// The last event of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The packed row; empty when the key's last event took it away.
    #[serde(with = "packed")]
    pub row: Box<[u8]>,
    /// Its offset.
    pub offset: i64,
    /// `source.lsn`; for reads of incremental snapshots, which have none, where the connector was; zero where unknown.
    pub lsn: u64,
    /// When the connector made it, in nanoseconds since 1970; zero where unknown.
    pub made_ns: i64,
}

impl Entry {
    /// Whether there is a row.
    pub fn live(&self) -> bool {
        !self.row.is_empty()
    }

    fn at(&self, partition: i32) -> Position {
        Position { partition, offset: self.offset, lsn: self.lsn, made_ns: self.made_ns }
    }
}

/// Where an event stands; zero for a position in the WAL or a time that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    partition: i32,
    offset: i64,
    lsn: u64,
    made_ns: i64,
}

/// Orders events of a topic across its partitions, as the connector made them.
///
/// Times decide as far as the connector's clock was steady and precise enough; positions in the WAL decide within one
/// history of the server. Where both are known they must agree: after a recovery to an earlier point positions begin again,
/// and on another worker the clock may be another.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// The furthest that times have stepped back from one record of a partition to a later one.
    back_ns: i64,
}

impl Clock {
    /// Whether `a` was made after `b`; `None` where nothing decides.
    fn after(self, a: Position, b: Position) -> Option<bool> {
        if a.partition == b.partition {
            return Some(a.offset > b.offset);
        }
        let by_lsn = (a.lsn > 0 && b.lsn > 0 && a.lsn != b.lsn).then_some(a.lsn > b.lsn);
        match (self.by_time(a.made_ns, b.made_ns), by_lsn) {
            (Some(time), Some(lsn)) if time != lsn => None,
            (time, lsn) => time.or(lsn),
        }
    }

    fn by_time(self, a: i64, b: i64) -> Option<bool> {
        let apart = a.abs_diff(b);
        let known = a > 0 && b > 0 && apart > self.back_ns.unsigned_abs() && apart >= resolution(a).max(resolution(b));
        known.then_some(a > b)
    }
}

/// How precise a time is, in nanoseconds: connectors before 2.6 write milliseconds, and so do brokers.
fn resolution(time_ns: i64) -> u64 {
    match time_ns {
        ms if ms % 1_000_000 == 0 => 1_000_000,
        us if us % 1000 == 0 => 1000,
        _ => 1,
    }
}

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
    fn at(&self, partition: i32) -> Position {
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
    fn change(&self) -> Change<'_> {
        let Loose { tx, lsn, op, before, after, .. } = self;
        Change { tx: *tx, lsn: *lsn, op: *op, before: before.as_deref(), after: after.as_deref() }
    }

    fn at(&self) -> Position {
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
const PROBLEMS_MAX: usize = 50;

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

/// What one partition folds to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartitionFold {
    /// The partition.
    pub partition: i32,
    /// The offset after the last one read.
    pub next: i64,
    /// Keyed rows.
    #[serde(with = "by_key")]
    pub keyed: KeyMap<Entry>,
    /// Events without a key.
    pub loose: Vec<Loose>,
    /// TRUNCATEs.
    pub truncates: Vec<Truncate>,
    /// The offset and the time of the latest event, and how far times have stepped back before it.
    newest: Option<(i64, i64)>,
    back_ns: i64,
    /// Every event, where asked for.
    pub log: Option<Vec<Logged>>,
    /// The column with the token, for the log.
    pub token_column: Option<usize>,
    /// Records by schema id.
    #[serde(with = "pairs")]
    pub ids: BTreeMap<(Place, SchemaId), Use>,
    /// Records that are no events.
    pub problems: Vec<Problem>,
    /// All of them, also beyond the cap.
    pub problems_total: u64,
    /// All records.
    pub records: u64,
    /// Events by what they did.
    pub ops: BTreeMap<Op, u64>,
    /// Placeholders that took the key's earlier value.
    pub restored_values: u64,
    /// Records kept for later.
    pub deferred: VecDeque<Deferred>,
    /// The offset of the last event that does not say which transaction it is of: a read of an incremental snapshot, or a
    /// record of a transform that leaves the row only. It may be newer than what the table's snapshot sees.
    pub unplaced: Option<i64>,
    /// For each column the first row that has it.
    pub first_with: Vec<Option<FirstWith>>,
}

impl PartitionFold {
    /// An empty partition. `log` keeps every event, with the token of this column.
    pub fn new(partition: i32, log: bool, token_column: Option<usize>) -> PartitionFold {
        PartitionFold { partition, log: log.then(Vec::new), token_column, ..PartitionFold::default() }
    }

    /// Notes a record that is no event.
    pub fn problem(&mut self, offset: i64, why: Unreadable) {
        self.records += 1;
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { partition: self.partition, offset, why });
        }
    }

    /// Applies one event.
    pub fn apply(&mut self, event: &Event<'_>, offset: i64) {
        self.records += 1;
        *self.ops.entry(event.meta.op).or_default() += 1;
        for (place, id) in [(Place::Key, event.meta.key_schema), (Place::Value, event.meta.value_schema)] {
            if let Some(id) = id {
                let first = (self.partition, offset);
                self.ids.entry((place, id)).or_insert(Use { records: 0, first }).records += 1;
            }
        }
        if self.log.is_some() && event.meta.op != Op::Tombstone {
            let logged = self.logged(event, offset);
            self.log.get_or_insert_default().push(logged);
        }
        if let Some(after) = event.after
            && (self.first_with.is_empty() || self.first_with.contains(&None))
        {
            self.note_columns(after, FirstWith { offset, lsn: event.meta.lsn.or(event.meta.reached).unwrap_or(0) });
        }
        if event.meta.op != Op::Tombstone {
            self.note_time(event.meta.made_ns, offset);
            if event.meta.tx.is_none() {
                self.unplaced = self.unplaced.max(Some(offset));
            }
        }
        match (event.meta.op, event.key) {
            (Op::Truncate, _) => self.truncates.push(Truncate {
                offset,
                lsn: event.meta.lsn.unwrap_or(0),
                tx: event.meta.tx.unwrap_or(0),
                made_ns: event.meta.made_ns,
            }),
            (Op::Other, _) => {}
            (_, Some(key)) => self.keyed(event, key, offset),
            (Op::Tombstone, None) => {}
            (op, None) => self.loose.push(Loose {
                made_ns: event.meta.made_ns,
                partition: self.partition,
                offset,
                lsn: event.meta.lsn.unwrap_or(0),
                reached: event.meta.lsn.or(event.meta.reached).unwrap_or(0),
                tx: event.meta.tx.unwrap_or(0),
                op,
                before: event.before.map(Into::into),
                after: event.after.map(Into::into),
            }),
        }
    }

    fn note_time(&mut self, made_ns: i64, offset: i64) {
        let (last, newest) = self.newest.unwrap_or((i64::MIN, 0));
        // Records that were kept for later are applied behind later ones.
        if made_ns > 0 && offset > last {
            self.back_ns = self.back_ns.max(newest - made_ns);
            self.newest = Some((offset, newest.max(made_ns)));
        }
    }

    fn note_columns(&mut self, row: &[u8], first: FirstWith) {
        for (column, cell) in cells(row).enumerate() {
            if self.first_with.len() <= column {
                self.first_with.push(None);
            }
            if cell != Cell::Absent {
                self.first_with[column].get_or_insert(first);
            }
        }
    }

    fn keyed(&mut self, event: &Event<'_>, key: &[u8], offset: i64) {
        // A record that was kept for later is older than what stands here already.
        if self.keyed.get(key).is_some_and(|entry| entry.offset > offset) {
            return;
        }
        let row: Box<[u8]> = match (event.meta.op, event.after) {
            (Op::Delete | Op::Tombstone, _) | (_, None) => Box::default(),
            (_, Some(after)) if event.unavailable => {
                let earlier = self.keyed.get(key).filter(|e| e.live()).map(|e| e.row.clone());
                let (row, restored) = completed(after, earlier.as_deref());
                self.restored_values += restored;
                row
            }
            (_, Some(after)) => after.into(),
        };
        let lsn = event.meta.lsn.or(event.meta.reached).unwrap_or(0);
        let made = Entry { row, offset, lsn, made_ns: event.meta.made_ns };
        match self.keyed.get_mut(key) {
            // A tombstone follows its delete and has no position of its own.
            Some(entry) if event.meta.op == Op::Tombstone && !entry.live() => entry.offset = offset,
            Some(entry) => *entry = made,
            None => drop(self.keyed.insert(key.into(), made)),
        }
    }

    fn logged(&self, event: &Event<'_>, offset: i64) -> Logged {
        let token = |row: Option<&[u8]>| {
            let cell = cells(row?).nth(self.token_column?)?;
            cell.text().map(Box::<str>::from)
        };
        Logged {
            partition: self.partition,
            offset,
            op: event.meta.op,
            lsn: event.meta.lsn,
            tx: event.meta.tx,
            snapshot: event.meta.snapshot || event.meta.op == Op::Read,
            made_ns: event.meta.made_ns,
            key: event.key.map(Into::into),
            token_before: token(event.before),
            token_after: token(event.after),
            schema: event.meta.value_schema,
        }
    }
}

/// What a topic folds to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TopicFold {
    /// Its partitions.
    pub partitions: Vec<PartitionFold>,
    /// How each column is expressed.
    pub reprs: Vec<Vec<Repr>>,
    /// The key's columns.
    pub key_columns: Option<Vec<usize>>,
    /// Whether keys of different columns were seen.
    pub key_changed: bool,
    /// Whether there are keys that may have been written under another definition of their columns.
    pub key_redefined: bool,
    /// Columns of which a row had a value whose expression is not understood.
    pub not_understood: BTreeSet<usize>,
    /// Whether a key had such a value.
    pub key_not_understood: bool,
    /// Fields that are no columns.
    pub extra_fields: BTreeSet<String>,
    /// Why the topic could not be read.
    pub unreadable: Option<String>,
}

/// A multiset of packed images.
pub type Images = HashMap<Box<[u8]>, i64>;

/// How far a count of images may be from the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// So many may be too many.
    pub fewer: i64,
    /// So many may be missing.
    pub more: i64,
}

/// What the events without a key leave.
#[derive(Clone, Debug, Default)]
pub struct LooseFold {
    /// How often each image is there; a negative count is a delete of what was never there. Images do not show whether a
    /// column may have had another definition when they were written.
    pub images: Images,
    /// The images that were written, at least once, when a column may have had another definition; with them, whether even
    /// an equal row of the table may be another one.
    pub redefined: HashMap<Box<[u8]>, bool>,
    /// The images of records that lack a column and stand behind one of their partition that has it.
    pub late: HashSet<Box<[u8]>>,
    /// Whether a snapshot may have read rows of which there were records before.
    pub read_again: bool,
    /// How many fewer or more there may be of an image, by changes that may be other ones delivered again.
    pub either: HashMap<Box<[u8]>, Range>,
    /// Events that were delivered again and left out.
    pub redelivered: u64,
    /// Updates and deletes that do not tell the row before.
    pub blind: u64,
    /// Events whose record does not tell what they did.
    pub unnamed: u64,
    /// Events that may be before a TRUNCATE or after it: they stand in another partition, and nothing decides.
    pub unordered: u64,
    /// Events that may stand for rows that a snapshot had read before: reads that do not say where the connector was, and
    /// changes behind a snapshot that is later in the WAL.
    pub restated: u64,
}

impl TopicFold {
    /// How many problems there were beyond those that the partitions keep.
    pub(crate) fn unshown_problems(&self) -> u64 {
        self.partitions.iter().map(|p| p.problems_total.saturating_sub(p.problems.len() as u64)).sum()
    }

    /// Takes what a decoder has learned.
    pub fn learn(&mut self, decoder: &super::decode::record::Decoder) {
        if self.reprs.len() < decoder.reprs().len() {
            self.reprs.resize(decoder.reprs().len(), Vec::new());
        }
        for (known, new) in self.reprs.iter_mut().zip(decoder.reprs()) {
            for repr in new {
                if !known.contains(repr) {
                    known.push(repr.clone());
                }
            }
        }
        if let Some(columns) = decoder.key_columns() {
            self.key_changed |= decoder.key_changed() || self.key_columns.as_deref().is_some_and(|k| k != columns);
            self.key_columns = Some(columns.to_vec());
        }
        self.key_redefined |= decoder.key_redefined();
        self.not_understood.extend(decoder.not_understood());
        self.key_not_understood |= decoder.key_not_understood();
        self.extra_fields.extend(decoder.extra_fields().iter().cloned());
    }

    /// All records.
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|p| p.records).sum()
    }

    /// Records of an operation.
    pub fn count(&self, op: Op) -> u64 {
        self.partitions.iter().filter_map(|p| p.ops.get(&op)).sum()
    }

    /// Whether events without a key were seen, and none with one.
    pub(crate) fn is_loose(&self) -> bool {
        self.key_columns.is_none()
    }

    fn clock(&self) -> Clock {
        Clock { back_ns: self.partitions.iter().map(|p| p.back_ns).max().unwrap_or_default() }
    }

    /// The last TRUNCATE of each partition that has one.
    fn truncates(&self) -> impl Iterator<Item = Position> {
        let last = |p: &PartitionFold| p.truncates.iter().max_by_key(|t| t.offset).map(|t| t.at(p.partition));
        self.partitions.iter().filter_map(last)
    }

    /// What became of a key.
    pub fn standing(&self, key: &[u8]) -> Standing<'_> {
        let found = || self.partitions.iter().filter_map(|p| p.keyed.get(key).map(|e| (p.partition, e)));
        let mut held = found();
        let Some(mut last) = held.next() else { return Standing::Gone };
        if held.next().is_some() {
            let clock = self.clock();
            let is_last = |(partition, entry): (i32, &Entry)| {
                found().all(|(p, e)| p == partition || clock.after(entry.at(partition), e.at(p)) == Some(true))
            };
            match found().find(|candidate| is_last(*candidate)) {
                Some(found) => last = found,
                // Whichever came last, it left the same.
                None if found().all(|(_, e)| e.row == last.1.row) => {}
                None => return Standing::Unordered,
            }
        }
        match self.beside_truncates(last.0, last.1) {
            Standing::Live(partition, entry) if unavailable(&entry.row) => {
                let earlier = found().filter(|(p, _)| *p != partition).collect();
                self.completed(partition, entry, earlier)
            }
            standing => standing,
        }
    }

    /// Completes a key's last event, of which its own partition has no earlier value, from the events of other partitions.
    fn completed<'f>(&self, partition: i32, entry: Cow<'f, Entry>, mut earlier: Vec<(i32, &'f Entry)>) -> Standing<'f> {
        let clock = self.clock();
        let mut row = entry.row.clone();
        while unavailable(&row) && !earlier.is_empty() {
            let is_last = |(partition, entry): &(i32, &Entry)| {
                let before = |(p, e): &(i32, &Entry)| clock.after(entry.at(*partition), e.at(*p)) == Some(true);
                earlier.iter().all(|other| other.0 == *partition || before(other))
            };
            let Some(newest) = earlier.iter().position(is_last) else { return Standing::Unordered };
            let (from, found) = earlier.swap_remove(newest);
            match cut(clock, found.at(from), self.truncates()) {
                // The row began anew behind it.
                _ if !found.live() => break,
                Some(true) => break,
                Some(false) => row = completed(&row, Some(&found.row)).0,
                None => return Standing::Unordered,
            }
        }
        Standing::Live(partition, Cow::Owned(Entry { row, ..entry.into_owned() }))
    }

    /// What a key's last event leaves, with what a TRUNCATE in any partition takes away.
    fn beside_truncates<'f>(&self, partition: i32, entry: &'f Entry) -> Standing<'f> {
        if !entry.live() {
            return Standing::Gone;
        }
        match cut(self.clock(), entry.at(partition), self.truncates()) {
            Some(true) => Standing::Gone,
            Some(false) => Standing::Live(partition, Cow::Borrowed(entry)),
            None => Standing::Unordered,
        }
    }

    /// All keys that have a row or may have one, each once.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (&[u8], Standing<'_>)> {
        let several = self.keys_in_several_partitions();
        let truncated = self.truncates().next().is_some();
        self.partitions.iter().enumerate().flat_map(move |(index, p)| {
            p.keyed.iter().filter_map(move |(key, entry)| {
                let before = |other: &PartitionFold| other.keyed.contains_key(key);
                let standing = match several {
                    true if self.partitions[..index].iter().any(before) => return None,
                    true => self.standing(key),
                    false if truncated => self.beside_truncates(p.partition, entry),
                    false if entry.live() => Standing::Live(p.partition, Cow::Borrowed(entry)),
                    false => Standing::Gone,
                };
                (standing != Standing::Gone).then_some((&**key, standing))
            })
        })
    }

    /// Whether a key stands in more than one partition.
    pub(crate) fn keys_in_several_partitions(&self) -> bool {
        let mut rest = self.partitions.as_slice();
        while let Some((first, others)) = rest.split_first() {
            if first.keyed.keys().any(|k| others.iter().any(|o| o.keyed.contains_key(k))) {
                return true;
            }
            rest = others;
        }
        false
    }

    /// Partition and offset of events without a key that were delivered again.
    pub(crate) fn redelivered(&self) -> Vec<(i32, i64)> {
        let events = self.as_made();
        let again = deliveries_of(&events).into_iter().map(|delivery| delivery == Delivery::Again);
        events.iter().zip(again).filter(|(_, again)| *again).map(|(e, _)| (e.partition, e.offset)).collect()
    }

    /// The events without a key in the order in which the connector made them: by time across partitions, by offset
    /// within each. Of one time, those of one position stay together.
    fn as_made(&self) -> Vec<&Loose> {
        let mut heads: Vec<_> = self
            .partitions
            .iter()
            .map(|p| {
                let mut events: Vec<&Loose> = p.loose.iter().collect();
                events.sort_by_key(|e| e.offset);
                events.into_iter().peekable()
            })
            .collect();
        let mut merged = Vec::with_capacity(self.partitions.iter().map(|p| p.loose.len()).sum());
        let mut last = None;
        loop {
            let head = |(index, events): (usize, &mut std::iter::Peekable<std::vec::IntoIter<&Loose>>)| {
                events.peek().map(|e| (e.made_ns, last != Some((e.tx, e.lsn)), e.reached, index))
            };
            let Some((.., next)) = heads.iter_mut().enumerate().filter_map(head).min() else { return merged };
            merged.extend(heads[next].next());
            last = merged.last().map(|e: &&Loose| (e.tx, e.lsn));
        }
    }

    /// The first delivery of each TRUNCATE: what followed it was delivered again behind the second, and is left out there.
    fn first_truncates(&self) -> Vec<Position> {
        let mut first: HashMap<(u64, u64), Truncate> = HashMap::new();
        let mut positions = Vec::new();
        for partition in &self.partitions {
            for truncate in &partition.truncates {
                if truncate.lsn == 0 {
                    positions.push(truncate.at(partition.partition));
                    continue;
                }
                let known = first.entry((truncate.tx, truncate.lsn)).or_insert(*truncate);
                if truncate.made_ns < known.made_ns {
                    *known = *truncate;
                }
            }
        }
        for partition in &self.partitions {
            let is_first = |t: &&Truncate| first.get(&(t.tx, t.lsn)) == Some(t);
            positions.extend(partition.truncates.iter().filter(is_first).map(|t| t.at(partition.partition)));
        }
        positions
    }

    /// Folds the events without a key.
    pub fn loose(&self, columns: &ImageColumns<'_>) -> LooseFold {
        let events = self.as_made();
        let deliveries = deliveries_of(&events);
        let (clock, truncates) = (self.clock(), self.first_truncates());
        let mut fold = LooseFold::default();
        let mut reads = Reads::new(&events);
        let first_with: HashMap<i32, &[Option<FirstWith>]> =
            self.partitions.iter().map(|p| (p.partition, p.first_with.as_slice())).collect();
        for (event, delivery) in events.iter().zip(deliveries) {
            if delivery == Delivery::Again {
                fold.redelivered += 1;
                continue;
            }
            match cut(clock, event.at(), truncates.iter().copied()) {
                Some(true) => continue,
                Some(false) => {}
                None => fold.unordered += 1,
            }
            let (takes, gives) = match event.op {
                Op::Read | Op::Create => (false, true),
                Op::Update => (true, true),
                Op::Delete => (true, false),
                _ => {
                    fold.unnamed += 1;
                    (false, true)
                }
            };
            // Where snapshots read rows again, reads are known by their snapshots.
            let either = delivery == Delivery::Either && (event.op != Op::Read || reads.counts.is_none());
            if takes {
                match &event.before {
                    Some(before) => {
                        let image = columns.image(before, None, &mut fold.redefined);
                        if either {
                            fold.either.entry(image.clone()).or_default().more += 1;
                        }
                        *fold.images.entry(image).or_default() -= 1;
                    }
                    None => fold.blind += 1,
                }
            }
            if gives && let Some(after) = &event.after {
                let image = columns.image(after, event.before.as_deref(), &mut fold.redefined);
                let first_with = first_with.get(&event.partition).copied().unwrap_or_default();
                if columns.are_late(&image, event, first_with) {
                    fold.late.insert(image.clone());
                }
                if either {
                    fold.either.entry(image.clone()).or_default().fewer += 1;
                }
                let read = (event.op == Op::Read).then(|| reads.again(event.reached, &image)).flatten();
                let count = fold.images.entry(image).or_default();
                *count = read.map_or(*count + 1, |read| read.max(*count));
            }
            fold.restated += u64::from(reads.restates(event));
        }
        fold.read_again = reads.counts.is_some();
        fold.images.retain(|_, count| *count != 0);
        fold
    }
}

/// What of the rows without a key is compared.
#[derive(Clone, Copy)]
pub struct ImageColumns<'c> {
    /// The columns that images have: a generated column comes with snapshots and not with streamed changes, so it is no
    /// part of an image.
    pub keep: &'c [bool],
    /// Whether a column's text that equals the table's value is that value, whatever definition the column had.
    pub certain: &'c dyn Fn(usize, &[u8]) -> bool,
}

impl ImageColumns<'_> {
    /// Whether an event's image lacks a column that its partition had before. Where events have no position, a record of
    /// long ago may have been delivered again.
    fn are_late(&self, image: &[u8], event: &Loose, first_with: &[Option<FirstWith>]) -> bool {
        let before = |first: &Option<FirstWith>| first.is_some_and(|f| f.precedes(event.offset, event.reached));
        let mut columns = cells(image).zip(self.keep).zip(first_with);
        (event.tx, event.lsn) != (0, 0)
            && columns.any(|((cell, keep), first)| *keep && cell == Cell::Absent && before(first))
    }

    /// The image of a row. A placeholder takes the value of the row before.
    fn image(&self, row: &[u8], before: Option<&[u8]>, redefined: &mut HashMap<Box<[u8]>, bool>) -> Box<[u8]> {
        let mut out = Vec::with_capacity(row.len());
        let mut before = before.map(cells);
        let mut open = None;
        for (index, cell) in cells(row).enumerate() {
            let earlier = before.as_mut().and_then(Iterator::next);
            let cell = match cell {
                _ if !self.keep.get(index).copied().unwrap_or(true) => Cell::Absent,
                Cell::Unavailable(placeholder) => resolved(placeholder, earlier),
                cell => cell,
            };
            let Cell::Reserved(reservations, text) = cell else {
                push(&mut out, cell);
                continue;
            };
            if reservations.redefined {
                open = Some(open.unwrap_or(false) || !(self.certain)(index, text));
            }
            let reservations = Reservations { redefined: false, ..reservations };
            push(&mut out, if reservations.is_empty() { Cell::Text(text) } else { Cell::Reserved(reservations, text) });
        }
        let image = Box::<[u8]>::from(out);
        if let Some(open) = open {
            *redefined.entry(image.clone()).or_default() |= open;
        }
        image
    }
}

/// Whether any TRUNCATE came after the event; `None` where that cannot be decided.
fn cut(clock: Clock, event: Position, truncates: impl Iterator<Item = Position>) -> Option<bool> {
    let mut after = Some(false);
    for truncate in truncates {
        match clock.after(truncate, event) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => after = None,
        }
    }
    after
}

/// What snapshots have read so far of a table without a key.
struct Reads {
    /// How often each snapshot, by its position, has read each image; `None` where one snapshot alone made the beginning.
    counts: Option<HashMap<u64, Images>>,
    /// The last position of a snapshot.
    latest: u64,
}

impl Reads {
    fn new(events: &[&Loose]) -> Reads {
        let is_read = |e: &&&Loose| e.op == Op::Read;
        let beginning = events.iter().take_while(is_read).count();
        let lsn = events.first().map(|e| e.reached).unwrap_or_default();
        let alone =
            events[..beginning].iter().all(|e| e.reached == lsn) && !events[beginning..].iter().any(|e| is_read(&e));
        Reads { counts: (!alone).then(HashMap::new), latest: 0 }
    }

    /// How often the snapshot at this position has now read the image; `None` where each read adds one.
    fn again(&mut self, lsn: u64, image: &[u8]) -> Option<i64> {
        let counts = self.counts.as_mut()?.entry(lsn).or_default();
        match counts.get_mut(image) {
            Some(count) => {
                *count += 1;
                Some(*count)
            }
            None => counts.insert(image.into(), 1).or(Some(1)),
        }
    }

    /// Whether the event may stand for rows that a snapshot had read before.
    fn restates(&mut self, event: &Loose) -> bool {
        if event.op == Op::Read {
            self.latest = self.latest.max(event.reached);
            return event.reached == 0 && self.counts.is_some();
        }
        event.reached > 0 && event.reached < self.latest
    }
}

fn deliveries_of(events: &[&Loose]) -> Vec<Delivery> {
    let changes: Vec<Change<'_>> = events.iter().map(|event| event.change()).collect();
    deliveries(&changes)
}

fn unavailable(row: &[u8]) -> bool {
    cells(row).any(|cell| matches!(cell, Cell::Unavailable(_)))
}

/// Puts the key's earlier values in the place of placeholders; the row, and how many took one.
fn completed(after: &[u8], earlier: Option<&[u8]>) -> (Box<[u8]>, u64) {
    let mut row = Vec::with_capacity(after.len());
    let mut taken = 0;
    let mut earlier = earlier.map(cells);
    for cell in cells(after) {
        let before = earlier.as_mut().and_then(Iterator::next);
        let Cell::Unavailable(placeholder) = cell else {
            push(&mut row, cell);
            continue;
        };
        match (resolved(placeholder, before), before) {
            (meant, Some(before)) if meant == before => {
                taken += 1;
                push(&mut row, restored(before));
            }
            (meant, _) => push(&mut row, meant),
        }
    }
    (row.into(), taken)
}

/// What a placeholder means behind this value: the same value again, unless that cannot have been stored out of line.
/// Then it is a value that looks like a placeholder. Without an earlier value it stays open which of the two it is.
fn resolved<'a>(placeholder: Placeholder<'a>, before: Option<Cell<'a>>) -> Cell<'a> {
    match before {
        Some(Cell::Text(text) | Cell::Reserved(_, text)) if text.len() <= usize::from(placeholder.inline_max) => {
            Cell::Text(placeholder.literal)
        }
        Some(before @ (Cell::Text(_) | Cell::Reserved(..) | Cell::Opaque)) => before,
        _ => Cell::Unavailable(placeholder),
    }
}

/// An earlier value that stands for a placeholder.
fn restored(before: Cell<'_>) -> Cell<'_> {
    match before {
        Cell::Text(text) => Cell::Reserved(Reservations { restored: true, ..Reservations::default() }, text),
        Cell::Reserved(reservations, text) => Cell::Reserved(Reservations { restored: true, ..reservations }, text),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::decode::record::Meta;

    fn at(partition: i32, offset: i64, lsn: u64, made_ns: i64) -> Position {
        Position { partition, offset, lsn, made_ns }
    }

    /// Times are known apart from the precision of the coarser one on, and beyond what the clock stepped back.
    #[rstest]
    #[case::a_nanosecond_apart(0, 5_001_002, 5_001_001, Some(true))]
    #[case::a_millisecond_apart(0, 6_000_000, 5_000_000, Some(true))]
    #[case::less_than_a_millisecond(0, 5_999_999, 5_000_000, None)]
    #[case::a_microsecond_apart(0, 5_002_000, 5_001_000, Some(true))]
    #[case::less_than_a_microsecond(0, 5_001_999, 5_001_000, None)]
    #[case::as_far_as_it_stepped_back(1000, 5_002_000, 5_001_000, None)]
    #[case::further(999, 5_002_000, 5_001_000, Some(true))]
    #[case::one_unknown(0, 5_002_000, 0, None)]
    fn times_order_events(#[case] back_ns: i64, #[case] a: i64, #[case] b: i64, #[case] after: Option<bool>) {
        let clock = Clock { back_ns };
        assert_eq!(clock.by_time(a, b), after);
        assert_eq!(clock.by_time(b, a), after.map(|after| !after));
    }

    #[rstest]
    #[case::the_offset_in_a_partition(at(0, 2, 10, 1), at(0, 1, 20, 2_000_001), Some(true))]
    #[case::the_position_without_times(at(0, 1, 20, 0), at(1, 2, 10, 0), Some(true))]
    #[case::the_time_without_positions(at(0, 1, 0, 3_000_000), at(1, 2, 10, 1_000_000), Some(true))]
    #[case::neither(at(0, 1, 10, 0), at(1, 2, 10, 0), None)]
    #[case::against_one_another(at(0, 1, 10, 3_000_000), at(1, 2, 20, 1_000_000), None)]
    fn events_are_ordered_by(#[case] a: Position, #[case] b: Position, #[case] after: Option<bool>) {
        assert_eq!(Clock::default().after(a, b), after);
        assert_eq!(Clock::default().after(b, a), after.map(|after| !after));
    }

    fn event(op: Op, made_ns: i64) -> Event<'static> {
        let meta = Meta { op, made_ns, key_schema: Some(SchemaId(7)), ..Meta::NONE };
        Event { meta, key: None, before: None, after: None, unavailable: false }
    }

    #[test]
    fn a_partition_counts_operations_ids_and_how_far_times_stepped_back() {
        let mut fold = PartitionFold::new(3, false, None);
        for (offset, op, made_ns) in
            [(10, Op::Other, 50), (11, Op::Other, 20), (12, Op::Create, 40), (9, Op::Other, 90)]
        {
            fold.apply(&event(op, made_ns), offset);
        }
        assert_eq!(fold.ops, [(Op::Other, 3), (Op::Create, 1)].into());
        assert_eq!((fold.records, fold.back_ns), (4, 30), "an earlier record says nothing of the clock");
        assert_eq!(fold.ids[&(Place::Key, SchemaId(7))], Use { records: 4, first: (3, 10) });
        fold.problem(13, Unreadable { schema: None, wrong_schema: false, expected: "a".into(), found: "b".into() });
        assert_eq!((fold.records, fold.problems_total), (5, 1));
    }

    #[rstest]
    #[case::read_of_an_initial_snapshot(Op::Read, true, true)]
    #[case::read_that_does_not_name_its_snapshot(Op::Read, false, true)]
    #[case::other_event_that_names_its_snapshot(Op::Create, true, true)]
    #[case::streamed(Op::Create, false, false)]
    fn an_event_is_logged_as_of_a_snapshot(#[case] op: Op, #[case] snapshot: bool, #[case] logged: bool) {
        let mut fold = PartitionFold::new(0, true, None);
        fold.apply(&Event { meta: Meta { snapshot, ..event(op, 0).meta }, ..event(op, 0) }, 0);
        assert_eq!(fold.log.iter().flatten().map(|e| e.snapshot).collect::<Vec<_>>(), [logged]);
    }

    /// Equal images of events without a position may be of one change or of two. Reads are exempt where several snapshots
    /// are told apart: each counts what it has read.
    #[rstest]
    #[case::inserts(&[(Op::Create, "a"), (Op::Create, "a")], &["a"])]
    #[case::inserts_before_a_snapshot(&[(Op::Create, "a"), (Op::Create, "a"), (Op::Read, "b")], &["a"])]
    #[case::reads_of_the_first_snapshot(&[(Op::Read, "a"), (Op::Read, "a"), (Op::Create, "b")], &["a"])]
    #[case::reads_of_a_later_snapshot(&[(Op::Create, "b"), (Op::Read, "a"), (Op::Read, "a")], &[])]
    #[case::different_inserts(&[(Op::Create, "a"), (Op::Create, "b")], &[])]
    fn images_that_may_have_been_delivered_again(#[case] events: &[(Op, &str)], #[case] expected: &[&str]) {
        let packed = |text: &str| {
            let mut row = Vec::new();
            push(&mut row, Cell::Text(text.as_bytes()));
            row
        };
        let mut partition = PartitionFold::new(0, false, None);
        for ((op, text), offset) in events.iter().zip(0..) {
            partition.apply(&Event { after: Some(&packed(text)), ..event(*op, 0) }, offset);
        }
        let fold = TopicFold { partitions: vec![partition], ..TopicFold::default() };
        let found = fold.loose(&ImageColumns { keep: &[true], certain: &|_, _| true }).either;
        let one = |text: &&str| (packed(text).into_boxed_slice(), Range { fewer: 1, more: 0 });
        assert_eq!(found, expected.iter().map(one).collect());
    }
}
