//! Names of objects, format 2: what an object holds, and what its bytes are.

use crate::backup::format::stamp::Stamp;
use cdc_postgres::wal::WalFile;

const COMPRESSED: &str = ".zst";
const ENCRYPTED: &str = ".age";

/// What an object's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The file that it holds.
    pub(super) file: WalFile,
    /// Of an encrypted object the salted hash and the size of its content: to be recognised by whoever cannot decrypt it.
    pub(super) content: Option<Stamp>,
    /// What its bytes are.
    pub(super) stored: Stamp,
}

impl Named {
    pub(super) fn parse(name: &str) -> Option<Named> {
        let (rest, is_encrypted) = match name.strip_suffix(ENCRYPTED) {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let is_compressed = rest.ends_with(COMPRESSED);
        let (mut file, stored) = Stamp::split_from(rest.strip_suffix(COMPRESSED).unwrap_or(rest))?;
        let mut content = None;
        if is_encrypted {
            let (before, stamp) = Stamp::split_from(file)?;
            (file, content) = (before, Some(stamp));
        }
        let file: WalFile = file.parse().ok()?;
        (file.is_wal() == is_compressed).then_some(Named { file, content, stored })
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Named { file, content, stored } = self;
        write!(f, "{file}-")?;
        if let Some(content) = content {
            write!(f, "{content}-")?;
        }
        let compressed = if file.is_wal() { COMPRESSED } else { "" };
        let encrypted = if content.is_some() { ENCRYPTED } else { "" };
        write!(f, "{stored}{compressed}{encrypted}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("000000010000000000000007-0123456789abcdef0123456789abcdef-1f4.zst", false)]
    #[case("00000002.history-0123456789abcdef0123456789abcdef-2c", false)]
    #[case(
        "000000010000000000000007-fedcba9876543210fedcba9876543210-1000000-0123456789abcdef0123456789abcdef-1f4.zst.age",
        true
    )]
    #[case("00000002.history-fedcba9876543210fedcba9876543210-2c-0123456789abcdef0123456789abcdef-f4.age", true)]
    fn a_name_is_what_it_says(#[case] name: &str, #[case] is_encrypted: bool) {
        let named = Named::parse(name).unwrap();
        assert_eq!((named.to_string().as_str(), named.content.is_some()), (name, is_encrypted));
    }

    #[rstest]
    #[case("000000010000000000000007-0123456789abcdef0123456789abcdef-1f4.zst.age")]
    #[case(
        "000000010000000000000007-fedcba9876543210fedcba9876543210-1000000-0123456789abcdef0123456789abcdef-1f4.zst"
    )]
    #[case("000000010000000000000007-0123456789abcdef0123456789abcdef-1f4.age")]
    fn another_name_is_none(#[case] name: &str) {
        assert_eq!(Named::parse(name), None);
    }
}
