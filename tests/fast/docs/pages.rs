//! Where documents are, and how a generated one is compared or, by `just pages`, written.

use std::{fs, path::Path};

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Set by `just pages`.
const WRITE: &str = "CDC_DRILL_WRITE_PAGES";

/// Every document that people read, by its path below the root.
pub(super) fn documents() -> Vec<String> {
    let mut all: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "STYLE.md",
        "CHANGELOG.md",
        "deploy/README.md",
        "examples/own-pipeline/README.md",
    ]
    .map(String::from)
    .to_vec();
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            all.push(format!("docs/{name}"));
        }
    }
    all.sort();
    all
}

pub(super) fn text(document: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(document)).unwrap_or_else(|e| panic!("{document}: {e}"))
}

/// Blocks of a document in a language: the number of the line behind the fence, and what is in the block.
pub(super) fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if let Some(words) = line.strip_prefix("```")
            && !words.is_empty()
        {
            let inside: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            if words.split(',').next() == Some(language) {
                let begin = inside.first().map_or(0, |(number, _)| number + 1);
                found.push((begin, inside.iter().map(|(_, line)| format!("{line}\n")).collect()));
            }
        }
    }
    found
}

/// Compares a generated file with the kept one, or writes it.
pub(super) fn holds(file: &str, generated: &str) {
    let path = Path::new(ROOT).join(file);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, generated).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept == generated {
        return;
    }
    let differs = kept.lines().zip(generated.lines()).position(|(k, g)| k != g);
    let line = differs.unwrap_or_else(|| kept.lines().count().min(generated.lines().count()));
    panic!(
        "{file} is not what the program says; `just pages` writes it anew. Line {}:\n  kept:      {}\n  generated: {}",
        line + 1,
        kept.lines().nth(line).unwrap_or("(nothing)"),
        generated.lines().nth(line).unwrap_or("(nothing)")
    );
}
