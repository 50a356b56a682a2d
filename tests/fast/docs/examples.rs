//! Commands, configurations and scenarios in the documents are ones that the program takes.

use std::{fs, path::Path, process::Command};

use super::pages::{ROOT, blocks, documents, text};

/// The lines of console blocks that call this program, without prompt and comment.
fn lines() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents() {
        for (at, block) in blocks(&text(&document), "console") {
            for (offset, line) in block.lines().enumerate() {
                let line = line.trim_start_matches(['$', '#', ' ']).split(" # ").next().unwrap_or_default().trim();
                let line = line.replace("cargo run --release --", "cdc-drill");
                if let Some(rest) = line.strip_prefix("cdc-drill ") {
                    found.push((format!("{document}:{}", at + offset), rest.to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn commands_are_understood() {
    let all = lines();
    assert!(all.len() > 15, "only {} commands were found in the documents", all.len());
    for (place, line) in all {
        let words = std::iter::once("cdc-drill").chain(line.split_whitespace());
        if let Err(error) = cdc_harness::cli::command().try_get_matches_from(words) {
            panic!("{place}: cdc-drill {line}\n{error}");
        }
    }
}

/// Names in backticks that begin with the program's name, or a subcommand with its own options.
#[test]
fn commands_in_sentences_are_there() {
    for document in documents().into_iter().filter(|d| d != "CHANGELOG.md") {
        for word in text(&document).split('`').skip(1).step_by(2) {
            let Some(rest) = word.strip_prefix("cdc-drill ") else { continue };
            let mut command = cdc_harness::cli::command();
            for name in rest.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_lowercase())) {
                if command.get_subcommands().next().is_none() {
                    break;
                }
                match command.find_subcommand(name) {
                    Some(found) => command = found.clone(),
                    None => panic!("{document}: `{word}`: there is no command {name}"),
                }
            }
        }
    }
}

#[test]
fn configurations_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut read = 0;
    for document in documents() {
        for (at, block) in blocks(&text(&document), "toml").into_iter().filter(|(_, b)| b.contains("[postgres]")) {
            let file = folder.path().join("cdc-drill.toml");
            fs::write(&file, &block).unwrap();
            let file = camino::Utf8Path::from_path(&file).unwrap();
            // Files that it names are not here; everything else must be understood.
            if let Err(error) = cdc_pipeline::config::Config::load(file) {
                assert!(error.to_string().contains("/etc/cdc-drill/"), "{document}:{at}: {error}");
            }
            read += 1;
        }
    }
    assert!(read > 0);
}

#[test]
fn scenarios_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let own = Path::new(ROOT).join("examples/own-pipeline");
    fs::create_dir(folder.path().join("sql")).unwrap();
    for file in ["connector.json", "sql/clinic.sql", "sql/seed.sql"] {
        fs::copy(own.join(file), folder.path().join(file)).unwrap();
    }
    let mut checked = 0;
    for document in documents() {
        for (at, block) in blocks(&text(&document), "yaml").into_iter().filter(|(_, b)| b.starts_with("version: 1")) {
            fs::write(folder.path().join("mine.yaml"), block).unwrap();
            let said = Command::new(env!("CARGO_BIN_EXE_cdc-drill"))
                .args(["scenario", "check", "mine.yaml"])
                .current_dir(&folder)
                .output()
                .unwrap();
            assert!(said.status.success(), "{document}:{at}: {}", String::from_utf8_lossy(&said.stderr));
            checked += 1;
        }
    }
    assert!(checked >= 2, "only {checked} scenarios were found in the documents");
}
