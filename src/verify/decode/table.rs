//! The columns of a captured table, and how its fields are expressed where records carry no schema.

use std::collections::HashMap;

use super::{
    pg_type::{Kind, PgType},
    repr::{Binary, Repr},
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

/// The columns of a table, found by the names of fields.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// In the table's order.
    pub list: Vec<Column>,
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
        Columns { list, by_field }
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

fn time_repr(mode: TimeMode, digits: u32) -> Repr {
    match mode {
        TimeMode::Adaptive if digits <= 3 => Repr::TimeMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveMicros | TimeMode::Micros => Repr::TimeMicros,
        TimeMode::Connect => Repr::TimeMillis,
        TimeMode::Iso => Repr::IsoTime,
        TimeMode::Nanos => Repr::TimeNanos,
    }
}

fn timestamp_repr(mode: TimeMode, digits: u32) -> Repr {
    match mode {
        TimeMode::Adaptive | TimeMode::AdaptiveMicros if digits <= 3 => Repr::TimestampMillis,
        TimeMode::Adaptive | TimeMode::AdaptiveMicros | TimeMode::Micros => Repr::TimestampMicros,
        TimeMode::Connect => Repr::TimestampMillis,
        TimeMode::Iso => Repr::IsoTimestamp,
        TimeMode::Nanos => Repr::TimestampNanos,
    }
}
