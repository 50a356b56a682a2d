//! Rows without a key beside records that were written before columns were added.

use std::collections::HashSet;

use crate::{
    decode::row::{Cell, cells, push},
    fold::Images,
};

/// The columns that records lack because they were written before the columns were added.
///
/// What such a record leaves open, the table's row may have: NULL, or the default of the new column. It stands for one row
/// that is equal otherwise. Each row takes a record that has as many columns as possible. As the columns that records lack
/// are those that a later record lacks and more, a row or a record is left over only where there is none for it.
pub(super) struct Added {
    /// The sets of columns that records lack, the smallest first.
    levels: Vec<Vec<usize>>,
    /// Images that lack a column for another reason.
    late: HashSet<Box<[u8]>>,
}

/// A record's image that a row took.
pub(super) struct Taken<'a> {
    /// The columns that it lacks.
    pub absent: &'a [usize],
    /// The image.
    pub image: Vec<u8>,
}

impl Added {
    /// The columns of these that some of the images lack. `late` images stand behind records that have them.
    pub(super) fn behind(images: &Images, late: HashSet<Box<[u8]>>, keep: &[bool]) -> Added {
        let lacks = |image: &[u8]| -> Vec<usize> {
            let absent = cells(image).enumerate().filter(|(_, cell)| *cell == Cell::Absent).map(|(index, _)| index);
            absent.filter(|index| keep.get(*index) == Some(&true)).collect()
        };
        let there = images.iter().filter(|(image, count)| **count > 0 && !late.contains(*image));
        let mut levels: Vec<Vec<usize>> = there.map(|(image, _)| lacks(image)).filter(|a| !a.is_empty()).collect();
        levels.sort_by_key(|absent| (absent.len(), absent.clone()));
        levels.dedup();
        Added { levels, late }
    }

    /// Whether records lack the columns that later records lack, and more. Where they do not, rows may have taken the wrong
    /// records.
    pub(super) fn is_nested(&self) -> bool {
        self.levels.windows(2).all(|pair| pair[0].iter().all(|column| pair[1].contains(column)))
    }

    /// Takes a record for an image that no record has as it is.
    pub(super) fn take(&self, image: &[u8], left: &mut Images) -> Option<Taken<'_>> {
        self.levels.iter().find_map(|absent| {
            let image = without(image, absent);
            let count = left.get_mut(image.as_slice()).filter(|count| **count > 0)?;
            if self.late.contains(image.as_slice()) {
                return None;
            }
            *count -= 1;
            Some(Taken { absent, image })
        })
    }

    /// Takes records for the deletes and updates whose rows before have more columns than the records of those rows.
    pub(super) fn take_away(&self, left: &mut Images) {
        if self.levels.is_empty() {
            return;
        }
        let never: Vec<Box<[u8]>> = left.iter().filter(|(_, count)| **count < 0).map(|(i, _)| i.clone()).collect();
        for image in never {
            while left.get(&image).is_some_and(|count| *count < 0) && self.take(&image, left).is_some() {
                left.entry(image.clone()).and_modify(|count| *count += 1);
            }
        }
    }

    /// Takes out the images that are left and lack columns with which the table has these rows; how many.
    pub(super) fn read_again(&self, rows: impl Iterator<Item = Vec<u8>>, left: &mut Images) -> i64 {
        if self.levels.is_empty() {
            return 0;
        }
        let there: HashSet<Vec<u8>> =
            rows.flat_map(|row| self.levels.iter().map(move |absent| without(&row, absent))).collect();
        let again =
            left.extract_if(|image, count| *count > 0 && there.contains(&**image) && !self.late.contains(image));
        again.map(|(_, count)| count).sum()
    }
}

/// An image without these columns.
fn without(image: &[u8], absent: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.len());
    for (index, cell) in cells(image).enumerate() {
        push(&mut out, if absent.contains(&index) { Cell::Absent } else { cell });
    }
    out
}
