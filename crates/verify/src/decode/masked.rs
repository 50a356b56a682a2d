//! Values that a connector masks or truncates on their way.

use super::{compare::Match, pg_type::PgType, row::Cell};
use cdc_pipeline::debezium::Masking;

/// Why a masked value cannot be compared.
const MASKED: &str = "the connector masks them (column.mask)";

/// Why a truncated value cannot be compared.
const TRUNCATED: &str = "the connector truncates them (column.truncate)";

/// Why it cannot be compared where the beginnings are the same.
const BEGINNING: &str = "the connector truncates them (column.truncate), and their beginnings are equal";

/// Why a value may be the table's although it is another.
const UNKNOWN: &str = "the connector may mask or truncate them (column.mask, column.truncate)";

/// Whether the connector changes values of a column of this type.
pub fn applies(masking: Masking, ty: &PgType) -> bool {
    masking != Masking::Replaced || ty.is_character()
}

/// What is known of a value of the table and one of an event, which were found to go together in this way, where the connector
/// changes the column's values.
pub fn masked(
    masking: Masking,
    found: Match,
    table: Cell<'_>,
    event: Cell<'_>,
    ty: &PgType,
    placeholder: &[u8],
) -> Match {
    match (masking, found) {
        (_, Match::Equal | Match::Absent | Match::Within(_)) => found,
        (Masking::Replaced, _) => Match::NotComparable(MASKED),
        (Masking::Unknown, _) => Match::Undecided(UNKNOWN),
        // Another value may be made of another text than the table prints.
        (Masking::Truncated(_), _) if !ty.is_character() => Match::NotComparable(TRUNCATED),
        (Masking::Truncated(length), _) => match (table.text(), event.text()) {
            (Some(_), Some(event)) if cuts(length, placeholder) && is_beginning(placeholder, event, length) => {
                Match::NotComparable(TRUNCATED)
            }
            (Some(table), Some(event)) if units(table) > length => truncated(table, event, length),
            _ => found,
        },
    }
}

/// Why a column is no part of a row without a key, given its values in the table.
pub fn left_out<'t>(
    masking: Masking,
    ty: &PgType,
    placeholder: &[u8],
    mut values: impl Iterator<Item = &'t str>,
) -> Option<&'static str> {
    match masking {
        Masking::Replaced => Some(MASKED),
        // It may be the table's all the same, which shows in whether rows are equal.
        Masking::Unknown => None,
        Masking::Truncated(length) => {
            let all = ty.is_character() && !cuts(length, placeholder) && values.all(|value| units(value) <= length);
            (!all).then_some(TRUNCATED)
        }
    }
}

/// Java counts and cuts texts in these.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn truncated(table: &str, event: &str, length: usize) -> Match {
    let beginning: Vec<u16> = table.encode_utf16().take(length).collect();
    match String::from_utf16(&beginning) {
        Ok(beginning) if beginning == event => Match::NotComparable(BEGINNING),
        Ok(_) => Match::Different,
        // Cut within a character, of which one half has no text.
        Err(_) => Match::NotComparable(TRUNCATED),
    }
}

/// Whether truncation cuts the placeholder of unchanged values, so that it is none any more.
fn cuts(length: usize, placeholder: &[u8]) -> bool {
    units(&String::from_utf8_lossy(placeholder)) > length
}

fn is_beginning(placeholder: &[u8], event: &str, length: usize) -> bool {
    let cut: Vec<u16> = String::from_utf8_lossy(placeholder).encode_utf16().take(length).collect();
    event.encode_utf16().eq(cut)
}
