//! Names of files that stand for names of topics, subjects and connectors.

use crate::backup::hash::sha256;

/// The longest file name that all usual file systems take.
const NAME_MAX: usize = 255;

/// Percent-encodes a name (of a topic, a subject, a connector) into one safe file name. Names that are too long for a
/// file are cut and told apart by their hash; such a name cannot be decoded, and is written inside the file too.
///
/// Upper-case letters are kept: the repository's file system is expected to tell cases apart, as PostgreSQL's is.
pub fn encode_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            // A leading dot would hide the file, or climb.
            b'.' if i == 0 => out.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // Room for an ending such as `.jsonl.zst`.
    let room = NAME_MAX - 16;
    if out.len() > room {
        let hash = sha256(name.as_bytes());
        out.truncate(room - 34);
        out.push_str("~%");
        out.push_str(&hash[..32]);
    }
    out
}

/// The inverse of [`encode_name`]; `None` for text it never makes.
pub fn decode_name(file: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file.len());
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&pair).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => bytes.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether a relative path from a manifest stays below its folder: plain components only.
pub(crate) fn is_safe_relative(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.len() <= NAME_MAX
                && part
                    .bytes()
                    .all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'%' | b'~'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    proptest! {
        #[test]
        fn a_short_name_comes_back(name in ".{1,18}") {
            let file = encode_name(&name);
            prop_assert!(is_safe_relative(&file), "{file}");
            prop_assert_eq!(decode_name(&file), Some(name));
        }

        #[test]
        fn any_name_is_one_safe_component(name in ".{1,600}") {
            let file = encode_name(&name);
            prop_assert!(is_safe_relative(&file) && !file.contains('/') && file.len() <= NAME_MAX - 16, "{file}");
        }
    }

    #[rstest]
    #[case("..", "%2E.")]
    #[case("a/b:c%", "a%2Fb%3Ac%25")]
    #[case("shop.public.orders-value", "shop.public.orders-value")]
    fn names_are_readable(#[case] name: &str, #[case] file: &str) {
        assert_eq!(encode_name(name), file);
    }

    #[test]
    fn long_names_stay_distinct() {
        let (a, b) = ("x".repeat(300) + "a", "x".repeat(300) + "b");
        assert_ne!(encode_name(&a), encode_name(&b));
    }

    #[rstest]
    #[case("../x")]
    #[case("/etc/passwd")]
    #[case("a//b")]
    #[case("a/./b")]
    #[case("")]
    #[case("a\\b")]
    fn climbing_paths_are_refused(#[case] path: &str) {
        assert!(!is_safe_relative(path));
    }
}
