//! What the name of an object says about its bytes.

/// How many digits of a hash a name has: 128 bits of it, against accidents.
const DIGITS: usize = 32;

/// The first digits of a hash, as a name has them.
pub(crate) fn digits(sha256: &str) -> &str {
    &sha256[..DIGITS]
}

/// Whether a text can be these digits.
pub(crate) fn is_digits(text: &str) -> bool {
    text.len() == DIGITS && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Hash and size of an object's bytes, in its name `<digits>-<size in hexadecimal>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// The first digits of their hash.
    pub(crate) digits: String,
    /// How many there are.
    pub(crate) size: u64,
}

impl Stamp {
    pub(crate) fn of(sha256: &str, size: u64) -> Stamp {
        Stamp { digits: digits(sha256).to_owned(), size }
    }

    /// What a name begins with, and the stamp that it ends with.
    pub(crate) fn split_from(name: &str) -> Option<(&str, Stamp)> {
        let (rest, size) = name.rsplit_once('-')?;
        let (begin, digits) = rest.rsplit_once('-')?;
        let stamp = Stamp { digits: digits.to_owned(), size: u64::from_str_radix(size, 16).ok()? };
        (is_digits(digits) && is_lower_hex(size)).then_some((begin, stamp))
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:x}", self.digits, self.size)
    }
}
