//! A captured table and its rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::{
    row::{Cell, cells, push},
    table::Columns,
};
use cdc_model::units::{KeyColumns, TableName, packed};
use cdc_workload::{RowShape, ledger::TableState};

/// A captured table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableView {
    /// The table.
    pub name: TableName,
    /// Its database.
    pub database: String,
    /// Who captures it.
    pub connector: String,
    /// Where its events go.
    pub topic: String,
    /// Its columns.
    #[serde(with = "shared")]
    pub columns: Arc<Columns>,
    /// The columns of its primary key.
    pub primary_key: Vec<usize>,
    /// `d`, `f`, `i` or `n`.
    pub replica_identity: char,
    /// Its rows; why not, where they could not be read.
    pub rows: Result<Rows, String>,
    /// Rows that a snapshot writes to the topic and whose changes never go there: those of tables that inherit from this one, and
    /// those outside of the publication's row filter.
    pub unstreamed: Rows,
    /// How many rows a second connection counts in the same snapshot.
    pub count: Result<u64, String>,
}

/// A shared value, in JSON the value.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        (**shared).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(d).map(Arc::new)
    }
}

/// Rows of a table as packed cells, in blocks: a large table grows without being copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    blocks: Vec<Block>,
    count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    #[serde(with = "packed")]
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A block is closed when it is as large as this.
const BLOCK_BYTES: usize = 1 << 20;

impl Rows {
    /// Adds a row.
    pub fn add<'a>(&mut self, row: impl IntoIterator<Item = Cell<'a>>) {
        if self.blocks.last().is_none_or(|b| b.bytes.len() >= BLOCK_BYTES) {
            if let Some(full) = self.blocks.last_mut() {
                full.bytes.shrink_to_fit();
                full.ends.shrink_to_fit();
            }
            self.blocks.push(Block::default());
        }
        if let Some(block) = self.blocks.last_mut() {
            for cell in row {
                push(&mut block.bytes, cell);
            }
            block.ends.push(block.bytes.len());
            self.count += 1;
        }
    }

    /// How many rows.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows, packed.
    pub fn packed(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().flat_map(|block| {
            let starts = std::iter::once(0).chain(block.ends.iter().copied());
            starts.zip(&block.ends).map(|(start, end)| &block.bytes[start..*end])
        })
    }
}

impl TableView {
    /// Names of these columns.
    pub fn names(&self, columns: &[usize]) -> Vec<String> {
        columns.iter().filter_map(|c| self.columns.list.get(*c)).map(|c| c.name.clone()).collect()
    }

    /// The table as the ledger keeps tables, by its primary key.
    pub fn state(&self) -> Option<TableState> {
        let rows = self.rows.as_ref().ok()?;
        let names = self.names(&self.primary_key);
        let key = KeyColumns::new(names.iter().map(String::as_str));
        let mut state = TableState::default();
        let shape = RowShape::new(self.columns.list.iter().map(|c| c.name.as_str()));
        for packed in rows.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            let row = shape.row(|place| row.get(place)?.text());
            if key.is_empty() {
                *state.unkeyed.entry(row).or_default() += 1;
            } else {
                state.keyed.insert(key.key(|name| row.text(name)), row);
            }
        }
        Some(state)
    }
}
