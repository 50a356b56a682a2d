//! A token in the bytes of a record.

/// Whether the bytes hold the token anywhere, be it as a part of another one.
pub(super) fn mentions(value: &[u8], token: &str) -> bool {
    places(value, token).next().is_some()
}

/// Whether the bytes hold the token as a text of its own: in the quotes of JSON, or behind its length in Avro. `token-1` is
/// no text of a record that has `token-10`.
pub(super) fn holds(value: &[u8], token: &str) -> bool {
    let length = avro_length(token.len());
    places(value, token).any(|at| {
        let (before, behind) = (&value[..at], &value[at + token.len()..]);
        before.ends_with(&length) || (before.ends_with(b"\"") && behind.starts_with(b"\""))
    })
}

fn places<'v>(value: &'v [u8], token: &'v str) -> impl Iterator<Item = usize> + 'v {
    let windows = value.windows(token.len().max(1)).enumerate();
    windows.filter(move |(_, window)| *window == token.as_bytes()).map(|(at, _)| at)
}

/// A length as Avro writes it before a text: doubled, seven bits a byte, the lowest first.
fn avro_length(length: usize) -> Vec<u8> {
    let mut number = length * 2;
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_found_in_a_longer_one() {
        let json = br#"{"drill_token":"run-w0-10"}"#;
        let avro = b"\x02\x12run-w0-10\x02";
        for value in [&json[..], avro] {
            assert!(mentions(value, "run-w0-1") && !holds(value, "run-w0-1"));
            assert!(mentions(value, "run-w0-10") && holds(value, "run-w0-10"));
            assert!(!mentions(value, "run-w0-2") && !holds(value, "run-w0-2"));
            assert!(!mentions(value, "") && !holds(value, ""));
        }
        let long = "x".repeat(100);
        let mut value = vec![0xc8, 0x01];
        value.extend(long.as_bytes());
        assert!(holds(&value, &long));
    }
}
