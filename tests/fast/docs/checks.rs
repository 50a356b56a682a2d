//! `docs/checks.md`: what each check claims, and the controls of the shipped scenarios that must turn it red.

use std::{collections::BTreeMap, fmt::Write, process::Command};

use serde_json::Value;

use super::pages::{ROOT, holds, text};

const BEGIN: &str = "# Checks

<!-- Generated from the program by `just pages`. -->

A check is a pure function over what was observed of tables, topics, registry, connectors and the workload's ledger. It reports findings, each of a kind and
with its evidence, and says how much it compared: comparing nothing is a failure. Each check has planted mistakes in its unit tests, and controls: drills in which
it must come out red.
";

#[test]
fn the_checks_are_documented() {
    let schema: Value = serde_json::from_str(&text("scenarios/schema.json")).unwrap();
    let listed =
        Command::new(env!("CARGO_BIN_EXE_cdc-drill")).args(["scenario", "list", "--json"]).current_dir(ROOT).output();
    let listed: Value = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
    let controls = controls(&listed);
    let mut page = BEGIN.to_owned();
    for check in schema["$defs"]["CheckId"]["oneOf"].as_array().unwrap() {
        let id = check["const"].as_str().unwrap();
        let _ = write!(page, "\n## {id}\n\n{}\n", check["description"].as_str().unwrap().replace('\n', " "));
        if let Some(red) = controls.get(id) {
            let _ = write!(page, "\n| without | it must find | in |\n|---|---|---|\n");
            for ((without, kind), variants) in red {
                let _ = writeln!(page, "| `{without}` | {kind} | {} |", variants.join(", "));
            }
        }
    }
    page.push_str("\n## Kinds of findings\n\n| kind | means |\n|---|---|\n");
    for kind in schema["$defs"]["FindingKind"]["oneOf"].as_array().unwrap() {
        let _ = writeln!(
            page,
            "| {} | {} |",
            kind["const"].as_str().unwrap(),
            kind["description"].as_str().unwrap().replace('\n', " ")
        );
    }
    holds("docs/checks.md", &page);
}

type Red = BTreeMap<(String, String), Vec<String>>;

/// By check: what is left out and the kind that must be found, with the variants in which that is drilled.
fn controls(listed: &Value) -> BTreeMap<String, Red> {
    let mut found: BTreeMap<String, Red> = BTreeMap::new();
    for scenario in listed["scenarios"].as_array().unwrap() {
        for variant in scenario["variants"].as_array().unwrap() {
            for control in variant["controls"].as_array().unwrap() {
                let Some(check) = control["red"]["check"].as_str() else { continue };
                let without = control["id"].as_str().unwrap().trim_start_matches("without-").to_owned();
                let kind = control["red"]["kind"].as_str().unwrap().to_owned();
                let name = format!("{}/{}", scenario["id"].as_str().unwrap(), variant["id"].as_str().unwrap());
                found.entry(check.to_owned()).or_default().entry((without, kind)).or_default().push(name);
            }
        }
    }
    found
}
