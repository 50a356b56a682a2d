//! The README's picture and its output are those of the kept run.

use std::path::Path;

use cdc_harness::report::{RunReport, picture, verdict_text};

use super::pages::{ROOT, blocks, holds, text};

fn sample() -> RunReport {
    RunReport::try_from(camino::Utf8Path::new(ROOT).join("reports/sample").as_path()).unwrap()
}

#[test]
fn the_picture_is_of_the_kept_run() {
    holds("docs/img/heap-pages.svg", &picture(&sample(), None).unwrap());
}

#[test]
fn the_output_is_of_the_kept_run() {
    let said = verdict_text(&sample());
    let readme = text("README.md");
    let shown = blocks(&readme, "console").into_iter().map(|(_, block)| block).find(|block| block.contains("PASSED"));
    let shown = shown.expect("README.md shows the output of a run");
    let (command, output) = shown.split_once('\n').unwrap();
    assert!(command.starts_with("$ cdc-drill run "), "{command}");
    assert_eq!(output, said);
}

#[test]
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: what does not fit belongs into docs/");
}

#[test]
fn a_drill_that_is_not_there_has_no_picture() {
    let report = sample();
    assert!(picture(&report, Some("database-corruption/heap-pages")).is_some());
    assert_eq!(picture(&report, Some("database-corruption/nothing")), None);
    assert!(Path::new(ROOT).join("docs/img/heap-pages.svg").exists());
}
