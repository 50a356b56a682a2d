//! The columns of a captured table, and how its fields are expressed where records carry no schema.

use std::collections::HashMap;

use super::{
    names::field_name,
    pg_type::{Kind, PgType},
    repr::{Binary, Repr},
    settings::{Adjust, ConnectorSettings, DecimalMode, TimeMode},
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
    /// For each field name the columns that it may stand for.
    by_field: HashMap<String, Vec<usize>>,
}

impl Columns {
    /// Maps fields to columns under the connector's way of adjusting names.
    pub fn new(list: Vec<Column>, adjust: Adjust) -> Columns {
        let by = |name: &dyn Fn(&str) -> String| {
            let mut columns: HashMap<String, Vec<usize>> = HashMap::new();
            for (index, column) in list.iter().enumerate() {
                columns.entry(name(&column.name)).or_default().push(index);
            }
            columns
        };
        // A converter may have adjusted what the connector did not, and an earlier configuration something else.
        let others: [&dyn Fn(&str) -> String; 3] =
            [&|name| name.to_owned(), &|name| field_name(Adjust::Avro, name), &|name| {
                field_name(adjust, name).replace("_u005f", "_")
            }];
        let mut by_field = by(&|name| field_name(adjust, name));
        for other in others {
            for (field, columns) in by(other) {
                by_field.entry(field).or_insert(columns);
            }
        }
        Columns { list, by_field }
    }

    /// The column of a field; none where it is no column's, or may be one of several.
    pub fn of_field(&self, field: &str) -> Option<usize> {
        match self.by_field.get(field).map(Vec::as_slice) {
            Some([column]) => Some(*column),
            _ => None,
        }
    }

    /// The names of the columns that share a field's name, where several do.
    pub fn sharing(&self, field: &str) -> Vec<&str> {
        match self.by_field.get(field) {
            Some(columns) if columns.len() > 1 => {
                columns.iter().filter_map(|c| self.list.get(*c)).map(|c| c.name.as_str()).collect()
            }
            _ => Vec::new(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], adjust: Adjust) -> Columns {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            ty: PgType::new("text", "text", "b", -1, None),
            generated: false,
            unpublished: false,
        };
        Columns::new(names.iter().map(column).collect(), adjust)
    }

    #[test]
    fn a_field_is_of_the_column_whose_name_is_adjusted_to_it() {
        let list = ["id", "x😀", "größe", "a_b"];
        let avro = columns(&list, Adjust::Avro);
        assert_eq!(["id", "x__", "gr__e", "a_b"].map(|f| avro.of_field(f)), [Some(0), Some(1), Some(2), Some(3)]);
        let unicode = columns(&list, Adjust::AvroUnicode);
        let fields = ["id", "x_ud83d_ude00", "gr_u00f6_u00dfe", "a_u005fb"];
        assert_eq!(fields.map(|f| unicode.of_field(f)), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(unicode.of_field("a_b"), Some(3), "as another configuration wrote it");
        assert_eq!(avro.of_field("y"), None);
    }

    #[test]
    fn a_field_of_several_columns_is_of_none() {
        let columns = columns(&["x-", "x+", "y-", "y_"], Adjust::Avro);
        assert_eq!((columns.of_field("x_"), columns.sharing("x_")), (None, vec!["x-", "x+"]));
        assert_eq!((columns.of_field("y_"), columns.sharing("y_")), (None, vec!["y-", "y_"]));
        assert_eq!((columns.of_field("x-"), columns.sharing("x-")), (Some(0), vec![]));
    }

    #[test]
    fn unadjusted_names_go_before_those_that_a_converter_may_have_adjusted() {
        let columns = columns(&["y-", "y_"], Adjust::None);
        assert_eq!((columns.of_field("y_"), columns.of_field("y-")), (Some(1), Some(0)));
    }
}
