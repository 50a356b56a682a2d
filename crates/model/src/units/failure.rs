//! What an error knows besides its message.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use super::Exit;

/// What a person can do about a failure, in a sentence without an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hint(Cow<'static, str>);

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Hint {
        Hint(Cow::Borrowed(text))
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Hint {
        Hint(Cow::Owned(text))
    }
}

impl Hint {
    /// A line of its own for a person: `hint: give --yes`.
    pub fn line(&self) -> String {
        format!("hint: {}", self.0)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error of this program. Its message is complete: it holds the text of whatever caused it, so that only an error that
/// passes on another one as it is has a `source()`. Hints are no part of the message.
pub trait Failure: std::error::Error {
    /// The exit code for a command that ends with this error.
    fn exit(&self) -> Exit;

    /// What a person can do about it, the most specific first. An error that wraps another one hands on its hints, unless it
    /// knows better.
    fn hints(&self) -> Vec<Hint>;

    /// Whether the same attempt may succeed later without anybody changing anything: a wait goes on.
    fn is_transient(&self) -> bool;

    /// The message with its hints, as [`with_hints`].
    fn in_full(&self) -> String {
        with_hints(self.to_string(), &self.hints())
    }
}

impl Failure for std::convert::Infallible {
    fn exit(&self) -> Exit {
        match *self {}
    }

    fn hints(&self) -> Vec<Hint> {
        match *self {}
    }

    fn is_transient(&self) -> bool {
        match *self {}
    }
}

/// A message for a person, with a line for each hint: `hint: give --yes`.
pub fn with_hints(message: impl fmt::Display, hints: &[Hint]) -> String {
    let lines = hints.iter().map(Hint::line);
    std::iter::once(message.to_string()).chain(lines).collect::<Vec<_>>().join("\n")
}

/// An error and all of its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hint_is_a_line_behind_the_message() {
        assert_eq!(with_hints("no", &[]), "no");
        assert_eq!(with_hints("no", &["wait".into(), "ask".into()]), "no\nhint: wait\nhint: ask");
    }
}
