//! The tables of the zoo and what is done to their rows. Every row has another value of each type; a planted change turns each
//! value into its neighbour.

use crate::specimens::{
    ANOTHER_IN_KEYS, FATAL_IN_NANOSECONDS, FATAL_WHEN_REQUIRED, SPECIMENS, Specimen, WITHOUT_VALUES,
};

/// Rows of a group: the values of a column and NULL. Three tables of them are as many findings of a kind as `verify` shows.
const ROWS: usize = 6;
/// Columns of a table with a key of all its columns: an index has room for 32, and for a third of a page.
const KEY_COLUMNS: usize = 24;
/// The rows that a snapshot reads and that stay as they are.
pub const READ: usize = 0;
/// Rows that are created while the connector streams.
pub const CREATED: usize = 100;
/// Rows that are updated while it streams.
pub const UPDATED: usize = 200;
/// Rows that are deleted while it streams.
const DELETED: usize = 300;
/// Rows of which each has one column changed.
const SINGLE: usize = 400;

/// Where a type stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a column that may be NULL.
    Nullable,
    /// In a column that may not.
    Required,
    /// As an array's element.
    Array,
    /// In a table without a key, whose rows are compared as wholes.
    Keyless,
    /// In a primary key.
    Key,
}

/// Some values of a type in a column of their own.
#[derive(Clone)]
pub struct Column {
    /// Its name, which no word of a note looks like.
    pub name: String,
    /// Its type.
    pub specimen: &'static Specimen,
    values: Vec<&'static str>,
    /// What its first value becomes when one column of a row is changed.
    last: Option<&'static str>,
}

/// The values of a type that may stand in a place; fewer where a connector counts in nanoseconds.
fn values(specimen: &Specimen, place: Place, nanoseconds: bool) -> Vec<&'static str> {
    let lists: &[&[(&str, &[&str])]] = match place {
        Place::Required if nanoseconds => &[FATAL_WHEN_REQUIRED, FATAL_IN_NANOSECONDS],
        Place::Required => &[FATAL_WHEN_REQUIRED],
        Place::Key if nanoseconds => &[FATAL_WHEN_REQUIRED, FATAL_IN_NANOSECONDS, ANOTHER_IN_KEYS],
        Place::Key => &[FATAL_WHEN_REQUIRED, ANOTHER_IN_KEYS],
        _ => &[],
    };
    let left_out = |value: &str| {
        let of_type = lists.iter().flat_map(|l| *l).filter(|(column, _)| *column == specimen.column);
        of_type.into_iter().any(|(_, values)| values.is_empty() || values.contains(&value))
    };
    specimen.values.iter().copied().filter(|v| !left_out(v)).collect()
}

/// The values of a type, each beside its neighbours.
fn columns(specimen: &'static Specimen, place: Place, nanoseconds: bool) -> Vec<Column> {
    let mut columns = Vec::new();
    let values = values(specimen, place, nanoseconds);
    let last = values.last().copied().filter(|_| values.len() > 1);
    let mut rest = values.as_slice();
    if rest.is_empty() {
        return columns;
    }
    loop {
        let name = match columns.len() {
            0 => format!("c_{}", specimen.column),
            n => format!("c_{}__{}", specimen.column, n + 1),
        };
        columns.push(Column { name, specimen, values: rest[..rest.len().min(ROWS - 1)].to_vec(), last });
        if rest.len() < ROWS {
            return columns;
        }
        rest = &rest[ROWS - 2..];
    }
}

/// A table.
pub struct Table {
    /// Its name, in schema `public`.
    pub name: String,
    /// Where its types stand.
    pub place: Place,
    /// Its columns besides `id`.
    pub columns: Vec<Column>,
}

fn literal(value: &str) -> String {
    match value.strip_prefix('=') {
        Some(expression) => expression.to_owned(),
        None => format!("'{}'", value.replace('\'', "''")),
    }
}

impl Column {
    /// The n-th value, NULL behind the last.
    fn value(&self, n: usize) -> String {
        self.values.get(n % (self.values.len() + 1)).map_or("null".into(), |v| literal(v))
    }

    /// The n-th value that is none.
    fn present(&self, n: usize) -> String {
        literal(self.values[n % self.values.len()])
    }

    /// The n-th array: empty, of two dimensions, with bounds of its own, NULL, and two whose last elements are neighbours.
    fn array(&self, n: usize) -> String {
        let ty = self.specimen.sql;
        let (one, two) = (self.value(0), self.value(1));
        let list = |last: usize| {
            let values: Vec<String> = (0..self.values.len().saturating_sub(1)).map(|n| self.value(n)).collect();
            format!(
                "array[null, {}{}]::{ty}[]",
                values.iter().map(|v| format!("{v}, ")).collect::<String>(),
                self.value(last)
            )
        };
        match n % ROWS {
            0 => "'{}'".into(),
            1 => format!("array[array[{one}, {two}], array[{two}, {one}]]::{ty}[]"),
            2 => format!("array_fill({one}::{ty}, array[2], array[5])"),
            3 => list(self.values.len() - 1),
            4 => list(self.values.len().saturating_sub(2).max(usize::from(self.values.len() == 1))),
            _ => "null".into(),
        }
    }
}

impl Table {
    /// All tables. `keyable` are the specimens that can stand in a primary key, `arrays` those that have an array type;
    /// `nanoseconds` is whether a connector counts in them.
    pub fn all(keyable: &[String], arrays: &[String], nanoseconds: bool) -> Vec<Table> {
        let of = |name: &str, place, columns| Table { name: name.into(), place, columns };
        let all = |place: Place, among: Option<&[String]>| -> Vec<Column> {
            let chosen = |s: &&Specimen| among.is_none_or(|among| among.iter().any(|a| a == s.column));
            SPECIMENS.iter().filter(chosen).flat_map(|s| columns(s, place, nanoseconds)).collect()
        };
        let mut tables = vec![
            of("scalars", Place::Nullable, all(Place::Nullable, None)),
            of("required", Place::Required, all(Place::Required, None)),
            of("arrays", Place::Array, all(Place::Array, Some(arrays))),
            of("keyless", Place::Keyless, all(Place::Keyless, None)),
        ];
        for (n, chunk) in all(Place::Key, Some(keyable)).chunks(KEY_COLUMNS).enumerate() {
            tables.push(of(&format!("keys_{}", n + 1), Place::Key, chunk.to_vec()));
        }
        tables
    }

    /// The names of its columns.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|c| c.name.clone()).collect()
    }

    /// The statement that makes it.
    pub fn create(&self) -> String {
        let (array, more) = match self.place {
            Place::Array => ("[]", ""),
            Place::Required | Place::Key => ("", " not null"),
            _ => ("", ""),
        };
        let mut columns = vec!["id int not null".to_owned()];
        columns.extend(self.columns.iter().map(|c| format!("{} {}{array}{more}", c.name, c.specimen.sql)));
        if self.place == Place::Nullable {
            columns.extend(WITHOUT_VALUES.iter().map(|ty| format!("c_{ty} {ty}")));
        }
        let key = match self.place {
            Place::Keyless => String::new(),
            Place::Key => format!(", primary key (id, {})", self.names().join(", ")),
            _ => ", primary key (id)".into(),
        };
        let name = &self.name;
        // Nothing is moved out of the row: what stands in for an unchanged value is another subject.
        let mut sql = format!("create table {name} ({}{key}) with (toast_tuple_target = 8160);", columns.join(", "));
        if self.place == Place::Keyless {
            sql.push_str(&format!("alter table {name} replica identity full;"));
        }
        sql
    }

    fn is_single(&self) -> bool {
        matches!(self.place, Place::Key | Place::Keyless)
    }

    fn cell(&self, column: &Column, n: usize) -> String {
        match self.place {
            Place::Array => column.array(n),
            Place::Required | Place::Key => column.present(n),
            _ => column.value(n),
        }
    }

    fn insert(&self, id: usize, n: usize) -> String {
        let cells: Vec<String> = self.columns.iter().map(|c| self.cell(c, n)).collect();
        format!("insert into {} (id, {}) values ({id}, {});\n", self.name, self.names().join(", "), cells.join(", "))
    }

    fn update(&self, id: usize, n: usize) -> String {
        let cells: Vec<String> = self.columns.iter().map(|c| format!("{} = {}", c.name, self.cell(c, n))).collect();
        format!("update {} set {} where id = {id};\n", self.name, cells.join(", "))
    }

    /// Rows that a snapshot reads.
    pub fn before(&self) -> String {
        let groups: String = (0..ROWS)
            .map(|n| self.insert(READ + n, n) + &self.insert(UPDATED + n, n + 1) + &self.insert(DELETED + n, n))
            .collect();
        let singles: String = (0..self.singles()).map(|n| self.insert(SINGLE + n, 0)).collect();
        groups + &singles
    }

    fn singles(&self) -> usize {
        if self.is_single() { self.columns.len() } else { 0 }
    }

    /// How many rows a snapshot reads.
    pub fn rows_before(&self) -> i64 {
        (3 * ROWS + self.singles()) as i64
    }

    /// What is streamed.
    pub fn streamed(&self) -> String {
        let rows: String = (0..ROWS).map(|n| self.insert(CREATED + n, n) + &self.update(UPDATED + n, n)).collect();
        format!("{rows}delete from {} where id between {DELETED} and {};\n", self.name, DELETED + ROWS)
    }

    /// Turns each value of a group into its neighbour.
    pub fn plant(&self, group: usize) -> String {
        match self.is_single() {
            false => (0..ROWS).map(|n| self.update(group + n, n + 1)).collect(),
            true => String::new(),
        }
    }

    /// Changes one column of each row that is there for it: its first value becomes its last.
    pub fn plant_singles(&self) -> String {
        let one = |(n, c): (usize, &Column)| {
            let last = c.last.map_or("null".into(), literal);
            format!("update {} set {} = {last} where id = {};\n", self.name, c.name, SINGLE + n)
        };
        self.columns.iter().enumerate().take(self.singles()).map(one).collect()
    }

    /// Takes a group's changes back.
    pub fn restore(&self, group: usize) -> String {
        match self.is_single() {
            false => (0..ROWS).map(|n| self.update(group + n, n)).collect(),
            true => String::new(),
        }
    }

    /// The rows of a group.
    pub fn rows(&self, group: usize) -> std::ops::Range<usize> {
        group..group + ROWS
    }
}
