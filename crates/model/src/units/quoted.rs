//! A text between quotes.

/// A text between two of these quotes, each one in it doubled: as SQL, `quote_ident` and this program's own notations have it.
pub fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        if c == quote {
            out.push(quote);
        }
        out.push(c);
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quote_of_the_kind_is_doubled_and_no_other() {
        assert_eq!(quoted("a'b\"c", '\''), "'a''b\"c'");
        assert_eq!(quoted("\"", '"'), "\"\"\"\"");
        assert_eq!(quoted("", '\''), "''");
    }
}
