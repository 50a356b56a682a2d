//! Rows without a key: images, and how often each is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::comparison::{Comparison, REDEFINED, table_form};
use crate::{
    checks::added::Added,
    decode::{
        compare::{NOT_UNDERSTOOD, certain},
        limits::{inexpressible, null_instead},
        masked::left_out,
        repr::Repr,
        row::{Cell, Reservations, cells, push},
    },
    fold::{ImageColumns, Images, LooseFold, Range},
};
use cdc_model::event::{Finding, FindingKind};
use cdc_model::units::counted;
use cdc_pipeline::debezium::Masking;

impl Comparison<'_> {
    /// A table without a key: images and how often each is there.
    pub(super) fn loose(&mut self) {
        let Ok(rows) = &self.table.rows else { return };
        let mut keep = self.kept_columns();
        self.leave_out_inexpressible(&mut keep);
        let mut folded = self.fold.loose(&ImageColumns {
            keep: &keep,
            certain: &|index, text| {
                let info = self.table.columns.list.get(index);
                info.zip(std::str::from_utf8(text).ok()).is_some_and(|(info, text)| certain(text, &info.ty))
            },
        });
        if folded.blind > 0 || (folded.unnamed > 0 && folded.images.values().any(|c| *c != 0)) {
            self.notes.push(format!("{}: its events do not tell rows before or operations", self.table.name));
        }
        // A record that tells no operation counts as a new row; so does one of an update that tells no row before.
        let untold = folded.blind + folded.unnamed;
        let blind = untold > 0;
        let mut open = 0u64;
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let mut there: HashSet<Vec<u8>> = HashSet::new();
        for packed in rows.packed() {
            self.rows += 1;
            let image = self.image(packed, &keep);
            self.values += keep.iter().filter(|k| **k).count() as u64;
            if folded.restated > 0 {
                there.insert(image.clone());
            }
            match folded.images.get_mut(image.as_slice()) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    open += u64::from(folded.redefined.get(image.as_slice()) == Some(&true));
                }
                _ => missing.push(image),
            }
        }
        let added = self.added(&folded, &keep);
        missing.retain(|image| {
            let Some(taken) = added.take(image, &mut folded.images) else { return true };
            open += u64::from(folded.redefined.get(taken.image.as_slice()) == Some(&true));
            for column in taken.absent {
                *self.absent.entry(*column).or_default() += 1;
                self.values -= 1;
            }
            false
        });
        added.take_away(&mut folded.images);
        let mut copied = 0;
        for packed in self.table.unstreamed.packed() {
            let image = self.image(packed, &keep);
            if let Some(count) = folded.images.get_mut(image.as_slice()).filter(|count| **count > 0) {
                *count -= 1;
                copied += 1;
            } else if added.take(&image, &mut folded.images).is_some() {
                copied += 1;
            }
        }
        self.copied(copied);
        for (index, kept) in keep.iter().enumerate() {
            if !kept && !self.not_comparable.keys().any(|(column, _)| *column == index) {
                self.absent.insert(index, rows.len());
            }
            if let Some(loss) = self.losses(index).into_iter().flatten().next().filter(|_| *kept && !rows.is_empty()) {
                self.within.insert((index, loss), rows.len());
            }
        }
        if open > 0 {
            self.undecided.push(Finding {
                expected: Some("records that tell the scale or unit of their values".into()),
                found: Some(format!(
                    "{open} in {REDEFINED}, equal only if read with one of several scales",
                    open = counted(open, "row")
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        if (!missing.is_empty() || folded.images.values().any(|c| *c != 0))
            && let Some(found) = self.unreadable_images(&keep, &folded)
        {
            self.undecided.push(Finding {
                expected: Some("rows of one form".into()),
                found: Some(found),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if blind && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.findings.push(Finding {
                expected: Some("rows before updates and deletes (REPLICA IDENTITY FULL and the envelope)".into()),
                found: Some(format!(
                    "{} of a table without a key do not tell which row they changed",
                    counted(untold, "event")
                )),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if folded.unordered > 0 && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.findings.push(Finding {
                expected: Some(
                    "events whose times or positions in the WAL tell whether they came before a TRUNCATE".into(),
                ),
                found: Some(format!(
                    "{} that nothing orders against a TRUNCATE in another partition",
                    counted(folded.unordered, "event")
                )),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if folded.read_again {
            let again = added.read_again(rows.packed().map(|packed| self.image(packed, &keep)), &mut folded.images);
            if again > 0 {
                self.undecided.push(Finding {
                    expected: Some("records that have all columns".into()),
                    found: Some(format!(
                        "{again} too many without columns that were added later, and rows that a snapshot may have read again with them",
 again = counted(again, "image"))),
                    ..self.about(FindingKind::NotComparable)
                });
            }
        }
        if !added.is_nested() && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.undecided.push(Finding {
                expected: Some("records that lack no columns but those that were added later".into()),
                found: Some("records that lack some columns, and others that have these and lack other ones".into()),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        // A later snapshot reads existing rows again; without a key, only positions show that two records are of one row.
        let twice = folded
            .images
            .extract_if(|image, count| *count > 0 && there.contains(&**image))
            .map(|(_, count)| count)
            .sum::<i64>();
        if twice > 0 {
            self.findings.push(Finding {
                expected: Some("records that tell of which row of a table without a key they are".into()),
                found: Some(format!(
                    "{twice} more than the table has of equal rows, and {} that may restate rows of a snapshot",
                    counted(folded.restated, "record"),
                    twice = counted(twice, "image")
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        let again = delivered_again(&mut folded.either, &mut missing, &mut folded.images);
        if again > 0 {
            self.undecided.push(Finding {
                expected: Some("one delivery of each change, or deliveries that something tells apart".into()),
                found: Some(format!(
                    "{again} more or fewer than the table has of equal rows; their changes may have been delivered again: \
                     equal ones stand beside them at their position in the WAL, as rows of one COPY do, or they have no position",
 again = counted(again, "image"))),
                ..self.about(FindingKind::NotComparable)
            });
        }
        for image in missing {
            let row: Vec<Cell<'_>> = cells(&image).collect();
            self.findings.push(Finding {
                token: self.token_of(&row),
                expected: Some(self.shown_row(&row)),
                found: Some("no such image is left in the topic".into()),
                ..self.about(FindingKind::Lost)
            });
        }
        // In order, so that the same observation gives the same report.
        let mut left: Vec<_> = folded.images.iter().filter(|(_, c)| **c != 0).collect();
        left.sort_unstable();
        for (image, count) in left {
            let row: Vec<Cell<'_>> = cells(image).collect();
            self.findings.push(Finding {
                token: self.token_of(&row),
                expected: Some("no such row (any more) in the table".into()),
                found: Some(format!("{count} too many of {}", self.shown_row(&row))),
                ..self.about(FindingKind::Ghost)
            });
        }
        if folded.redelivered > 0 {
            self.notes.push(format!(
                "{}: {} delivered again and left out by position",
                self.table.name,
                counted(folded.redelivered, "event")
            ));
        }
    }

    /// Generated columns come with snapshots and not with streamed changes; columns that are in no event are not there.
    fn kept_columns(&self) -> Vec<bool> {
        let seen = |index: usize| !self.reprs(index).is_empty();
        let columns = self.table.columns.list.iter().enumerate();
        columns.map(|(index, column)| !column.generated && !column.unpublished && seen(index)).collect()
    }

    /// The columns that were added behind some of the records that are left.
    fn added(&self, folded: &LooseFold, keep: &[bool]) -> Added {
        let late = if self.has_all_columns() { folded.late.clone() } else { HashSet::new() };
        Added::behind(&folded.images, late, keep)
    }

    /// Why images that do not go together may be the same rows all the same.
    fn unreadable_images(&self, keep: &[bool], folded: &LooseFold) -> Option<String> {
        let kept = |column: &usize| keep.get(*column).copied().unwrap_or(false);
        let mixed: Vec<usize> = (0..keep.len()).filter(kept).filter(|column| self.losses(*column).len() > 1).collect();
        if !mixed.is_empty() {
            let names = self.table.names(&mixed).join(", ");
            return Some(format!("records whose {names} is expressed sometimes with less than at other times"));
        }
        let unknown = |column: &usize| kept(column) && self.maskings.get(*column) == Some(&Some(Masking::Unknown));
        let unknown: Vec<usize> = (0..keep.len()).filter(unknown).collect();
        if !unknown.is_empty() {
            let names = self.table.names(&unknown).join(", ");
            return Some(format!(
                "records whose {names} the connector may mask or truncate (column.mask, column.truncate)"
            ));
        }
        let left = folded.images.iter().filter(|(_, count)| **count != 0);
        let redefined = left.map(|(image, _)| image).any(|image| folded.redefined.contains_key(image));
        redefined.then(|| REDEFINED.to_owned())
    }

    /// Rows without a key are compared as wholes: a column in which one value has no expression cannot be part of them.
    fn leave_out_inexpressible(&mut self, keep: &mut [bool]) {
        let Ok(rows) = &self.table.rows else { return };
        let mut reasons: BTreeMap<usize, &'static str> = BTreeMap::new();
        for packed in rows.packed() {
            for (index, cell) in cells(packed).enumerate().filter(|(index, _)| keep.get(*index) == Some(&true)) {
                let (Some(text), Some(info)) = (cell.text(), self.table.columns.list.get(index)) else { continue };
                let why = inexpressible(text, self.reprs(index), &info.ty).or_else(|| null_instead(text, &info.ty));
                if let Some(why) = why {
                    reasons.entry(index).or_insert(why);
                }
            }
        }
        for (index, _) in keep.iter().enumerate().filter(|(_, kept)| **kept) {
            let opaque = self.reprs(index).iter().any(|repr| matches!(repr, Repr::Opaque(_)));
            if opaque || self.fold.not_understood.contains(&index) {
                reasons.insert(index, NOT_UNDERSTOOD);
            }
        }
        for (index, info) in
            self.table.columns.list.iter().enumerate().filter(|(index, _)| keep.get(*index) == Some(&true))
        {
            let Some(masking) = self.maskings.get(index).copied().flatten() else { continue };
            let values = rows.packed().filter_map(|packed| cells(packed).nth(index)?.text());
            if let Some(why) = left_out(masking, &info.ty, self.placeholder(), values) {
                reasons.insert(index, why);
            }
        }
        for (index, why) in reasons {
            keep[index] = false;
            self.not_comparable.insert((index, why), rows.len());
            let column = &self.table.columns.list[index];
            if why == NOT_UNDERSTOOD && column.ty.is_known() {
                self.undecided.push(Finding {
                    expected: Some(format!("values of {} in an expression that is understood", column.name)),
                    found: Some(format!("others, in {} that may be other ones", counted(rows.len(), "row"))),
                    ..self.about(FindingKind::NotComparable)
                });
            }
        }
    }

    /// A table's row as an image of the topic.
    fn image(&self, packed: &[u8], keep: &[bool]) -> Vec<u8> {
        let mut out = Vec::with_capacity(packed.len());
        for (index, cell) in cells(packed).enumerate() {
            let info = self.table.columns.list.get(index);
            match (cell.text(), info) {
                _ if !keep.get(index).copied().unwrap_or(false) => push(&mut out, Cell::Absent),
                (Some(text), Some(info)) if info.ty.needs_form() => {
                    let (loss, formed) = table_form(text, self.reprs(index), &info.ty);
                    push(
                        &mut out,
                        match loss {
                            Some(_) => {
                                Cell::Reserved(Reservations { loss, ..Reservations::default() }, formed.as_bytes())
                            }
                            None => Cell::Text(formed.as_bytes()),
                        },
                    );
                }
                _ => push(&mut out, cell),
            }
        }
        out
    }
}

/// Takes out the rows and images that are over by changes which may be other ones delivered again; how many.
fn delivered_again(either: &mut HashMap<Box<[u8]>, Range>, missing: &mut Vec<Vec<u8>>, left: &mut Images) -> i64 {
    let mut again = 0;
    for (image, count) in left.iter_mut() {
        let Some(range) = either.get_mut(image) else { continue };
        let open = (*count).clamp(-range.more, range.fewer);
        range.more += open.min(0);
        *count -= open;
        again += open.abs();
    }
    missing.retain(|image| match either.get_mut(image.as_slice()) {
        Some(range) if range.more > 0 => {
            range.more -= 1;
            again += 1;
            false
        }
        _ => true,
    });
    again
}
