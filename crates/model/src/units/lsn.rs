//! PostgreSQL log sequence numbers.

use std::{fmt, str::FromStr};

/// A byte position in the write-ahead log. Written as PostgreSQL writes it: two hexadecimal halves, `16/B374D848`.
///
/// Only comparable within one timeline: after point-in-time recovery the same number names other bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Text that is not an LSN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an LSN (expected two hexadecimal numbers, such as 0/3000060)")]
pub struct LsnError(pub String);

impl Lsn {
    /// Bytes from `earlier` to `self`; zero when `earlier` is later.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;
    fn from_str(s: &str) -> Result<Self, LsnError> {
        let bad = || LsnError(s.to_owned());
        let (hi, lo) = s.trim().split_once('/').ok_or_else(bad)?;
        let half = |h: &str| {
            if h.is_empty() || h.len() > 8 || !h.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            u64::from_str_radix(h, 16).map_err(|_| bad())
        };
        Ok(Lsn(half(hi)? << 32 | half(lo)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0/0", 0)]
    #[case("0/3000650", 0x300_0650)]
    #[case("16/B374D848", 0x16_B374_D848)]
    #[case("FFFFFFFF/FFFFFFFF", u64::MAX)]
    fn reads_and_writes(#[case] text: &str, #[case] value: u64) {
        assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(value));
        assert_eq!(Lsn(value).to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("0")]
    #[case("0/")]
    #[case("/0")]
    #[case("0/123456789")]
    #[case("0/+1")]
    #[case("x/y")]
    fn refuses(#[case] text: &str) {
        assert_eq!(text.parse::<Lsn>(), Err(LsnError(text.to_owned())));
    }
}
