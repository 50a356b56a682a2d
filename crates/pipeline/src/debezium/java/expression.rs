//! An expression of a list, and what it matches.

use fancy_regex::Regex;

use super::{character::quoted, parser::translate};

/// One expression of a list.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    matcher: Result<Regex, String>,
}

impl Expression {
    /// An expression of a connector's list.
    pub fn new(text: &str) -> Expression {
        let matcher = whole(text, true);
        Expression { text: text.to_owned(), matcher }
    }

    /// One that heeds case, as `topics.regex` of a sink connector does.
    pub fn with_case(text: &str) -> Expression {
        let matcher = whole(text, false);
        Expression { text: text.to_owned(), matcher }
    }

    /// The expression as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole text; the reason, where that is not known.
    pub fn matches(&self, text: &str) -> Result<bool, String> {
        self.matcher.as_ref().map_err(Clone::clone)?.is_match(text).map_err(|e| e.to_string())
    }

    /// The text that it stands for, where it has nothing but that: dots count as themselves, escaped or not.
    pub fn literal(&self) -> Option<String> {
        let characters = quoted(&self.text);
        let mut text = String::new();
        let mut rest = characters.iter();
        while let Some(next) = rest.next() {
            match (next.symbol(), next.character) {
                (None, c) => text.push(c),
                (Some('\\'), _) => match rest.next()?.symbol() {
                    Some(c) if !c.is_ascii_alphanumeric() => text.push(c),
                    _ => return None,
                },
                (Some(c), _) if "^$*+?()[]{}|".contains(c) => return None,
                (Some(c), _) => text.push(c),
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

fn whole(text: &str, ignore_case: bool) -> Result<Regex, String> {
    let translated = translate(text, ignore_case)?;
    Regex::new(&format!(r"\A(?:{translated})\z")).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What java.util.regex says on Java 17 with CASE_INSENSITIVE and `matches()`: for each expression the names that it matches;
    /// null where Java refuses it.
    #[derive(serde::Deserialize)]
    struct Java {
        names: Vec<String>,
        expressions: BTreeMap<String, Option<Vec<String>>>,
    }

    /// Those of them that are not translated. What Java refuses is among them: no connector runs with it.
    const NOT_KNOWN: [&str; 12] = [
        r"(?u)é",
        r"(?x)a b",
        r"(a)\1",
        r"[a&&&&b]",
        r"[a&&]",
        r"\N{LATIN SMALL LETTER A}",
        r"\R",
        r"\X",
        r"\Z",
        r"\bab\b",
        r"\p{L}",
        r"\p{javaLowerCase}",
    ];

    #[test]
    fn an_expression_matches_what_java_matches_or_is_not_known() {
        let java: Java =
            serde_json::from_str(include_str!("../../../../../fixtures/debezium/java-expressions.json")).unwrap();
        let mut wrong = Vec::new();
        let mut compared = 0;
        for (text, expected) in &java.expressions {
            let expression = Expression::new(text);
            let matched: Result<Vec<&String>, String> = java
                .names
                .iter()
                .filter_map(|name| expression.matches(name).map(|yes| yes.then_some(name)).transpose())
                .collect();
            match (expected, matched) {
                (None, Err(_)) => {}
                (Some(_), Err(_)) if NOT_KNOWN.contains(&text.as_str()) => {}
                (Some(expected), Ok(found)) if expected.iter().eq(found.iter().copied()) => compared += 1,
                (expected, found) => wrong.push(format!("{text}: Java {expected:?}, here {found:?}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(compared > 80, "only {compared} were compared");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let why = |text| Expression::new(text).matches("a").unwrap_err();
        assert_eq!(why(r"\p{L}"), r"property `\p{L}`");
        assert_eq!(why(r"(a)\1"), r"`\1`");
        assert_eq!(why("a**"), "`*` with nothing before it");
        assert_eq!(why("(?x)a"), "flag `x`");
    }

    #[test]
    fn case_counts_where_the_expression_is_no_list_s() {
        assert_eq!(Expression::with_case("shop.*").matches("SHOP.a"), Ok(false));
        assert_eq!(Expression::with_case("shop.*").matches("shop.a"), Ok(true));
    }
}
