//! Identifiers, each its own type so that they cannot be mixed up.

use std::fmt;

use super::quoted;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// Takes any text; the system that issued the identifier decides what is valid.
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_id!(
    /// One invocation of `run`: `YYYYMMDDThhmmssZ-xxxx`; also the name of its report folder.
    RunId
);
text_id!(
    /// One drill within a run: `<scenario>/<variant>`, with `+<control>` appended for a control.
    DrillId
);
text_id!(
    /// One recovery point: `YYYYMMDDThhmmssZ-xxxx`, sortable by begin.
    PointId
);
text_id!(
    /// A logical replication slot.
    SlotName
);
text_id!(
    /// A subject of the schema registry.
    Subject
);

/// A schema id as it stands in a record: four bytes, big-endian, after the magic byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SchemaId(pub u32);

/// A version number within one subject; gaps are normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SubjectVersion(pub u32);

/// A Kafka record offset within one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// A stretch of the pipeline's life between two recoveries. The workload's first load is epoch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SubjectVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A table, by schema and name, unquoted. Written `schema.name`, as Debezium's `table.include.list` and topic names do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema (`public`).
    pub schema: String,
    /// The table.
    pub name: String,
}

/// Text that does not name a table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a table name (expected schema.table)")]
pub struct NameError(pub String);

impl TableName {
    /// Names a table by its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        TableName { schema: schema.into(), name: name.into() }
    }

    /// The name quoted for SQL: `"schema"."name"`.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema, '"'), quoted(&self.name, '"'))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// `schema.table`, divided at the first dot, or `"schema".table`, where the schema may have any characters and a quote in it is
/// doubled.
impl std::str::FromStr for TableName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        match quoted_schema(s).or_else(|| s.split_once('.').map(|(schema, name)| (schema.to_owned(), name))) {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() => Ok(TableName::new(schema, name)),
            _ => Err(NameError(s.to_owned())),
        }
    }
}

/// The schema and the table of `"schema".table`.
fn quoted_schema(s: &str) -> Option<(String, &str)> {
    let (mut schema, mut rest) = (String::new(), s.strip_prefix('"')?);
    loop {
        let (part, behind) = rest.split_once('"')?;
        schema.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                schema.push('"');
                rest = more;
            }
            None => return Some((schema, behind.strip_prefix('.')?)),
        }
    }
}

/// The schema is quoted only where the text would not be read back as this name otherwise.
impl serde::Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.schema.contains('.') || self.schema.starts_with('"') {
            true => s.collect_str(&format_args!("{}.{}", quoted(&self.schema, '"'), self.name)),
            false => s.collect_str(self),
        }
    }
}

impl<'de> serde::Deserialize<'de> for TableName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_name_is_read_back_from_its_json() {
        let names = [
            ("public", "orders", "public.orders"),
            ("public", "v1.orders", "public.v1.orders"),
            ("Sales", "O \"r\".der", "Sales.O \"r\".der"),
            ("my.schema", "orders", "\"my.schema\".orders"),
            ("my.schema", "v1.\"orders", "\"my.schema\".v1.\"orders"),
            ("\"a\".b", "t", "\"\"\"a\"\".b\".t"),
            ("\"", "t", "\"\"\"\".t"),
            ("a\"b", "t", "a\"b.t"),
        ];
        for (schema, table, text) in names {
            let name = TableName::new(schema, table);
            assert_eq!(serde_json::to_value(&name).unwrap(), json!(text));
            assert_eq!(serde_json::from_value::<TableName>(json!(text)).unwrap(), name);
        }
        // As `quote_ident` gives it, and as an earlier release wrote a schema that begins with a quote.
        assert_eq!("\"Sales\".orders".parse(), Ok(TableName::new("Sales", "orders")));
        assert_eq!("\"a.t".parse(), Ok(TableName::new("\"a", "t")));
        for text in ["orders", ".t", "s.", "\"\".t", "\"s\"."] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
