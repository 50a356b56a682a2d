//! Names of objects, format 2: what an object holds, and what its bytes are.

use cdc_postgres::wal::WalFile;

/// How many digits of the hash a name has: 128 bits of it, against accidents.
const DIGITS: usize = 32;
const COMPRESSED: &str = ".zst";

/// What the name of an object says about its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The first digits of their hash.
    pub(super) digits: String,
    /// How many there are.
    pub(super) size: u64,
}

/// What an object's name says: the file that it holds, the first digits of the hash of its bytes, and how many they are.
pub(super) fn parse_name(name: &str) -> Option<(WalFile, Named)> {
    let (rest, size) = name.strip_suffix(COMPRESSED).unwrap_or(name).rsplit_once('-')?;
    let (file, digits) = rest.rsplit_once('-')?;
    let file: WalFile = file.parse().ok()?;
    let is_lower_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let named = Named { digits: digits.to_owned(), size: u64::from_str_radix(size, 16).ok()? };
    let is_name = digits.len() == DIGITS && is_lower_hex(digits) && is_lower_hex(size);
    (is_name && file.is_wal() == name.ends_with(COMPRESSED)).then_some((file, named))
}

/// The name of the object that holds a file, by the hash and the size of its bytes.
pub(super) fn name_of(file: &WalFile, (hash, size): (&str, u64)) -> String {
    let compressed = if file.is_wal() { COMPRESSED } else { "" };
    format!("{file}-{}-{size:x}{compressed}", &hash[..DIGITS])
}
