//! PostgreSQL's types, as far as their texts differ in what they need.

use serde::{Deserialize, Serialize};

/// A column's type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgType {
    /// `format_type` of the declared type: `numeric(10,2)`.
    pub name: String,
    /// `typname` of the type, of a domain's base type.
    pub base: String,
    /// What its text is.
    pub kind: Kind,
    /// The type modifier, of a domain's base type where the column has none; -1 for none.
    pub typmod: i32,
}

/// The families of types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`, `integer`, `bigint`, `oid`.
    Int,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `money`.
    Money,
    /// Everything that Debezium carries as PostgreSQL's own text: characters, uuid, json, network addresses, ranges,
    /// enums, `citext`, `ltree`, `isbn`, `tsvector`, `xml`.
    Text,
    /// `bytea`.
    Bytea,
    /// `bit` and `bit varying`.
    Bit,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timetz`.
    TimeTz,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `interval`.
    Interval,
    /// `hstore`.
    Hstore,
    /// `point`.
    Point,
    /// `line`, `lseg`, `box`, `path`, `polygon`, `circle`: numbers in brackets.
    Geometric,
    /// `vector` and `halfvec`.
    Vector,
    /// An array.
    Array(Box<PgType>),
    /// A type that Debezium does not know: left out, or, with `include.unknown.datatypes`, its text as bytes.
    Unknown,
}

impl PgType {
    /// Classifies a type by its (base) `typname`, `typtype` and `typcategory`; `element` is an array's element.
    pub fn new(display: &str, base: &str, typtype: &str, typmod: i32, element: Option<PgType>) -> PgType {
        let kind = match (element, base) {
            (Some(element), _) => Kind::Array(Box::new(element)),
            (None, "bool") => Kind::Bool,
            (None, "int2" | "int4" | "int8" | "oid") => Kind::Int,
            (None, "float4") => Kind::Float4,
            (None, "float8") => Kind::Float8,
            (None, "numeric") => Kind::Numeric,
            (None, "money") => Kind::Money,
            (None, "bytea") => Kind::Bytea,
            (None, "bit" | "varbit") => Kind::Bit,
            (None, "date") => Kind::Date,
            (None, "time") => Kind::Time,
            (None, "timetz") => Kind::TimeTz,
            (None, "timestamp") => Kind::Timestamp,
            (None, "timestamptz") => Kind::TimestampTz,
            (None, "interval") => Kind::Interval,
            (None, "hstore") => Kind::Hstore,
            (None, "point") => Kind::Point,
            (None, "line" | "lseg" | "box" | "path" | "polygon" | "circle") => Kind::Geometric,
            (None, "vector" | "halfvec") => Kind::Vector,
            (
                None,
                "bpchar" | "varchar" | "text" | "char" | "name" | "uuid" | "json" | "jsonb" | "xml" | "inet" | "cidr"
                | "macaddr" | "macaddr8" | "tsvector" | "citext" | "ltree" | "isbn" | "int4range" | "int8range"
                | "numrange" | "daterange" | "tsrange" | "tstzrange",
            ) => Kind::Text,
            _ if typtype == "e" => Kind::Text,
            _ => Kind::Unknown,
        };
        PgType { name: display.to_owned(), base: base.to_owned(), kind, typmod }
    }

    /// Whether the connector knows the type, and so whether each of its expressions is understood here.
    pub fn is_known(&self) -> bool {
        match &self.kind {
            Kind::Unknown => false,
            Kind::Array(element) => element.is_known(),
            _ => true,
        }
    }

    /// Whether it is one of PostgreSQL's own types whose text is read as it is, also as an array's element.
    pub(crate) fn is_builtin_text(&self) -> bool {
        let base = self.base.as_str();
        matches!(
            base,
            "text"
                | "varchar"
                | "bpchar"
                | "char"
                | "uuid"
                | "json"
                | "jsonb"
                | "xml"
                | "inet"
                | "cidr"
                | "macaddr"
                | "macaddr8"
        )
    }

    /// Whether the driver calls it a character type (JDBC's CHAR and VARCHAR), as it does enums: the types whose values a
    /// connector masks.
    pub(crate) fn is_character(&self) -> bool {
        let other = matches!(
            self.base.as_str(),
            "uuid"
                | "json"
                | "jsonb"
                | "xml"
                | "inet"
                | "cidr"
                | "macaddr"
                | "macaddr8"
                | "tsvector"
                | "citext"
                | "ltree"
                | "isbn"
        );
        self.kind == Kind::Text && !other && !self.base.ends_with("range")
    }

    /// Whether bit strings of several lengths may stand in the column.
    pub(crate) fn is_varying(&self) -> bool {
        self.kind == Kind::Bit && (self.base == "varbit" || self.typmod < 0)
    }

    /// Fractional digits of a time type: its modifier, or six.
    pub(crate) fn time_digits(&self) -> u32 {
        if (0..=6).contains(&self.typmod) { self.typmod as u32 } else { 6 }
    }

    /// The scale with which the connector expresses a numeric. The modifier is ((precision << 16) | scale) + 4, the scale in eleven
    /// bits with sign; the connector's driver reads it without one (`TypeInfoCache.getScale`), so that -2 is 2046.
    pub(crate) fn numeric_scale(&self) -> Option<i32> {
        (self.typmod >= 4).then(|| (self.typmod - 4) & 0xffff)
    }

    /// Whether equal values may have different texts, so that they are brought to one form first.
    pub(crate) fn needs_form(&self) -> bool {
        match &self.kind {
            Kind::Float4
            | Kind::Float8
            | Kind::Numeric
            | Kind::Money
            | Kind::Bit
            | Kind::Time
            | Kind::TimeTz
            | Kind::Timestamp
            | Kind::Interval
            | Kind::Point
            | Kind::Geometric
            | Kind::Vector => true,
            Kind::Array(element) => element.needs_form(),
            _ => false,
        }
    }

    /// The longest text, in bytes, that PostgreSQL never stores out of line: 24 bytes with their header stay in the row,
    /// whatever the table's settings. Zero where the text does not tell how many bytes are stored.
    pub(crate) fn inline_max(&self) -> u8 {
        const BYTES: u8 = 20;
        let name = self.name.as_str();
        match &self.kind {
            Kind::Bytea => 2 + 2 * BYTES,
            Kind::Text if matches!(name, "text" | "json" | "xml" | "citext") || name.starts_with("character") => BYTES,
            _ => 0,
        }
    }
}

impl Kind {
    /// Whether values may be stored out of line: those of fixed length never are.
    pub(crate) fn can_be_toasted(&self) -> bool {
        !matches!(
            self,
            Kind::Bool
                | Kind::Int
                | Kind::Float4
                | Kind::Float8
                | Kind::Money
                | Kind::Date
                | Kind::Time
                | Kind::TimeTz
                | Kind::Timestamp
                | Kind::TimestampTz
                | Kind::Interval
                | Kind::Point
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_modifier_has_precision_and_scale() {
        let of = |typmod| PgType::new("numeric", "numeric", "b", typmod, None).numeric_scale();
        assert_eq!(of(((10 << 16) | 2) + 4), Some(2));
        assert_eq!(of(((5 << 16) | 0x7fe) + 4), Some(2046), "declared with scale -2");
        assert_eq!(of(-1), None);
    }
    fn plain(name: &str) -> PgType {
        PgType::new(name, name, "b", -1, None)
    }

    #[test]
    fn an_array_is_known_if_its_elements_are() {
        let array_of = |name: &str| PgType::new(&format!("{name}[]"), &format!("_{name}"), "b", -1, Some(plain(name)));
        assert!(plain("text").is_known() && array_of("text").is_known());
        assert!(!plain("geometry").is_known() && !array_of("geometry").is_known());
    }

    /// A `bytea` of 20 bytes is printed as `\x` and 40 digits.
    #[test]
    fn twenty_bytes_are_never_stored_out_of_line() {
        assert_eq!(plain("bytea").inline_max(), "\\x".len() as u8 + 40);
        assert_eq!(plain("text").inline_max(), 20);
        assert_eq!(PgType::new("character varying(90)", "varchar", "b", 94, None).inline_max(), 20);
        assert_eq!(plain("jsonb").inline_max(), 0, "stored in a form of its own");
    }
}
