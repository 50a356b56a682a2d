//! Rows with a key: the last event of each key against the table's row.

use std::collections::HashSet;

use super::comparison::{Comparison, Gap};
use crate::{
    checks::rows::{Keys, in_words},
    decode::{
        compare::Match,
        row::{Cell, cells},
    },
    fold::{Entry, Standing},
};
use cdc_model::{
    event::{Cells, Finding, FindingKind},
    units::{Lsn, Offset, counted},
};

impl<'o> Comparison<'o> {
    /// Compares them.
    pub(super) fn keyed(&mut self) {
        let key_columns = self.fold.key_columns.clone().unwrap_or_else(|| self.table.primary_key.clone());
        let Ok(rows) = &self.table.rows else { return };
        let (mut key, mut row) = (Vec::new(), Vec::new());
        let mut matched = 0u64;
        if !self.readable_keys(&key_columns) {
            self.rows += rows.len();
            return;
        }
        let mut duplicate_keys = self.must_look_for_duplicates(&key_columns).then(HashSet::<Vec<u8>>::new);
        for packed in rows.packed() {
            row.clear();
            row.extend(cells(packed));
            self.rows += 1;
            self.key_of(&key_columns, &row, &mut key);
            if let Some(seen) = &mut duplicate_keys
                && !seen.insert(key.clone())
            {
                self.findings.push(Finding {
                    key: Some(self.row_key(&key_columns, &row)),
                    expected: Some("one row a key".into()),
                    found: Some("several rows of the table have this record key; the topic keeps one".into()),
                    ..self.about(FindingKind::NotComparable)
                });
            }
            match self.fold.standing(&key) {
                Standing::Live(partition, entry) => {
                    matched += 1;
                    self.row(&key_columns, &row, packed, partition, &entry);
                }
                Standing::Gone => self.missing(&key_columns, &key, &row),
                Standing::Unordered => matched += 1,
            }
        }
        self.gaps(&key_columns);
        self.ghosts(&key_columns, matched);
        self.unordered();
    }

    /// Whether the table is the connector's own, into which signals are written: no snapshot of the connector reads it.
    fn is_signals(&self) -> bool {
        let setting = self.connector.and_then(|c| c.config.get("signal.data.collection"));
        let name = format!("{}.{}", self.table.name.schema, self.table.name.name);
        setting.is_some_and(|tables| tables.split(',').any(|t| t.trim() == name))
    }

    /// Keys that were expressed in ways that do not go together, or that may mean other rows, find the wrong rows or none. `false`
    /// where they find none: different keys have become one.
    fn readable_keys(&mut self, key_columns: &[usize]) -> bool {
        let mixed: Vec<usize> = key_columns.iter().copied().filter(|column| self.losses(*column).len() > 1).collect();
        let found = if self.fold.key_not_understood {
            let names = self.table.names(key_columns).join(", ");
            format!("keys whose {names} is expressed in a way that is not understood")
        } else if !mixed.is_empty() {
            format!(
                "keys whose {} is expressed sometimes with less than at other times",
                self.table.names(&mixed).join(", ")
            )
        } else if self.fold.key_redefined {
            format!(
                "keys without a schema, written before {} was last redefined (or naming no transaction)",
                self.table.names(key_columns).join(", ")
            )
        } else {
            return true;
        };
        let finding = Finding {
            expected: Some("keys of one form".into()),
            found: Some(found),
            ..self.about(FindingKind::NotComparable)
        };
        self.undecided.push(finding);
        !self.fold.key_not_understood
    }

    /// Whether the table itself does not keep the record's key unique, so that this must be looked at. Where a key's
    /// expression has no room for all of a value, different rows may have one key.
    fn must_look_for_duplicates(&self, key_columns: &[usize]) -> bool {
        if key_columns.iter().any(|column| self.losses(*column).iter().any(Option::is_some)) {
            return true;
        }
        let mut key = key_columns.to_vec();
        let mut primary = self.table.primary_key.clone();
        key.sort_unstable();
        primary.sort_unstable();
        primary.is_empty() || !primary.iter().all(|c| key.contains(c))
    }

    fn missing(&mut self, key_columns: &[usize], key: &[u8], row: &[Cell<'_>]) {
        let last = self.fold.partitions.iter().find_map(|p| p.keyed.get(key).map(|e| (p.partition, e)));
        if last.is_none() && self.is_signals() {
            self.unread_signals += 1;
            return;
        }
        let cells = self.cells_of(row, 0..row.len());
        let evidence = self.evidence(FindingKind::Lost, Some(cells), None);
        let finding = Finding {
            key: Some(self.row_key(key_columns, row)),
            evidence,
            token: self.token_of(row),
            partition: last.map(|(p, _)| p),
            offset: last.map(|(_, e)| Offset(e.offset)),
            expected: Some(self.shown_row(row)),
            found: Some(match last {
                Some(_) => "the key's last event takes the row away".into(),
                None => "no event of this key".into(),
            }),
            ..self.about(FindingKind::Lost)
        };
        self.findings.push(finding);
    }

    fn row(&mut self, key_columns: &[usize], row: &[Cell<'_>], packed: &[u8], partition: i32, entry: &Entry) {
        if packed == &*entry.row {
            self.values += row.len() as u64;
            return;
        }
        let (mut different, mut open) = (Vec::new(), Vec::new());
        let event: Vec<Cell<'_>> = cells(&entry.row).collect();
        for (index, cell) in row.iter().enumerate() {
            let other = event.get(index).copied().unwrap_or(Cell::Absent);
            match self.matches(index, *cell, other) {
                Match::Equal => self.values += 1,
                Match::Absent => {
                    *self.absent.entry(index).or_default() += 1;
                    self.gap(index, *cell, key_columns, row, partition, entry);
                }
                Match::Within(loss) => {
                    self.values += 1;
                    *self.within.entry((index, loss)).or_default() += 1;
                }
                Match::NotComparable(why) => *self.not_comparable.entry((index, why)).or_default() += 1,
                Match::Undecided(why) => open.push((index, why)),
                Match::Different => different.push(index),
            }
        }
        for (index, why) in open {
            self.open(index, why, key_columns, row, (partition, entry.offset));
        }
        if different.is_empty() {
            return;
        }
        let key = self.row_key(key_columns, row);
        let kind = self.kind_of(&key, &event, &different);
        let shown = |cells: &[Cell<'_>]| {
            let parts = different.iter().filter_map(|i| {
                let column = self.table.columns.list.get(*i)?;
                Some(format!("{}={}", column.name, in_words(cells.get(*i).copied().unwrap_or(Cell::Absent))))
            });
            parts.collect::<Vec<_>>().join(", ")
        };
        let (expected, found) = (shown(row), shown(&event));
        let differing = |side: &[Cell<'_>]| Some(self.cells_of(side, different.iter().copied()));
        let (expected_cells, found_cells) = (differing(row), differing(&event));
        let evidence = self.evidence(kind, expected_cells, found_cells);
        let finding = Finding {
            key: Some(key),
            evidence,
            token: self.token_of(row),
            partition: Some(partition),
            offset: Some(Offset(entry.offset)),
            lsn: (entry.lsn > 0).then_some(Lsn(entry.lsn)),
            expected: Some(expected),
            found: Some(found),
            ..self.about(kind)
        };
        self.findings.push(finding);
    }

    /// Counts a value that may be equal or not, and keeps the first of its column.
    fn open(
        &mut self,
        column: usize,
        why: &'static str,
        key_columns: &[usize],
        row: &[Cell<'_>],
        (partition, offset): (i32, i64),
    ) {
        if let Some((count, _)) = self.open.get_mut(&(column, why)) {
            *count += 1;
            return;
        }
        let name = self.table.columns.list.get(column).map(|c| c.name.clone()).unwrap_or_default();
        let cell = row.get(column).copied().unwrap_or(Cell::Absent);
        let finding = Finding {
            key: Some(self.row_key(key_columns, row)),
            partition: Some(partition),
            offset: Some(Offset(offset)),
            expected: Some(format!("{name}={}", in_words(cell))),
            ..self.about(FindingKind::NotComparable)
        };
        self.open.insert((column, why), (1, finding));
    }

    fn gap(
        &mut self,
        column: usize,
        cell: Cell<'_>,
        key_columns: &[usize],
        row: &[Cell<'_>],
        partition: i32,
        entry: &Entry,
    ) {
        let streamed = self.table.columns.list.get(column).is_some_and(|c| !c.generated && !c.unpublished);
        if streamed && self.has_all_columns() && !self.reprs(column).is_empty() {
            let key = self.own_key(key_columns, row).into();
            self.gaps.push(Gap {
                column,
                partition,
                offset: entry.offset,
                lsn: entry.lsn,
                key,
                value: cell.text().map(Box::from),
            });
        }
    }

    /// Records written before a column was added do not have it. One that stands behind a record that has it was made without.
    fn gaps(&mut self, key_columns: &[usize]) {
        let gaps = std::mem::take(&mut self.gaps);
        let keys = Keys::new(self.table, key_columns);
        for gap in gaps {
            let partition = self.fold.partitions.iter().find(|p| p.partition == gap.partition);
            let first = partition.and_then(|p| p.first_with.get(gap.column).copied().flatten());
            let Some(first) = first.filter(|first| first.precedes(gap.offset, gap.lsn)) else { continue };
            let name = self.table.columns.list.get(gap.column).map(|c| c.name.clone()).unwrap_or_default();
            if let Some(count) = self.absent.get_mut(&gap.column) {
                *count -= 1;
            }
            let value = gap.value.as_deref();
            let shown = in_words(value.map_or(Cell::Null, |text| Cell::Text(text.as_bytes())));
            let wanted = Cells::from([(name.clone(), value.map(str::to_owned))]);
            let evidence = self.evidence(FindingKind::Different, Some(wanted), Some(Cells::new()));
            let finding = Finding {
                key: Some(keys.of_row(&gap.key)),
                evidence,
                partition: Some(gap.partition),
                offset: Some(Offset(gap.offset)),
                expected: Some(format!("{name}={shown}")),
                found: Some(format!("no {name}, which records have from offset {} on", first.offset)),
                ..self.about(FindingKind::Different)
            };
            self.findings.push(finding);
        }
        self.absent.retain(|_, count| *count > 0);
    }

    /// Keys whose last event cannot be ordered against another one, or a TRUNCATE, in another partition.
    fn unordered(&mut self) {
        let unordered = self.fold.standings().filter(|(_, standing)| *standing == Standing::Unordered).count();
        if unordered > 0 {
            self.findings.push(Finding {
                expected: Some(
                    "events of different partitions whose times or positions in the WAL tell which came later".into(),
                ),
                found: Some(format!(
                    "{unordered} whose last events, or whose last event and a TRUNCATE, nothing orders",
                    unordered = counted(unordered, "key")
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
    }

    fn ghosts(&mut self, key_columns: &[usize], matched: u64) {
        let standing = self.fold.standings().count() as u64;
        if standing == matched {
            return;
        }
        let Ok(rows) = &self.table.rows else { return };
        let mut there: HashSet<Vec<u8>> = HashSet::new();
        let mut key = Vec::new();
        for packed in rows.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            self.key_of(key_columns, &row, &mut key);
            there.insert(key.clone());
        }
        let copies = self.copies(key_columns, &there);
        let keys = Keys::new(self.table, key_columns);
        let fold = self.fold;
        let ghosts: Vec<Finding> = fold
            .standings()
            .filter(|(key, _)| !there.contains(*key) && !copies.contains(*key))
            .filter_map(|(key, standing)| match standing {
                Standing::Live(partition, entry) => Some((partition, key, entry)),
                Standing::Gone | Standing::Unordered => None,
            })
            .map(|(partition, key, entry)| {
                let row: Vec<Cell<'_>> = cells(&entry.row).collect();
                let found = self.cells_of(&row, 0..row.len());
                Finding {
                    key: Some(keys.of_record(key)),
                    evidence: self.evidence(FindingKind::Ghost, None, Some(found)),
                    token: self.token_of(&row),
                    partition: Some(partition),
                    offset: Some(Offset(entry.offset)),
                    lsn: (entry.lsn > 0).then_some(Lsn(entry.lsn)),
                    expected: Some("no row of this key in the table".into()),
                    found: Some(self.shown_row(&row)),
                    ..self.about(FindingKind::Ghost)
                }
            })
            .collect();
        if !ghosts.is_empty() && !self.truncate_captured() {
            self.notes.push(format!(
                "{}: not comparable if it was truncated: TRUNCATE is not captured (skipped.operations, the publication, or ExtractNewRecordState, which drops it), and leaves its rows in the topic",
                self.table.name
            ));
        }
        self.findings.extend(ghosts);
    }

    /// The keys of rows that snapshots alone write, compared where the topic has them.
    fn copies(&mut self, key_columns: &[usize], there: &HashSet<Vec<u8>>) -> HashSet<Vec<u8>> {
        let mut copies = HashSet::new();
        let (mut key, table, fold) = (Vec::new(), self.table, self.fold);
        for packed in table.unstreamed.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            self.key_of(key_columns, &row, &mut key);
            if there.contains(&key) {
                continue;
            }
            if let Standing::Live(partition, entry) = fold.standing(&key) {
                self.row(key_columns, &row, packed, partition, &entry);
                copies.insert(key.clone());
            }
        }
        self.copied(copies.len() as u64);
        copies
    }
}
