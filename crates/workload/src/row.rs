//! A row as PostgreSQL prints it, in little memory: rows of one table share the names of their columns.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Columns to text, `None` for NULL, in the order of the columns' names. Sessions that make images speak UTC, ISO dates,
/// hex bytea and full float precision. In JSON it is an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    names: Arc<[Box<str>]>,
    cells: Box<[Option<Box<str>>]>,
}

impl Row {
    /// The text of a column, `Some(None)` for NULL; `None` where the row has no such column.
    pub fn get(&self, column: &str) -> Option<Option<&str>> {
        let place = self.names.binary_search_by(|name| (**name).cmp(column)).ok()?;
        Some(self.cells[place].as_deref())
    }

    /// The text of a column; `None` for NULL and where the row has no such column.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.get(column).flatten()
    }

    /// Its columns with their texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.names.iter().map(|name| &**name).zip(self.cells.iter().map(Option::as_deref))
    }

    /// The row with only those columns.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Row {
        self.iter().filter(|(name, _)| keep(name)).collect()
    }

    /// The row with this text in this column, which it may have had or not.
    #[must_use]
    pub fn with(&self, column: &str, text: Option<&str>) -> Row {
        self.iter().filter(|(name, _)| *name != column).chain([(column, text)]).collect()
    }
}

impl<'t> FromIterator<(&'t str, Option<&'t str>)> for Row {
    fn from_iter<I: IntoIterator<Item = (&'t str, Option<&'t str>)>>(cells: I) -> Row {
        let cells: BTreeMap<&str, Option<&str>> = cells.into_iter().collect();
        Row {
            names: cells.keys().map(|name| Box::from(*name)).collect(),
            cells: cells.values().map(|text| text.map(Box::from)).collect(),
        }
    }
}

/// The columns of a result or a table, in their own order: makes its rows.
#[derive(Clone, Debug)]
pub struct RowShape {
    names: Arc<[Box<str>]>,
    /// For each name the column's place.
    places: Vec<usize>,
}

impl RowShape {
    /// Of columns with these names. Where two have the same name the last counts.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> RowShape {
        let places: BTreeMap<&str, usize> = names.into_iter().enumerate().map(|(place, name)| (name, place)).collect();
        RowShape { names: places.keys().map(|name| Box::from(*name)).collect(), places: places.into_values().collect() }
    }

    /// A row whose column at a place has this text.
    pub fn row<'t>(&self, text: impl Fn(usize) -> Option<&'t str>) -> Row {
        let cells = self.places.iter().map(|place| text(*place).map(Box::from)).collect();
        Row { names: Arc::clone(&self.names), cells }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        let (names, cells): (Vec<Box<str>>, Vec<Option<Box<str>>>) =
            BTreeMap::<Box<str>, Option<Box<str>>>::deserialize(deserializer)?.into_iter().unzip();
        Ok(Row { names: names.into(), cells: cells.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_columns_whatever_their_order() {
        let row: Row = [("b", None), ("a", Some("1"))].into_iter().collect();
        assert_eq!((row.get("a"), row.get("b"), row.get("c")), (Some(Some("1")), Some(None), None));
        assert_eq!((row.text("a"), row.text("b"), row.text("c")), (Some("1"), None, None));
        let shaped = RowShape::new(["b", "a"]).row(|place| [None, Some("1")][place]);
        assert_eq!(shaped, row);
        assert_eq!(row.only(|name| name == "b"), [("b", None)].into_iter().collect());
        assert_eq!(row.with("b", Some("2")).text("b"), Some("2"));
        assert_eq!(row.with("c", None).get("c"), Some(None));
    }

    #[test]
    fn a_row_is_an_object_in_json() {
        let row: Row = [("b", None), ("a", Some("1"))].into_iter().collect();
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(json, r#"{"a":"1","b":null}"#);
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
        assert_eq!(serde_json::from_str::<Row>(r#"{"b":null,"a":"1"}"#).unwrap(), row);
        assert!(serde_json::from_str::<Row>(r#"{"a":1}"#).is_err());
    }
}
