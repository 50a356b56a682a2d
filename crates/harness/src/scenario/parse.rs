//! From YAML text to a scenario. The only file that names the YAML crate.

use std::fmt;

use camino::Utf8Path;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Error as YamlError, Spanned};

use super::{
    error::{Mistake, Problem, ScenarioError, Seg, dotted},
    model::Scenario,
    plan::Plan,
    resolve::{Fixtures, resolve},
};
use cdc_model::units::near_or;

/// Reads a scenario and resolves it to its drills. `file` is for messages only. A text that does not read ends at its first mistake;
/// one that reads is resolved to its end, and every mistake is returned.
pub fn parse(file: &Utf8Path, text: &str, fixtures: &Fixtures<'_>) -> Result<(Scenario, Plan), ScenarioError> {
    let invalid = |mistakes| ScenarioError::Invalid { file: file.to_owned(), mistakes };
    let scenario: Scenario = serde_saphyr::from_str(text).map_err(|e| invalid(vec![unreadable(&e, text)]))?;
    let problems = match resolve(&scenario, fixtures) {
        Ok(plan) => return Ok((scenario, plan)),
        Err(problems) => problems,
    };
    // The places are only needed for mistakes, so the text is read a second time only then.
    let places: Option<Place> = serde_saphyr::from_str::<Spanned<Node>>(text).ok().map(Place::from);
    let mut mistakes: Vec<Mistake> = problems.into_iter().map(|p| located(p, places.as_ref(), text)).collect();
    mistakes.sort_by_key(|m| (m.line, m.column));
    Err(invalid(mistakes))
}

fn unreadable(error: &YamlError, text: &str) -> Mistake {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |l| (l.line() as usize, l.column() as usize));
    let (message, hint) = explain(error);
    Mistake { line, column, text: line_of(text, line), path: "scenario".into(), message, hint }
}

fn explain(error: &YamlError) -> (String, String) {
    let list = |words: &[&str]| words.join(", ");
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let hint = near_or(field, expected.iter().copied(), || match expected.is_empty() {
                true => "nothing goes in here".into(),
                false => format!("known fields: {}", list(expected)),
            });
            (format!("unknown field `{field}`"), hint)
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            let near = near_or(variant, expected.iter().copied(), String::new);
            let noun = noun(expected);
            let beside = match noun {
                "fault" => "; your own SQL is a step: `- sql: ...`",
                _ => "",
            };
            let hint = format!("{near} known: {}{beside}", list(expected));
            (format!("unknown {noun} `{variant}`"), hint.trim_start().to_owned())
        }
        YamlError::SerdeMissingField { field, .. } => (
            format!("missing field `{field}`"),
            format!("add `{field}:` here; `cdc-drill scenario schema` describes it"),
        ),
        YamlError::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().map(|k| format!(" `{k}`")).unwrap_or_default();
            (
                format!("a second{name} in one mapping"),
                "each key, and so each variant id, may stand once; rename one".into(),
            )
        }
        YamlError::InvalidScalar { ty, .. } => {
            let wanted = match *ty {
                "u64" | "u32" | "u8" | "i64" | "i32" => "a whole number",
                "bool" => "true or false",
                other => other,
            };
            (format!("expected {wanted}"), "`cdc-drill scenario schema` describes what goes where".into())
        }
        _ => (plain(error), "`cdc-drill scenario schema` describes what goes where".into()),
    }
}

/// The parser's own words without the place at their end, which is shown apart.
fn plain(error: &YamlError) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let cut = first.rfind(" at line ").or_else(|| first.rfind(" (line ")).unwrap_or(first.len());
    let head = first[..cut].trim_end_matches([':', ' ']);
    match head.strip_prefix("error: ").unwrap_or(head).split_once(": ") {
        // `line 4 column 15: message`.
        Some((place, message)) if place.starts_with("line ") => message.to_owned(),
        _ => head.strip_prefix("error: ").unwrap_or(head).to_owned(),
    }
}

/// What a set of words names, told by one word that only this set has.
fn noun(expected: &[&str]) -> &'static str {
    let has = |word: &str| expected.contains(&word);
    match () {
        () if has("recover") => "step",
        () if has("delete-all") => "fault",
        () if has("restored-to-target") => "check",
        () if has("wrong-schema") => "kind of finding",
        () if has("slot-by-hand") => "naive procedure",
        () if has("coordinated") => "playbook",
        () if has("insert-new-keys") => "kind of change",
        () if has("BACKWARD") => "compatibility level",
        () => "word",
    }
}

fn line_of(text: &str, line: usize) -> String {
    line.checked_sub(1).and_then(|n| text.lines().nth(n)).unwrap_or_default().to_owned()
}

fn located(problem: Problem, places: Option<&Place>, text: &str) -> Mistake {
    let (line, column) = places.map_or((0, 0), |p| p.find(&problem.path));
    let path = dotted(&problem.path);
    Mistake { line, column, text: line_of(text, line), path, message: problem.message, hint: problem.hint }
}

/// The text once more, as nothing but places.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

/// A place with what is inside it: keys with their own places, or list items.
struct Place {
    at: (usize, usize),
    keys: Vec<(String, (usize, usize), Place)>,
    items: Vec<Place>,
}

impl From<Spanned<Node>> for Place {
    fn from(node: Spanned<Node>) -> Self {
        let pair = |l: serde_saphyr::Location| (l.line() as usize, l.column() as usize);
        let at = pair(node.referenced);
        match node.value {
            Node::Scalar => Place { at, keys: Vec::new(), items: Vec::new() },
            Node::List(items) => Place { at, keys: Vec::new(), items: items.into_iter().map(Place::from).collect() },
            Node::Map(entries) => {
                let keys = entries.into_iter().map(|(k, v)| (k.value, pair(k.referenced), Place::from(v))).collect();
                Place { at, keys, items: Vec::new() }
            }
        }
    }
}

impl Place {
    /// The place of the value at the end of the path, or of the last part of the path that is there.
    fn find(&self, path: &[Seg]) -> (usize, usize) {
        let Some((first, rest)) = path.split_first() else { return self.at };
        match first {
            Seg::Key(key) => match self.keys.iter().find(|(k, _, _)| k == key) {
                // A mapping below a key is shown by the key, which is what a person looks for.
                Some((_, at, inner)) if rest.is_empty() && !inner.keys.is_empty() => *at,
                Some((_, at, inner)) => match inner.find(rest) {
                    found if found == inner.at && !inner.keys.is_empty() => *at,
                    found => found,
                },
                None => self.at,
            },
            Seg::Index(index) => self.items.get(*index).map_or(self.at, |inner| inner.find(rest)),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }
        d.deserialize_any(Any)
    }
}

/// Text as JSON, for the test that holds scenarios against their schema.
#[cfg(test)]
pub(super) fn as_json(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}
