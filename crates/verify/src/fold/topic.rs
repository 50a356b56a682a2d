//! The folds of a topic, put together.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use serde::{Deserialize, Serialize};

use super::{
    keys::Entry,
    loose::{ImageColumns, LooseFold, Reads, deliveries_of},
    order::{Clock, Position, cut},
    partition::{PartitionFold, completed, unavailable},
    seen::{FirstWith, Loose, Standing, Truncate},
};
use crate::{
    decode::{
        record::{Decoder, Op},
        repr::Repr,
    },
    deliveries::Delivery,
};

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

impl TopicFold {
    /// How many problems there were beyond those that the partitions keep.
    pub(crate) fn unshown_problems(&self) -> u64 {
        self.partitions.iter().map(|p| p.problems_total.saturating_sub(p.problems.len() as u64)).sum()
    }

    /// Takes what a decoder has learned.
    pub fn learn(&mut self, decoder: &Decoder) {
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

    pub(super) fn clock(&self) -> Clock {
        Clock { back_ns: self.partitions.iter().map(|p| p.back_ns).max().unwrap_or_default() }
    }

    /// The last TRUNCATE of each partition that has one.
    pub(super) fn truncates(&self) -> impl Iterator<Item = Position> {
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
    pub(super) fn completed<'f>(
        &self,
        partition: i32,
        entry: Cow<'f, Entry>,
        mut earlier: Vec<(i32, &'f Entry)>,
    ) -> Standing<'f> {
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
    pub(super) fn beside_truncates<'f>(&self, partition: i32, entry: &'f Entry) -> Standing<'f> {
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
    pub(super) fn as_made(&self) -> Vec<&Loose> {
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
    pub(super) fn first_truncates(&self) -> Vec<Position> {
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
