//! Texts in quotes, for statements and for `postgresql.conf`. Nothing else in this program doubles quotes in what a server reads.

use cdc_model::units::quoted;

/// A name as an SQL identifier.
pub fn identifier(name: &str) -> String {
    quoted(name, '"')
}

/// A text as an SQL literal, whatever `standard_conforming_strings` says: with a backslash in it, it becomes an escape string, as
/// `quote_literal` writes it.
pub fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!("E{}", quoted(&text.replace('\\', "\\\\"), '\'')),
        false => quoted(text, '\''),
    }
}

/// A text as a value in `postgresql.conf`, where a backslash always escapes.
pub fn setting(text: &str) -> String {
    quoted(&text.replace('\\', "\\\\"), '\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_text_but_its_last_quote() {
        assert_eq!(identifier("O \"r\"der's"), "\"O \"\"r\"\"der's\"");
        assert_eq!(literal("it's \"so\""), "'it''s \"so\"'");
        assert_eq!(literal(""), "''");
        assert_eq!(literal(r"a\' or 1=1 --"), r"E'a\\'' or 1=1 --'");
        assert_eq!(setting(r"C:\it's"), r"'C:\\it''s'");
    }
}
