//! `docs/scenarios.md`, from the schema of the scenario language.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::Value;

use super::pages::{holds, text};

const BEGIN: &str = "# Scenarios

<!-- Generated from scenarios/schema.json by `just pages`. -->

A scenario is a YAML file: what to load, break and recover, and what must then hold. Each variant is one drill, and one more for each of its controls.
[Your own schema](own-schema.md) begins with an example; `cdc-drill scenario check FILE` checks a file without starting anything, `cdc-drill scenario list`
shows those of `scenarios/`. Editors that know JSON Schema complete and check with `scenarios/schema.json`.
";

#[test]
fn the_language_is_documented() {
    let schema: Value = serde_json::from_str(&text("scenarios/schema.json")).unwrap();
    let mut page = BEGIN.to_owned();
    let mut seen = BTreeSet::new();
    let mut next = vec!["Scenario".to_owned()];
    let mut index = 0;
    while index < next.len() {
        let name = next[index].clone();
        index += 1;
        let part = match name.as_str() {
            "Scenario" => &schema,
            _ => &schema["$defs"][&name],
        };
        if seen.insert(name.clone()) {
            describe(&mut page, &name, part, &mut next);
        }
    }
    holds("docs/scenarios.md", &page);
}

fn describe(page: &mut String, name: &str, part: &Value, next: &mut Vec<String>) {
    let _ = write!(page, "\n## {name}\n\n{}\n", one_line(part));
    let required: BTreeSet<&str> =
        part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(fields) = part["properties"].as_object()
        && !fields.is_empty()
    {
        let _ = write!(page, "\n| field | is | |\n|---|---|---|\n");
        for (field, value) in fields {
            let must = if required.contains(field.as_str()) { " (required)" } else { "" };
            let _ = writeln!(page, "| `{field}` | {}{must} | {} |", shape(value, next), one_line(value));
        }
    }
    if let Some(ways) = part["oneOf"].as_array() {
        let _ = write!(page, "\n| one of | is | |\n|---|---|---|\n");
        for way in ways {
            let field = way["properties"].as_object().and_then(|fields| fields.iter().next());
            let (word, is) = match (way["const"].as_str(), field) {
                (Some(word), _) => (word.to_owned(), "a word".to_owned()),
                (None, Some((field, value))) => (format!("{field}: ..."), shape(value, next)),
                (None, None) => (String::new(), shape(way, next)),
            };
            let _ = writeln!(page, "| `{word}` | {is} | {} |", one_line(way));
        }
    }
    if let Some(words) = part["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|w| format!("`{w}`")).collect();
        let _ = write!(page, "\nOne of {}.\n", words.join(", "));
    }
}

fn one_line(value: &Value) -> String {
    value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// The type in words; a part of its own as a link to its heading.
fn shape(value: &Value, next: &mut Vec<String>) -> String {
    if let Some(reference) = value["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/").to_owned();
        next.push(name.clone());
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(ways) = value["anyOf"].as_array() {
        let ways: Vec<String> = ways.iter().filter(|w| w["type"] != "null").map(|w| shape(w, next)).collect();
        return ways.join(" or ");
    }
    let types = match &value["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    };
    let words: Vec<String> = types
        .iter()
        .map(|word| match *word {
            "array" => format!("list of {}", shape(&value["items"], next)),
            "object" => match &value["additionalProperties"] {
                Value::Object(_) => format!("names to {}", shape(&value["additionalProperties"], next)),
                _ => "fields".into(),
            },
            "string" => "text".into(),
            "integer" | "number" => "number".into(),
            "boolean" => "true or false".into(),
            other => other.to_owned(),
        })
        .collect();
    words.join(" or ")
}
