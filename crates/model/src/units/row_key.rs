//! The key of a table's row.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};

use super::quoted;

/// The columns of a key, in the key's order. The keys of one table share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyColumns(Arc<[Box<str>]>);

/// A row's key: each column of the key with its value as PostgreSQL prints it, or NULL. Two keys are the same key when their
/// columns and values are; their printed form is for people only. In JSON it is an object: `{"order_id": "7", "line": null}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    // Compared first: the columns of keys that are compared are mostly the same.
    values: Box<[Option<Box<str>>]>,
    columns: KeyColumns,
}

impl KeyColumns {
    /// Columns by name, in the key's order.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> KeyColumns {
        KeyColumns(names.into_iter().map(Box::from).collect())
    }

    /// The names, in the key's order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whether there is none: a table without a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key of these columns; `value` gives the text of a column, `None` for NULL.
    pub fn key<'t>(&self, mut value: impl FnMut(&str) -> Option<&'t str>) -> RowKey {
        RowKey { values: self.iter().map(|name| value(name).map(Box::from)).collect(), columns: self.clone() }
    }
}

impl RowKey {
    /// A key of these columns, in the key's order. A value is its text, `None` for NULL.
    pub fn new<'t>(cells: impl IntoIterator<Item = (&'t str, Option<&'t str>)>) -> RowKey {
        let (names, values): (Vec<Box<str>>, Vec<Option<Box<str>>>) =
            cells.into_iter().map(|(name, value)| (Box::from(name), value.map(Box::from))).unzip();
        RowKey { values: values.into(), columns: KeyColumns(names.into()) }
    }

    /// Each column with its text, `None` for NULL, in the key's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.columns.iter().zip(self.values.iter().map(Option::as_deref))
    }
}

/// A value as people read it, so that no value looks like the end of another or like a NULL: in quotes where it has to be.
pub fn readable(value: Option<&str>) -> std::borrow::Cow<'_, str> {
    match value {
        None => "NULL".into(),
        Some(text) if text.is_empty() || text == "NULL" || text.contains([',', '=', '\'']) => quoted(text, '\'').into(),
        Some(text) => text.into(),
    }
}

/// `order_id=7,line=2`, in the key's order.
impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{name}={}", readable(value))?;
        }
        Ok(())
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RowKey, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = RowKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of the key's columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RowKey, A::Error> {
                let mut cells: Vec<(Box<str>, Option<Box<str>>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<Box<str>, Option<Box<str>>>()? {
                    if cells.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("column {name} twice")));
                    }
                    cells.push((name, value));
                }
                Ok(RowKey::new(cells.iter().map(|(name, value)| (&**name, value.as_deref()))))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_print_alike_are_different_keys() {
        let one = RowKey::new([("a", Some("1,b=2")), ("b", Some("3"))]);
        let other = RowKey::new([("a", Some("1")), ("b", Some("2,b=3"))]);
        assert_ne!(one, other);
        assert_ne!(one.to_string(), other.to_string());
        let null = RowKey::new([("a", None)]);
        let text = RowKey::new([("a", Some("NULL"))]);
        assert_ne!(null, text);
        assert_eq!((null.to_string(), text.to_string()), ("a=NULL".to_owned(), "a='NULL'".to_owned()));
    }

    #[test]
    fn a_key_prints_its_columns_in_the_keys_order() {
        let columns = KeyColumns::new(["order_id", "line"]);
        let key = columns.key(|name| Some(if name == "line" { "2" } else { "7" }));
        assert_eq!(key.to_string(), "order_id=7,line=2");
        assert_eq!(RowKey::new([("name", Some("it's a, b=c"))]).to_string(), "name='it''s a, b=c'");
        assert_eq!(RowKey::new([("name", Some(""))]).to_string(), "name=''");
    }

    #[test]
    fn a_key_comes_back_from_json_as_it_was() {
        let key = RowKey::new([("z", Some("a,b=c")), ("a", None)]);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, r#"{"z":"a,b=c","a":null}"#);
        assert_eq!(serde_json::from_str::<RowKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<RowKey>(r#"{"a":"1","a":"2"}"#).is_err());
        assert!(serde_json::from_str::<RowKey>(r#""a=1""#).is_err());
    }
}
