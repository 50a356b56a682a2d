//! Where the statements of an SQL script begin and end, as the server's parser divides them: for messages about one of them. Nothing is
//! run by this division.

use std::str::Chars;

/// One statement of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'s> {
    /// The line of the script that its first word stands on, from 1.
    pub line: usize,
    /// Its text from the first word on, without comments before it and without the semicolon behind it.
    pub text: &'s str,
}

/// A place in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'s> {
    /// The statement.
    pub statement: Statement<'s>,
    /// The line of the script, from 1.
    pub line: usize,
}

/// The place of a character of the script, from 1, as the field `P` of a server's error counts them. None behind the last statement.
pub fn at(script: &str, position: usize) -> Option<Place<'_>> {
    let (offset, _) = script.char_indices().nth(position.checked_sub(1)?)?;
    let ends_behind = |statement: &Statement<'_>| start_of(script, statement) + statement.text.len() > offset;
    let statement = statements(script).into_iter().find(ends_behind)?;
    let offset = offset.max(start_of(script, &statement));
    Some(Place { statement, line: line_of(script, offset) })
}

/// The place of a statement by its number, from 0: the server answers each with one `CommandComplete`, so that the first one that
/// failed has the number of those that were complete.
pub fn nth(script: &str, number: usize) -> Option<Place<'_>> {
    let statement = *statements(script).get(number)?;
    Some(Place { statement, line: statement.line })
}

fn start_of(script: &str, statement: &Statement<'_>) -> usize {
    statement.text.as_ptr() as usize - script.as_ptr() as usize
}

fn line_of(script: &str, offset: usize) -> usize {
    1 + script[..offset].matches('\n').count()
}

/// The statements of a script, in order; empty ones are none. Literals, quoted names, dollar quotes, comments, parentheses and the bodies
/// of functions between `BEGIN ATOMIC` and `END` hold semicolons that end nothing.
pub fn statements(script: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut rest = script.chars();
    let mut open = Open::default();
    loop {
        let here = script.len() - rest.as_str().len();
        let Some(next) = rest.clone().next() else { break };
        if skip_blank(&mut rest) {
            continue;
        }
        let begin = *open.begin.get_or_insert(here);
        match next {
            ';' if open.depth == 0 && open.blocks == 0 => {
                rest.next();
                found.extend(statement(script, begin, here));
                open = Open::default();
            }
            '(' | '[' => open.deeper(&mut rest, 1),
            ')' | ']' => open.deeper(&mut rest, -1),
            '\'' => skip_quoted(&mut rest, '\'', false),
            '"' => skip_quoted(&mut rest, '"', false),
            '$' => skip_dollar_quoted(&mut rest),
            c if is_word_start(c) => open.word(&mut rest),
            // A number may end in letters, and `1e'x'` is no escape string.
            c if c.is_ascii_digit() => drop(word(&mut rest)),
            _ => drop(rest.next()),
        }
    }
    found.extend(open.begin.and_then(|begin| statement(script, begin, script.len())));
    found
}

fn statement(script: &str, begin: usize, end: usize) -> Option<Statement<'_>> {
    let text = script[begin..end].trim_end();
    (!text.is_empty()).then(|| Statement { line: line_of(script, begin), text })
}

/// What a statement has opened and not closed.
#[derive(Default)]
struct Open {
    begin: Option<usize>,
    depth: usize,
    /// `BEGIN ATOMIC`, and each `CASE` within.
    blocks: usize,
    words: Vec<String>,
}

impl Open {
    fn deeper(&mut self, rest: &mut Chars<'_>, by: isize) {
        rest.next();
        self.depth = self.depth.saturating_add_signed(by);
    }

    fn word(&mut self, rest: &mut Chars<'_>) {
        let word = word(rest).to_ascii_lowercase();
        // The sign that a literal is an escape string stands before its quote without a space.
        if rest.as_str().starts_with('\'') {
            return skip_quoted(rest, '\'', word == "e");
        }
        match word.as_str() {
            "atomic" if self.makes_a_routine() && self.words.last().is_some_and(|last| last == "begin") => {
                self.blocks += 1
            }
            "case" if self.blocks > 0 => self.blocks += 1,
            "end" => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
        self.words.push(word);
    }

    fn makes_a_routine(&self) -> bool {
        let mut words = self.words.iter().map(String::as_str).filter(|word| !matches!(*word, "or" | "replace"));
        words.next() == Some("create") && matches!(words.next(), Some("function" | "procedure"))
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || !c.is_ascii()
}

/// Takes a word, or a number with what is stuck to it.
fn word<'s>(rest: &mut Chars<'s>) -> &'s str {
    let text = rest.as_str();
    let is_part = |c: char| is_word_start(c) || c.is_ascii_digit() || c == '$';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    *rest = text[end..].chars();
    &text[..end]
}

/// Skips one blank or one comment; whether there was one.
fn skip_blank(rest: &mut Chars<'_>) -> bool {
    let text = rest.as_str();
    if text.starts_with("--") {
        *rest = text[text.find('\n').unwrap_or(text.len())..].chars();
    } else if text.starts_with("/*") {
        skip_comment(rest);
    } else if text.starts_with(char::is_whitespace) {
        rest.next();
    } else {
        return false;
    }
    true
}

/// Comments between `/*` and `*/` nest.
fn skip_comment(rest: &mut Chars<'_>) {
    let mut depth = 0_usize;
    loop {
        let text = rest.as_str();
        let by = match text {
            _ if text.starts_with("/*") => 1,
            _ if text.starts_with("*/") => -1,
            _ => 0,
        };
        depth = depth.saturating_add_signed(by);
        if rest.nth(by.unsigned_abs()).is_none() || depth == 0 {
            return;
        }
    }
}

/// Skips a literal or a quoted name. A quote that stands twice ends it and begins another, which comes to the same.
fn skip_quoted(rest: &mut Chars<'_>, quote: char, escapes: bool) {
    rest.next();
    while let Some(c) = rest.next() {
        match c {
            '\\' if escapes => drop(rest.next()),
            c if c == quote && rest.as_str().starts_with(quote) => drop(rest.next()),
            c if c == quote => return,
            _ => {}
        }
    }
}

/// Skips `$tag$ ... $tag$`, or the sign alone where it begins none.
fn skip_dollar_quoted(rest: &mut Chars<'_>) {
    let text = rest.as_str();
    rest.next();
    let Some(tag) = text[1..].find('$').map(|end| &text[..end + 2]) else { return };
    let name = &tag[1..tag.len() - 1];
    let is_tag =
        name.chars().all(|c| is_word_start(c) || c.is_ascii_digit()) && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_tag {
        let body = &text[tag.len()..];
        let end = body.find(tag).map_or(text.len(), |at| tag.len() + at + tag.len());
        *rest = text[end..].chars();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        statements(script).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn a_semicolon_ends_a_statement_where_the_server_says_so() {
        for alone in [
            "select ';'",
            "select 'it''s; so'",
            r"select E'a\';b'",
            r"select e'\\', ';'",
            r#"select 1 as "a;""b""#,
            "select $$;$$",
            "do $body$ begin perform 1; $$;$$; end $body$",
            "select 1 -- one; two",
            "select /* a; /* b; */ c; */ 1",
            "create rule r as on insert to t do also (delete from a; delete from b)",
            "create function f() returns int begin atomic select case when true then 1 end; select 2; end",
            "create or replace procedure p() begin atomic insert into t values (1); end",
            "select a[1;2]",
        ] {
            let script = format!("{alone};\nselect 2");
            // A comment behind the last word is not taken off, and hides the semicolon that stands on its line.
            let script = script.replace("two;", "two\n;");
            assert_eq!(texts(&script), [alone, "select 2"], "{script}");
        }
    }

    #[test]
    fn what_looks_like_a_quote_or_a_block_is_none() {
        for (script, expected) in [
            (r"select '\'; select 2", vec![r"select '\'", "select 2"]),
            ("select $1; select $2", vec!["select $1", "select $2"]),
            ("select a$b$c; select d$b$e", vec!["select a$b$c", "select d$b$e"]),
            ("begin; insert into t values (1); end", vec!["begin", "insert into t values (1)", "end"]),
            ("select namee'x\\'; select 2", vec![r"select namee'x\'", "select 2"]),
            (" ; ;; -- nothing\n;", vec![]),
            ("select 'open; select 2", vec!["select 'open; select 2"]),
        ] {
            assert_eq!(texts(script), expected, "{script}");
        }
    }

    const SCRIPT: &str =
        "-- Ä comment; with a semicolon\ncreate table ä (a int);\n\n  insert into ä\n  values ('x');\n";

    #[test]
    fn a_position_is_counted_in_characters_and_gives_line_and_statement() {
        let position = SCRIPT.chars().position(|c| c == 'x').unwrap() + 1;
        let place = at(SCRIPT, position).unwrap();
        assert_eq!((place.line, place.statement.line), (5, 4));
        assert_eq!(place.statement.text, "insert into ä\n  values ('x')");
        assert_eq!(at(SCRIPT, 1).unwrap().line, 2, "a comment belongs to the statement behind it");
        assert_eq!(at(SCRIPT, 0), None);
        assert_eq!(at(SCRIPT, 10_000), None);
    }

    #[test]
    fn a_statement_is_found_by_its_number() {
        assert_eq!(nth(SCRIPT, 0).unwrap().line, 2);
        assert_eq!(nth(SCRIPT, 1).unwrap().line, 4);
        assert_eq!(nth(SCRIPT, 2), None);
    }
}
