//! SQL with placeholders, as a scenario writes it for its own schema.

use cdc_model::units::{Piece, near_or, nearest};

/// One statement of a transaction: text, and what stands in it for what differs from transaction to transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

/// A placeholder that is none: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

const WORDS: [&str; 4] = ["token", "n", "writer", "random"];
/// Those that stand alone, as a template has them.
const BRACED: [&str; 3] = ["{token}", "{n}", "{writer}"];
const KNOWN: &str = "known: {token}, {n}, {writer}, {random:A..B}; a brace that is none of these is written `{{`";

impl Template {
    /// Reads a template. A brace begins a placeholder only before a letter, so that JSON and most arrays need no escape;
    /// `{{` before a letter stands for the brace itself.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            let inner = &from[1..];
            if let Some(escaped) = inner.strip_prefix('{')
                && begins_word(escaped)
            {
                plain.push('{');
                rest = escaped;
                continue;
            }
            if !begins_word(inner) {
                plain.push('{');
                rest = inner;
                continue;
            }
            let Some((word, after)) = inner.split_once('}') else {
                let shown: String = from.chars().take(20).collect();
                return Err(TemplateError { message: format!("`{shown}` has no closing brace"), hint: KNOWN.into() });
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(placeholder(word)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template(pieces))
    }
}

fn begins_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn placeholder(word: &str) -> Result<Piece, TemplateError> {
    match word.split_once(':') {
        None if word == "token" => Ok(Piece::Token),
        None if word == "n" => Ok(Piece::Number),
        None if word == "writer" => Ok(Piece::Writer),
        Some(("random", range)) => random(range),
        _ => {
            let name = word.split(':').next().unwrap_or_default();
            let hint = match nearest(name, WORDS) {
                Some("random") => "write `{random:1..100}`: both ends are included".into(),
                _ => near_or(&format!("{{{name}}}"), BRACED, || KNOWN.into()),
            };
            Err(TemplateError { message: format!("no placeholder `{{{word}}}`"), hint })
        }
    }
}

fn random(range: &str) -> Result<Piece, TemplateError> {
    let ends = range.split_once("..").and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match ends {
        Some((low, high)) if low <= high => Ok(Piece::Random(low, high)),
        Some((low, high)) => Err(TemplateError {
            message: format!("`{{random:{range}}}` is empty"),
            hint: format!("write `{{random:{high}..{low}}}`: the lower end comes first"),
        }),
        None => Err(TemplateError {
            message: format!("`{{random:{range}}}` is no range of whole numbers"),
            hint: "write `{random:1..100}`: both ends are included".into(),
        }),
    }
}

/// The statements by which the workload itself begins and ends a transaction. Savepoints are the template's own affair.
const TRANSACTION_CONTROL: [&str; 7] = ["abort", "begin", "commit", "end", "prepare", "rollback", "start"];

/// The word by which one of the statements in `sql` would begin or end the transaction that it runs in.
pub(super) fn transaction_control(sql: &str) -> Option<&'static str> {
    sql.split(';').find_map(|statement| {
        let mut words = statement.split_whitespace().map(str::to_ascii_lowercase);
        let first = words.next()?;
        let word = TRANSACTION_CONTROL.into_iter().find(|w| *w == first)?;
        let then = words.next();
        match (word, then.as_deref()) {
            ("rollback", Some("to")) => None,
            ("prepare", other) if other != Some("transaction") => None,
            _ => Some(word),
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[rstest]
    #[case::all(
        "insert into t values ('{token}', {n}, {random:-5..100}, {writer})",
        &[text("insert into t values ('"), Piece::Token, text("', "), Piece::Number, text(", "), Piece::Random(-5, 100), text(", "), Piece::Writer, text(")")]
    )]
    #[case::json(r#"select '{"a": {"b": 1}}'::jsonb, {n}"#, &[text(r#"select '{"a": {"b": 1}}'::jsonb, "#), Piece::Number])]
    #[case::nested_array("select '{{1,2},{3,4}}'::int[]", &[text("select '{{1,2},{3,4}}'::int[]")])]
    #[case::escaped("select '{{red,blue}'::text[]", &[text("select '{red,blue}'::text[]")])]
    #[case::two_side_by_side("{n}{n}", &[Piece::Number, Piece::Number])]
    #[case::nothing("", &[])]
    fn a_brace_before_a_letter_is_a_placeholder(#[case] sql: &str, #[case] pieces: &[Piece]) {
        assert_eq!(Template::parse(sql).unwrap().0, pieces);
    }

    #[rstest]
    #[case::misspelt("select '{tokn}'", "no placeholder `{tokn}`", "did you mean `{token}`?")]
    #[case::an_array("select '{red,blue}'::text[]", "no placeholder `{red,blue}`", "`{{`")]
    #[case::no_range("select {random}", "no placeholder `{random}`", "{random:1..100}")]
    #[case::no_number("select {random:a..9}", "`{random:a..9}` is no range of whole numbers", "{random:1..100}")]
    #[case::upside_down("select {random:9..1}", "`{random:9..1}` is empty", "{random:1..9}")]
    #[case::open("select {n", "`{n` has no closing brace", "known:")]
    fn a_placeholder_that_is_none_is_told_with_the_right_one(
        #[case] sql: &str,
        #[case] message: &str,
        #[case] hint: &str,
    ) {
        let error = Template::parse(sql).unwrap_err();
        assert_eq!(error.message, message);
        assert!(error.hint.contains(hint), "{}", error.hint);
    }

    #[rstest]
    #[case::commit("COMMIT", Some("commit"))]
    #[case::behind_another("delete from t; rollback", Some("rollback"))]
    #[case::two_phase("prepare transaction 'x'", Some("prepare"))]
    #[case::savepoint("savepoint a; rollback to a", None)]
    #[case::prepared_statement("prepare p as select 1", None)]
    #[case::a_column("insert into t (commit) values (1)", None)]
    fn transaction_control_is_found(#[case] sql: &str, #[case] word: Option<&str>) {
        assert_eq!(transaction_control(sql), word);
    }
}
