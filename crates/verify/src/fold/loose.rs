//! Tables without a key: multisets of images.

use std::collections::{HashMap, HashSet};

use super::{
    partition::resolved,
    seen::{FirstWith, Loose},
};
use crate::{
    decode::{
        record::Op,
        row::{Cell, Reservations, cells, push},
    },
    deliveries::{Change, Delivery, deliveries},
};

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
    pub(super) fn are_late(&self, image: &[u8], event: &Loose, first_with: &[Option<FirstWith>]) -> bool {
        let before = |first: &Option<FirstWith>| first.is_some_and(|f| f.precedes(event.offset, event.reached));
        let mut columns = cells(image).zip(self.keep).zip(first_with);
        (event.tx, event.lsn) != (0, 0)
            && columns.any(|((cell, keep), first)| *keep && cell == Cell::Absent && before(first))
    }

    /// The image of a row. A placeholder takes the value of the row before.
    pub(super) fn image(
        &self,
        row: &[u8],
        before: Option<&[u8]>,
        redefined: &mut HashMap<Box<[u8]>, bool>,
    ) -> Box<[u8]> {
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

/// What snapshots have read so far of a table without a key.
pub(super) struct Reads {
    /// How often each snapshot, by its position, has read each image; `None` where one snapshot alone made the beginning.
    pub(super) counts: Option<HashMap<u64, Images>>,
    /// The last position of a snapshot.
    pub(super) latest: u64,
}

impl Reads {
    pub(super) fn new(events: &[&Loose]) -> Reads {
        let is_read = |e: &&&Loose| e.op == Op::Read;
        let beginning = events.iter().take_while(is_read).count();
        let lsn = events.first().map(|e| e.reached).unwrap_or_default();
        let alone =
            events[..beginning].iter().all(|e| e.reached == lsn) && !events[beginning..].iter().any(|e| is_read(&e));
        Reads { counts: (!alone).then(HashMap::new), latest: 0 }
    }

    /// How often the snapshot at this position has now read the image; `None` where each read adds one.
    pub(super) fn again(&mut self, lsn: u64, image: &[u8]) -> Option<i64> {
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
    pub(super) fn restates(&mut self, event: &Loose) -> bool {
        if event.op == Op::Read {
            self.latest = self.latest.max(event.reached);
            return event.reached == 0 && self.counts.is_some();
        }
        event.reached > 0 && event.reached < self.latest
    }
}

pub(super) fn deliveries_of(events: &[&Loose]) -> Vec<Delivery> {
    let changes: Vec<Change<'_>> = events.iter().map(|event| event.change()).collect();
    deliveries(&changes)
}
