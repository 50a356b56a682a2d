//! Numbers with their nouns: `1 row`, `2 rows`, by `units::counted` and in no other way.

use regex::Regex;

use crate::house::sources;

/// What may stand behind a value and ends in `s` without being a noun in the plural: verbs, units, and words with another end.
const NO_PLURALS: &[&str] = &[
    "address",
    "always",
    "answers",
    "as",
    "begins",
    "belongs",
    "compares",
    "descends",
    "describes",
    "discards",
    "does",
    "drops",
    "follows",
    "goes",
    "has",
    "holds",
    "is",
    "its",
    "keeps",
    "knows",
    "lacks",
    "leads",
    "leaves",
    "lets",
    "lies",
    "lists",
    "matches",
    "ms",
    "names",
    "needs",
    "reads",
    "reports",
    "resolves",
    "s",
    "says",
    "sees",
    "sends",
    "stands",
    "starts",
    "stays",
    "streams",
    "takes",
    "this",
    "was",
    "works",
    "writes",
];
/// What is no number with its noun: limits that are written down, a column of a table, figures with a fraction, a verb.
const EXCEPTIONS: [&str; 6] = [
    "{RESTORE_POINT_NAME_MAX} bytes",
    "{WRITERS_MAX} writers",
    "{:>12} bytes",
    ".2} times",
    ".1} times",
    "{name} changes values",
];

/// The placeholders of a text with a plural behind them, with at most one word between.
fn plurals(text: &str) -> Vec<String> {
    let placeholder = Regex::new(r"\{[^{}]*\} (?:(?P<first>[a-z-]+)\b)(?: (?P<second>[a-z-]+)\b)?").unwrap();
    let number = ["rows", "records", "transactions", "tables", "topics", "changes", "servers", "files", "bytes"];
    let is_plural = |word: &str| word.ends_with('s') && !word.ends_with("ss") && !NO_PLURALS.contains(&word);
    let found = placeholder.captures_iter(text).filter(|found| {
        let second = found.name("second").is_some_and(|word| number.contains(&word.as_str()));
        let is_name = |word: &str| {
            ["of", "the", "in", "into", "to", "with", "by", "and", "or", "has", "from", "make"].contains(&word)
        };
        is_plural(&found["first"]) || (second && !is_name(&found["first"]))
    });
    let words = found.map(|found| found[0].to_owned());
    words.filter(|words| !EXCEPTIONS.iter().any(|exception| words.contains(exception))).collect()
}

#[test]
fn a_plural_behind_a_number_is_found() {
    assert_eq!(plurals("{} slots gone"), ["{} slots gone"]);
    assert_eq!(plurals("{name}: {rows} captured rows, in {table} is"), ["{rows} captured rows"]);
    assert!(plurals("{} gone; {name} has rows; {count} of rows").is_empty());
}

#[test]
fn numbers_stand_with_their_nouns_by_one_way() {
    let literal = Regex::new(r#""(?:[^"\\]|\\(?s:.))*""#).unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in sources().into_iter().filter(|file| !file.name.ends_with("tests.rs")) {
        let code: Vec<&str> = file.product().lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for text in literal.find_iter(&code.join("\n")) {
            seen += 1;
            wrong.extend(plurals(text.as_str()).into_iter().map(|words| format!("{}: {words}", file.name)));
        }
    }
    assert!(seen > 5_000, "only {seen} texts were looked at");
    assert!(wrong.is_empty(), "write these with `units::counted`:\n{}", wrong.join("\n"));
}
