//! Rows of a topic in compact form: cells in the order of the table's columns.
//!
//! A packed cell is a variable-length number and, for text, that many bytes less five: 0 absent, 1 NULL, 2 the
//! placeholder of an unchanged value, 3 a value that cannot be compared, 4 a text with reservations. A placeholder and
//! a text with reservations are followed by one byte of their own and by a packed text.

use super::repr::{Loss, Tag};

/// A cell of a packed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The event does not have the column.
    Absent,
    /// NULL.
    Null,
    /// The placeholder for an unchanged TOASTed value.
    Unavailable(Placeholder<'a>),
    /// A value that cannot be compared.
    Opaque,
    /// Text.
    Text(&'a [u8]),
    /// Text that does not say everything about the value.
    Reserved(Reservations, &'a [u8]),
}

/// A placeholder, which is also a value of its own where the column can hold that very value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholder<'a> {
    /// The text of the value that looks like the placeholder.
    pub literal: &'a [u8],
    /// Texts of the column up to this length, in bytes, are never stored out of line, so no placeholder stands for
    /// them; zero where the text's length does not tell.
    pub inline_max: u8,
}

/// What a text leaves open about its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reservations {
    /// What the expression has no room for.
    pub loss: Option<Loss>,
    /// Whether the column may have had another definition when the record was written, under which the same bytes are
    /// another value.
    pub redefined: bool,
    /// Whether the record itself has a placeholder, for which this earlier value was taken.
    pub restored: bool,
}

impl Reservations {
    const REDEFINED: u8 = 0x80;
    const RESTORED: u8 = 0x40;

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Reservations::default()
    }

    fn byte(self) -> u8 {
        let loss = self.loss.map_or(0, |loss| loss as u8 + 1);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        loss | bit(self.redefined, Self::REDEFINED) | bit(self.restored, Self::RESTORED)
    }

    fn of(byte: u8) -> Reservations {
        let number = byte & !(Self::REDEFINED | Self::RESTORED);
        let loss = Loss::ALL.into_iter().find(|loss| *loss as u8 + 1 == number);
        Reservations { loss, redefined: byte & Self::REDEFINED != 0, restored: byte & Self::RESTORED != 0 }
    }
}

impl<'a> Cell<'a> {
    /// The text, with or without reservations; `None` for everything else.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Cell::Text(bytes) | Cell::Reserved(_, bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// How findings show it.
    pub fn shown(self) -> String {
        match self {
            Cell::Absent => "(absent)".into(),
            Cell::Null => "NULL".into(),
            Cell::Unavailable(_) => "(placeholder of an unchanged value, with no earlier value)".into(),
            Cell::Opaque => "(a value that cannot be compared)".into(),
            Cell::Text(bytes) | Cell::Reserved(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// Appends one cell.
pub fn push(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Absent => out.push(0),
        Cell::Null => out.push(1),
        Cell::Unavailable(placeholder) => {
            out.extend([2, placeholder.inline_max]);
            push_text(out, placeholder.literal);
        }
        Cell::Opaque => out.push(3),
        Cell::Reserved(reservations, bytes) => {
            out.extend([4, reservations.byte()]);
            push_text(out, bytes);
        }
        Cell::Text(bytes) => push_text(out, bytes),
    }
}

fn push_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut number = bytes.len() + 5;
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out.extend_from_slice(bytes);
}

/// The cells of a packed row, in order.
#[derive(Clone, Debug)]
pub struct Cells<'a>(&'a [u8]);

/// Reads a packed row.
pub fn cells(packed: &[u8]) -> Cells<'_> {
    Cells(packed)
}

impl<'a> Cells<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0usize;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    }

    fn bytes(&mut self, number: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.0.split_at_checked(number.checked_sub(5)?)?;
        self.0 = rest;
        Some(text)
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        Some(match self.number()? {
            0 => Cell::Absent,
            1 => Cell::Null,
            3 => Cell::Opaque,
            marked @ (2 | 4) => {
                let byte = self.byte()?;
                let number = self.number()?;
                let text = self.bytes(number)?;
                match marked {
                    2 => Cell::Unavailable(Placeholder { literal: text, inline_max: byte }),
                    _ => Cell::Reserved(Reservations::of(byte), text),
                }
            }
            number => Cell::Text(self.bytes(number)?),
        })
    }
}

/// Collects the cells of a row in any order and packs them in the table's.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The texts, one after the other.
    pub text: Vec<u8>,
    cells: Vec<Mark>,
}

/// What a cell is, and where its text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    tag: Tag,
    reservations: Reservations,
    inline_max: u8,
    start: usize,
    end: usize,
}

impl Mark {
    const ABSENT: Mark = Mark {
        tag: Tag::Absent,
        reservations: Reservations { loss: None, redefined: false, restored: false },
        inline_max: 0,
        start: 0,
        end: 0,
    };
}

impl Scratch {
    /// Begins a row of so many columns, all absent.
    pub fn begin(&mut self, columns: usize) {
        self.text.clear();
        self.cells.clear();
        self.cells.resize(columns, Mark::ABSENT);
    }

    /// Sets a cell whose text, if any, was appended to `text` from `start` on. `inline_max` is a placeholder's.
    pub fn set(&mut self, column: usize, tag: Tag, reservations: Reservations, inline_max: u8, start: usize) {
        let end = self.text.len();
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = Mark { tag, reservations, inline_max, start, end };
        }
    }

    /// A cell.
    pub fn cell(&self, column: usize) -> Cell<'_> {
        let Some(mark) = self.cells.get(column) else { return Cell::Absent };
        let text = self.text.get(mark.start..mark.end).unwrap_or_default();
        match mark.tag {
            Tag::Absent => Cell::Absent,
            Tag::Null => Cell::Null,
            Tag::Unavailable => Cell::Unavailable(Placeholder { literal: text, inline_max: mark.inline_max }),
            Tag::Opaque => Cell::Opaque,
            Tag::Text if mark.reservations.is_empty() => Cell::Text(text),
            Tag::Text => Cell::Reserved(mark.reservations, text),
        }
    }

    /// A cell as part of a key. Keys are found by their bytes, so what they leave open is no part of them.
    pub(crate) fn key_cell(&self, column: usize) -> Cell<'_> {
        match self.cell(column) {
            Cell::Reserved(_, text) | Cell::Unavailable(Placeholder { literal: text, .. }) => Cell::Text(text),
            cell => cell,
        }
    }

    /// Packs the row.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.clear();
        for column in 0..self.cells.len() {
            push(out, self.cell(column));
        }
    }
}

/// Rewrites a packed row without placeholders: what looks like one is a value.
pub fn literal(packed: &mut Vec<u8>) {
    let mut out = Vec::with_capacity(packed.len());
    for cell in cells(packed) {
        match cell {
            Cell::Unavailable(placeholder) => push(&mut out, Cell::Text(placeholder.literal)),
            cell => push(&mut out, cell),
        }
    }
    *packed = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was_packed() {
        let long = vec![b'x'; 300];
        let mut row = vec![
            Cell::Text(b"1"),
            Cell::Null,
            Cell::Absent,
            Cell::Text(&long),
            Cell::Text(b""),
            Cell::Opaque,
            Cell::Unavailable(Placeholder { literal: &long, inline_max: 20 }),
            Cell::Unavailable(Placeholder { literal: b"", inline_max: 0 }),
        ];
        for loss in Loss::ALL.into_iter().map(Some).chain([None]) {
            for (redefined, restored) in [(false, false), (true, false), (false, true)] {
                row.push(Cell::Reserved(Reservations { loss, redefined, restored }, b"12:00:00"));
            }
        }
        let mut packed = Vec::new();
        row.iter().for_each(|cell| push(&mut packed, *cell));
        assert_eq!(cells(&packed).collect::<Vec<_>>(), row);
        assert_eq!(cells(&[200]).next(), None, "a cut row ends, it does not panic");
        assert_eq!(cells(&[4, 0]).next(), None);
        assert_eq!(cells(&[4, 0, 3]).next(), None);
    }

    #[test]
    fn a_row_without_placeholders_has_values_in_their_place() {
        let mut packed = Vec::new();
        push(&mut packed, Cell::Unavailable(Placeholder { literal: b"hold", inline_max: 20 }));
        push(&mut packed, Cell::Null);
        literal(&mut packed);
        assert_eq!(cells(&packed).collect::<Vec<_>>(), [Cell::Text(b"hold"), Cell::Null]);
    }
}
