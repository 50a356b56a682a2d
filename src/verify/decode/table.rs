//! The columns of a captured table, and how its fields are expressed where records carry no schema.

use std::collections::HashMap;

use super::{
    pg_type::{Kind, PgType},
    repr::{Binary, Raw, Repr},
    settings::{Adjust, ConnectorSettings, DecimalMode, TimeMode, field_name},
};

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the table.
    pub name: String,
    /// Its type.
    pub ty: PgType,
    /// Whether it is generated: it comes with snapshots and not with streamed changes.
    pub generated: bool,
    /// Whether the publication leaves it out.
    pub unpublished: bool,
}

/// What the catalogue knows of how long a column has been defined as it is. A record without a schema does not say
/// under which definition it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The low half of the id of the transaction that last changed the column's row in the catalogue: its type, its
    /// name, its default or anything else of it.
    pub xid: u32,
    /// Whether that is the transaction that made the table.
    pub original: bool,
    /// Whether the table's file was written anew after the table was made, as by a change of a type that changes values.
    pub rewritten: bool,
}

/// Transaction ids below are not of transactions: of rows that were there from the beginning, for instance.
const FIRST_NORMAL_XID: u32 = 3;

impl Definition {
    /// Whether a record of this transaction, or one that names none, may have been written under an earlier definition.
    pub fn may_be_newer(&self, tx: Option<u64>) -> bool {
        match tx {
            Some(tx) => self.xid >= FIRST_NORMAL_XID && ((tx as u32).wrapping_sub(self.xid) as i32) < 0,
            None => !self.original,
        }
    }
}

/// The columns of a table, found by the names of fields.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// In the table's order.
    pub list: Vec<Column>,
    definitions: Vec<Definition>,
    by_field: HashMap<String, usize>,
}

impl Columns {
    /// Maps fields to columns under the connector's way of adjusting names.
    pub fn new(list: Vec<Column>, adjust: Adjust) -> Columns {
        let mut by_field = HashMap::new();
        for (index, column) in list.iter().enumerate() {
            by_field.entry(field_name(adjust, &column.name)).or_insert(index);
        }
        // Converters adjust what the connector did not; the exact adjustments above go first.
        for (index, column) in list.iter().enumerate() {
            for other in [Adjust::None, Adjust::Avro] {
                by_field.entry(field_name(other, &column.name)).or_insert(index);
            }
            by_field.entry(field_name(adjust, &column.name).replace("_u005f", "_")).or_insert(index);
        }
        Columns { list, definitions: Vec::new(), by_field }
    }

    /// With what is known of their definitions, in the same order; without, they count as never changed.
    #[must_use]
    pub fn defined(self, definitions: Vec<Definition>) -> Columns {
        Columns { definitions, ..self }
    }

    /// What is known of a column's definition.
    pub fn definition(&self, column: usize) -> Option<&Definition> {
        self.definitions.get(column)
    }

    /// The column of a field.
    pub fn of_field(&self, field: &str) -> Option<usize> {
        self.by_field.get(field).copied()
    }

    /// The column of a name.
    pub fn of_name(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|c| c.name == name)
    }
}

/// How a column is expressed by the connector's settings, where records do not say.
pub fn expected_repr(ty: &PgType, settings: &ConnectorSettings) -> Repr {
    match &ty.kind {
        Kind::Bool | Kind::Int | Kind::Text | Kind::Hstore => Repr::Plain,
        Kind::Float4 | Kind::Float8 => Repr::Double,
        Kind::Numeric | Kind::Money => match (settings.decimal, ty.numeric_scale()) {
            (DecimalMode::Text, _) => Repr::Plain,
            (DecimalMode::Double, _) => Repr::Double,
            (DecimalMode::Precise, _) if ty.kind == Kind::Money => Repr::Decimal(settings.money_digits),
            (DecimalMode::Precise, Some(scale)) => Repr::Decimal(scale),
            (DecimalMode::Precise, None) => Repr::VariableDecimal,
        },
        Kind::Bytea | Kind::Unknown | Kind::Geometric if settings.binary == Binary::Bytes => Repr::Bytes,
        Kind::Bytea | Kind::Unknown | Kind::Geometric => Repr::Plain,
        Kind::Bit if ty.typmod == 1 => Repr::Plain,
        Kind::Bit => Repr::Bits,
        Kind::Date if settings.time == TimeMode::Iso => Repr::IsoDate,
        Kind::Date => Repr::Date,
        Kind::Time => time_repr(settings.time, ty.time_digits()),
        Kind::Timestamp => timestamp_repr(settings.time, ty.time_digits()),
        Kind::TimeTz => Repr::ZonedTime,
        Kind::TimestampTz => Repr::ZonedTimestamp,
        Kind::Interval if settings.interval_text => Repr::IsoInterval,
        Kind::Interval => Repr::MicroDuration,
        Kind::Point => Repr::Point,
        Kind::Vector => Repr::Vector,
        Kind::Array(element) => Repr::Array(Box::new(expected_repr(element, settings))),
    }
}

/// How a value without a schema is expressed, where its own shape says more than the column's type of today, and whether
/// the bytes may mean another value under a definition that the column had before.
pub fn bare_repr(
    expected: &Repr,
    raw: &Raw<'_>,
    ty: &PgType,
    definition: Option<&Definition>,
    tx: Option<u64>,
) -> (Repr, bool) {
    let newer = definition.filter(|definition| definition.may_be_newer(tx));
    let rewritten = newer.is_some_and(|definition| definition.rewritten);
    match (&ty.kind, expected, raw) {
        (Kind::Numeric, _, Raw::Struct(_)) => (Repr::VariableDecimal, false),
        (Kind::Numeric, _, Raw::Double(_)) => (Repr::Double, false),
        // Of a column that had a scale.
        (Kind::Numeric, Repr::VariableDecimal, Raw::Str(_)) => (Repr::Decimal(0), true),
        // A scale does not change without the table's file being written anew.
        (Kind::Numeric | Kind::Money, Repr::Decimal(_), Raw::Str(_)) => (expected.clone(), rewritten),
        // Digits are added without that, and taken away with it.
        (Kind::Time, Repr::TimeMicros, _) | (Kind::Timestamp, Repr::TimestampMicros, _) => {
            (expected.clone(), newer.is_some())
        }
        (Kind::Time, Repr::TimeMillis, _) | (Kind::Timestamp, Repr::TimestampMillis, _) => {
            (expected.clone(), rewritten)
        }
        (Kind::Array(element), Repr::Array(inner), Raw::Array(values)) => {
            let of = |value| bare_repr(inner, value, element, definition, tx);
            match values.iter().find(|value| !matches!(value, Raw::Null)).map(of) {
                Some((repr, redefined)) => (Repr::Array(Box::new(repr)), redefined),
                None => (expected.clone(), false),
            }
        }
        _ => (expected.clone(), false),
    }
}

fn time_repr(mode: TimeMode, digits: u32) -> Repr {
    match mode {
        TimeMode::Adaptive if digits <= 3 => Repr::TimeMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveMicros | TimeMode::Micros => Repr::TimeMicros,
        TimeMode::Connect => Repr::ConnectTime,
        TimeMode::Iso => Repr::IsoTime,
        TimeMode::Nanos => Repr::TimeNanos,
    }
}

fn timestamp_repr(mode: TimeMode, digits: u32) -> Repr {
    match mode {
        TimeMode::Adaptive | TimeMode::AdaptiveMicros if digits <= 3 => Repr::TimestampMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveMicros | TimeMode::Micros => Repr::TimestampMicros,
        TimeMode::Connect => Repr::ConnectTimestamp,
        TimeMode::Iso => Repr::IsoTimestamp,
        TimeMode::Nanos => Repr::TimestampNanos,
    }
}
