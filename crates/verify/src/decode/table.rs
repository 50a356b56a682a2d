//! The columns of a captured table, and how its fields are expressed where records carry no schema.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    names::field_name,
    pg_type::{Kind, PgType},
    repr::{Binary, Raw, Repr},
    settings::{Adjust, ConnectorSettings, DecimalMode, TimeMode},
};

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub(crate) fn may_be_newer(&self, tx: Option<u64>) -> bool {
        match tx {
            Some(tx) => self.xid >= FIRST_NORMAL_XID && ((tx as u32).wrapping_sub(self.xid) as i32) < 0,
            None => !self.original,
        }
    }
}

/// The columns of a table, found by the names of fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Columns {
    /// In the table's order.
    pub list: Vec<Column>,
    definitions: Vec<Definition>,
    /// For each field name the columns that it may stand for.
    #[serde(serialize_with = "sorted")]
    by_field: HashMap<String, Vec<usize>>,
}

/// In the order of the names, so that equal columns are equal texts.
fn sorted<S: Serializer>(by_field: &HashMap<String, Vec<usize>>, serializer: S) -> Result<S::Ok, S::Error> {
    by_field.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
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
        Columns { list, definitions: Vec::new(), by_field }
    }

    /// With what is known of their definitions, in the same order; without, they count as never changed.
    #[must_use]
    pub(crate) fn defined(self, definitions: Vec<Definition>) -> Columns {
        Columns { definitions, ..self }
    }

    /// What is known of a column's definition.
    pub(crate) fn definition(&self, column: usize) -> Option<&Definition> {
        self.definitions.get(column)
    }

    /// The column of a field; none where it is no column's, or may be one of several.
    pub(crate) fn of_field(&self, field: &str) -> Option<usize> {
        match self.by_field.get(field).map(Vec::as_slice) {
            Some([column]) => Some(*column),
            _ => None,
        }
    }

    /// The names of the columns that share a field's name, where several do.
    pub(crate) fn sharing(&self, field: &str) -> Vec<&str> {
        match self.by_field.get(field) {
            Some(columns) if columns.len() > 1 => {
                columns.iter().filter_map(|c| self.list.get(*c)).map(|c| c.name.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The column of a name.
    pub(crate) fn of_name(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|c| c.name == name)
    }
}

/// How a column is expressed by the connector's settings, where records do not say.
pub(crate) fn expected_repr(ty: &PgType, settings: &ConnectorSettings) -> Repr {
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
pub(crate) fn bare_repr(
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
