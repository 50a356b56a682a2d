//! The versions of a repository's layout.

/// How a repository lays out what it holds. Both are read and written; `backup upgrade` turns the first into the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// A shared index of the archived WAL for each timeline; a recovery point gets its name by the renaming of its folder.
    One,
    /// One object for each archived file and the object's hash in its name; a recovery point exists when its manifest is
    /// there.
    Two,
}

impl Format {
    /// What new repositories have.
    pub const NEWEST: Format = Format::Two;

    /// As `FORMAT` and manifests write it.
    pub const fn number(self) -> u32 {
        match self {
            Format::One => 1,
            Format::Two => 2,
        }
    }

    /// The one that an upgrade comes from or goes to.
    pub(crate) const fn other(self) -> Format {
        match self {
            Format::One => Format::Two,
            Format::Two => Format::One,
        }
    }

    /// The format with this number.
    pub const fn of_number(number: u32) -> Option<Format> {
        match number {
            1 => Some(Format::One),
            2 => Some(Format::Two),
            _ => None,
        }
    }
}
