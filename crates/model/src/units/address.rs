//! Addresses as text: encoding, and the TLS parameters that libpq knows and the client's parser does not.

/// Percent-encodes one path segment or one parameter's value.
pub fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The opposite of [`encode`]; text that is not encoded stays as it is.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An address of PostgreSQL without its TLS parameters, and these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WithoutTls {
    /// The address as it was, without `sslmode` and `sslrootcert`. It may hold a password.
    pub address: String,
    /// `sslmode`.
    pub mode: Option<String>,
    /// `sslrootcert`.
    pub root: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of an address of PostgreSQL, in either of libpq's forms.
pub fn without_tls(address: &str) -> WithoutTls {
    let mut found = WithoutTls::default();
    let url = address.contains("://");
    let (head, parameters) = match address.split_once('?') {
        Some((head, parameters)) if url => (head, parameters),
        _ if url => (address, ""),
        _ => ("", address),
    };
    let mut kept = Vec::new();
    // A value in quotes may hold a space; the two that are taken out hold a path at most, and that is not cut here.
    for parameter in parameters.split(if url { '&' } else { ' ' }).filter(|p| !p.is_empty()) {
        let value = |v: &str| if url { decode(v) } else { v.trim_matches('\'').to_owned() };
        match parameter.split_once('=') {
            Some(("sslmode", v)) => found.mode = Some(value(v)),
            Some(("sslrootcert", v)) => found.root = Some(value(v)),
            _ => kept.push(parameter),
        }
    }
    found.address = match (url, kept.is_empty()) {
        (true, true) => head.to_owned(),
        (true, false) => format!("{head}?{}", kept.join("&")),
        (false, _) => kept.join(" "),
    };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let text = "a b/ü%41&=";
        assert_eq!(decode(&encode(text)), text);
        assert_eq!(decode("100%"), "100%");
    }

    #[test]
    fn tls_parameters_are_taken_out_of_both_forms() {
        let of = |a: &str| {
            let found = without_tls(a);
            (found.address, found.mode.unwrap_or_default(), found.root.unwrap_or_default())
        };
        let expect = |a: &str, m: &str, r: &str| (a.to_owned(), m.to_owned(), r.to_owned());
        assert_eq!(
            of("postgres://u:p@h/d?sslmode=verify-full&x=1&sslrootcert=%2Fa%20b"),
            expect("postgres://u:p@h/d?x=1", "verify-full", "/a b")
        );
        assert_eq!(of("postgres://h/d"), expect("postgres://h/d", "", ""));
        assert_eq!(of("host=h sslmode=require user=u"), expect("host=h user=u", "require", ""));
    }
}
