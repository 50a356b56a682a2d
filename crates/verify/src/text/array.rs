//! PostgreSQL's array and hstore texts.

/// Appends one element, quoted where PostgreSQL quotes it. `None` is NULL.
pub fn element(out: &mut Vec<u8>, first: bool, text: Option<&[u8]>) {
    if !first {
        out.push(b',');
    }
    let Some(text) = text else {
        out.extend_from_slice(b"NULL");
        return;
    };
    let special = |b: &u8| matches!(b, b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    quoted(out, text);
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The elements of a one-dimensional array's text; `None` when the text has more dimensions, explicit bounds, or is not
/// an array.
pub fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let body = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut all = Vec::new();
    let mut chars = body.chars().peekable();
    if chars.peek().is_none() {
        return Some(all);
    }
    loop {
        let mut value = String::new();
        let mut quoted = false;
        loop {
            match chars.next() {
                None | Some(',') => break,
                Some('{') => return None,
                Some('"') => {
                    quoted = true;
                    loop {
                        match chars.next()? {
                            '"' => break,
                            '\\' => value.push(chars.next()?),
                            c => value.push(c),
                        }
                    }
                    // A separator must follow; it is also what tells `{"a"}` from `{"a",}`.
                    match chars.next() {
                        None => {
                            all.push(Some(value));
                            return Some(all);
                        }
                        Some(',') => break,
                        Some(_) => return None,
                    }
                }
                Some('\\') => value.push(chars.next()?),
                Some(c) => value.push(c),
            }
        }
        all.push(if !quoted && value.eq_ignore_ascii_case("null") { None } else { Some(value) });
        if chars.peek().is_none() {
            return Some(all);
        }
    }
}

/// An hstore's text from its pairs, in hstore's own order: shorter keys first, then by bytes.
pub fn hstore(pairs: &mut [(String, Option<String>)]) -> String {
    pairs.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
    let mut out = Vec::new();
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(&mut out, key.as_bytes());
        out.extend_from_slice(b"=>");
        match value {
            Some(value) => quoted(&mut out, value.as_bytes()),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_quoted_as_postgresql_quotes_them() {
        let values = [Some("a"), None, Some("b c"), Some("NULL"), Some("q\"q"), Some("")];
        let mut out = vec![b'{'];
        for (i, value) in values.iter().enumerate() {
            element(&mut out, i == 0, value.map(str::as_bytes));
        }
        out.push(b'}');
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, r#"{a,NULL,"b c","NULL","q\"q",""}"#);
        let back: Vec<Option<String>> = values.iter().map(|v| v.map(str::to_owned)).collect();
        assert_eq!(elements(&text), Some(back));
    }

    #[test]
    fn other_shapes_are_not_elements() {
        assert_eq!(elements("{}"), Some(vec![]));
        assert_eq!(elements("{{1,2},{3,4}}"), None);
        assert_eq!(elements("[0:1]={1,2}"), None);
    }

    #[test]
    fn hstore_order() {
        let mut pairs = vec![
            ("c d".to_owned(), Some("x\"y".to_owned())),
            ("b".to_owned(), None),
            ("a".to_owned(), Some("1".to_owned())),
        ];
        assert_eq!(hstore(&mut pairs), r#""a"=>"1", "b"=>NULL, "c d"=>"x\"y""#);
    }
}
