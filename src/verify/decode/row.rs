//! Rows of a topic in compact form: cells in the order of the table's columns.
//!
//! A packed cell is a variable-length number and, for text, that many bytes less four: 0 absent, 1 NULL, 2 the
//! placeholder of an unchanged value, 3 a value that cannot be compared.

use super::repr::Tag;

/// A cell of a packed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The event does not have the column.
    Absent,
    /// NULL.
    Null,
    /// The placeholder for an unchanged TOASTed value.
    Unavailable,
    /// A value that cannot be compared.
    Opaque,
    /// Text.
    Text(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// The text; `None` for everything else.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Cell::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// How findings show it.
    pub fn shown(self) -> String {
        match self {
            Cell::Absent => "(absent)".into(),
            Cell::Null => "NULL".into(),
            Cell::Unavailable => "(placeholder of an unchanged value, with no earlier value)".into(),
            Cell::Opaque => "(a value that cannot be compared)".into(),
            Cell::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// Appends one cell.
pub fn push(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Absent => out.push(0),
        Cell::Null => out.push(1),
        Cell::Unavailable => out.push(2),
        Cell::Opaque => out.push(3),
        Cell::Text(bytes) => {
            let mut number = bytes.len() + 4;
            while number >= 0x80 {
                out.push(number as u8 | 0x80);
                number >>= 7;
            }
            out.push(number as u8);
            out.extend_from_slice(bytes);
        }
    }
}

/// The cells of a packed row, in order.
#[derive(Clone, Debug)]
pub struct Cells<'a>(&'a [u8]);

/// Reads a packed row.
pub fn cells(packed: &[u8]) -> Cells<'_> {
    Cells(packed)
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let mut number = 0usize;
        let mut shift = 0;
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= usize::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                break;
            }
        }
        Some(match number {
            0 => Cell::Absent,
            1 => Cell::Null,
            2 => Cell::Unavailable,
            3 => Cell::Opaque,
            n => {
                let (text, rest) = self.0.split_at_checked(n - 4)?;
                self.0 = rest;
                Cell::Text(text)
            }
        })
    }
}

/// Collects the cells of a row in any order and packs them in the table's.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The texts, one after the other.
    pub text: Vec<u8>,
    cells: Vec<(Tag, usize, usize)>,
}

impl Scratch {
    /// Begins a row of so many columns, all absent.
    pub fn begin(&mut self, columns: usize) {
        self.text.clear();
        self.cells.clear();
        self.cells.resize(columns, (Tag::Absent, 0, 0));
    }

    /// Sets a cell whose text, if any, was appended to `text` from `start` on.
    pub fn set(&mut self, column: usize, tag: Tag, start: usize) {
        let end = self.text.len();
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = (tag, start, end);
        }
    }

    /// A cell.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        match self.cells.get(column) {
            None | Some((Tag::Absent, ..)) => Cell::Absent,
            Some((Tag::Null, ..)) => Cell::Null,
            Some((Tag::Unavailable, ..)) => Cell::Unavailable,
            Some((Tag::Opaque, ..)) => Cell::Opaque,
            Some((Tag::Text, start, end)) => Cell::Text(&self.text[*start..*end]),
        }
    }

    /// Whether a cell is a placeholder.
    pub fn unavailable(&self) -> bool {
        self.cells.iter().any(|(tag, ..)| *tag == Tag::Unavailable)
    }

    /// Packs the row.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.clear();
        for column in 0..self.cells.len() {
            push(out, self.cell(column));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was_packed() {
        let long = vec![b'x'; 300];
        let row = [Cell::Text(b"1"), Cell::Null, Cell::Absent, Cell::Text(&long), Cell::Text(b""), Cell::Unavailable];
        let mut packed = Vec::new();
        row.iter().for_each(|cell| push(&mut packed, *cell));
        assert_eq!(cells(&packed).collect::<Vec<_>>(), row);
        assert_eq!(cells(&[200]).next(), None, "a cut row ends, it does not panic");
    }
}
