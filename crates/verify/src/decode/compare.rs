//! Whether a value of a table and the one that a record has for it are the same.

use super::{
    limits::{instead, null_instead},
    pg_type::{Kind, PgType},
    repr::{Loss, Repr, Side, canonical, cut},
    row::{Cell, Reservations},
};
use crate::text::{array, time};

/// How a value of the table and one of the topic go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// They are the same.
    Equal,
    /// They are the same as far as the record's expression goes, which has no room for all of the value.
    Within(Loss),
    /// The event has no such column.
    Absent,
    /// The connector cannot express the value, or this tool cannot read its expression.
    NotComparable(&'static str),
    /// The record may mean the table's value, and may mean another: nothing says which.
    Undecided(&'static str),
    /// They are different.
    Different,
}

/// Why a value cannot be compared whose expression this tool does not know.
pub(crate) const NOT_UNDERSTOOD: &str = "its expression in the records is not understood";

/// Why a record without a schema may be read in two ways.
const REDEFINED: &str = "records without a schema, written before the column was last redefined (or naming no transaction), \
                         are the table's values only if read with one of several scales or units";

/// Why a value that looks like a placeholder may be read in two ways.
const LITERAL: &str = "the table's value is the text of unavailable.value.placeholder, by which the record may also mean the value \
                       that the key had before";

/// Compares a cell of a table's row, as PostgreSQL wrote it, with a cell of an event. `reprs` are the ways in which the column
/// has been expressed in the topic, `placeholder` is the connector's for unchanged values.
pub fn compare(table: Cell<'_>, event: Cell<'_>, reprs: &[Repr], ty: &PgType, placeholder: &[u8]) -> Match {
    if table == event {
        return Match::Equal;
    }
    match event {
        Cell::Absent => return Match::Absent,
        // Of a type whose expressions are known it may be that of another setting, and of a value that is long gone.
        Cell::Opaque if ty.is_known() => return Match::Undecided(NOT_UNDERSTOOD),
        Cell::Opaque => return Match::NotComparable(NOT_UNDERSTOOD),
        _ => {}
    }
    let Cell::Text(bytes) = table else { return Match::Different };
    let Ok(text) = std::str::from_utf8(bytes) else { return Match::Different };
    let full = canonical(text, Side::Table, ty);
    match event {
        Cell::Null => unlike(text, None, reprs, ty),
        Cell::Text(other) if full.as_bytes() == other => Match::Equal,
        // Without an earlier value, it can only be a value that looks like the placeholder.
        Cell::Unavailable(held) if full.as_bytes() == held.literal => Match::Equal,
        Cell::Reserved(reservations, other) => match std::str::from_utf8(other) {
            Ok(other) => match with_reservations(text, &full, reservations, other, ty, placeholder) {
                Match::Different => unlike(text, Some(other), reprs, ty),
                other => other,
            },
            Err(_) => Match::Different,
        },
        Cell::Text(other) => unlike(text, std::str::from_utf8(other).ok(), reprs, ty),
        _ => Match::Different,
    }
}

fn with_reservations(
    text: &str,
    full: &str,
    reservations: Reservations,
    other: &str,
    ty: &PgType,
    placeholder: &[u8],
) -> Match {
    let equal = match reservations.loss {
        Some(loss) => cut(full, loss, ty) == other,
        None => full == other,
    };
    if reservations.redefined {
        return redefined(full, other, equal, ty);
    }
    match reservations.loss {
        // What cannot be told from it is midnight alone.
        Some(Loss::Midnight) if equal && !matches!(full, "00:00:00" | "24:00:00") => Match::Equal,
        Some(loss) if equal => Match::Within(loss),
        None if equal => Match::Equal,
        _ if reservations.restored && looks_like(text, placeholder) => Match::Undecided(LITERAL),
        _ => Match::Different,
    }
}

/// What the same bytes mean under any definition of the column: if all say the same, that is known.
fn redefined(table: &str, event: &str, equal: bool, ty: &PgType) -> Match {
    if equal && certain(event, ty) {
        return Match::Equal;
    }
    let mixed = match &ty.kind {
        Kind::Numeric | Kind::Money => significant(table) == significant(event),
        Kind::Time => thousandfold(time::time_micros(table), time::time_micros(event)),
        Kind::Timestamp => thousandfold(time::timestamp_micros(table), time::timestamp_micros(event)),
        Kind::Array(_) => {
            let length = |text: &str| array::elements(text).map(|elements| elements.len());
            length(table) == length(event)
        }
        _ => equal,
    };
    if mixed { Match::Undecided(REDEFINED) } else { Match::Different }
}

/// Whether a record's text that equals the table's value is that value, although the column may have had another definition.
pub fn certain(event: &str, ty: &PgType) -> bool {
    match &ty.kind {
        // Zero has no scale.
        Kind::Numeric | Kind::Money => significant(event).1.is_empty(),
        // A value and its thousandth hardly ever stand for each other, so equality in the column's unit is taken as such.
        Kind::Time | Kind::Timestamp => true,
        _ => false,
    }
}

fn thousandfold(table: Option<i128>, event: Option<i128>) -> bool {
    matches!((table, event), (Some(table), Some(event)) if table == event * 1000 || table * 1000 == event)
}

/// The sign and the digits of a plain number without the zeros at both ends: what does not depend on its scale.
fn significant(text: &str) -> (bool, String) {
    let digits: String = text.chars().filter(|c| *c != '.' && *c != '-').collect();
    (text.starts_with('-'), digits.trim_matches('0').to_owned())
}

/// Whether a text of the table is what a placeholder would read as.
fn looks_like(text: &str, placeholder: &[u8]) -> bool {
    let hex = || placeholder.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let only = || match array::elements(text)?.as_slice() {
        [Some(only)] => Some(only.as_bytes() == placeholder),
        _ => None,
    };
    text.as_bytes() == placeholder || text.strip_prefix("\\x").is_some_and(|rest| rest == hex()) || only() == Some(true)
}

/// Whether a difference lies in the connector's expression and not in the data. What may not be NULL is empty instead.
fn unlike(text: &str, event: Option<&str>, reprs: &[Repr], ty: &PgType) -> Match {
    let null = || null_instead(text, ty).filter(|_| event.is_none_or(str::is_empty));
    instead(text, event, reprs, ty).or_else(null).map_or(Match::Different, Match::NotComparable)
}
