//! Names of objects, format 2: what an object holds, and what its bytes are.

use crate::backup::format::stamp::Stamp;
use cdc_postgres::wal::WalFile;

const COMPRESSED: &str = ".zst";

/// What an object's name says: the file that it holds, and what its bytes are.
pub(super) fn parse_name(name: &str) -> Option<(WalFile, Stamp)> {
    let (file, stamp) = Stamp::split_from(name.strip_suffix(COMPRESSED).unwrap_or(name))?;
    let file: WalFile = file.parse().ok()?;
    (file.is_wal() == name.ends_with(COMPRESSED)).then_some((file, stamp))
}

/// The name of the object that holds a file.
pub(super) fn name_of(file: &WalFile, stamp: &Stamp) -> String {
    let compressed = if file.is_wal() { COMPRESSED } else { "" };
    format!("{file}-{stamp}{compressed}")
}
