//! The licence of every package that the program is made of is one that `deny.toml` allows, and every package comes from the registry.
//! `just deny` asks the tool itself, which knows more.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use spdx::{Expression, ParseMode};

#[test]
fn every_package_has_a_licence_that_is_allowed() {
    let root = env!("CARGO_MANIFEST_DIR");
    let rules: toml::Table = std::fs::read_to_string(format!("{root}/deny.toml")).unwrap().parse().unwrap();
    let target = rules["graph"]["targets"][0].as_str().unwrap();
    let allowed: Vec<&str> =
        rules["licenses"]["allow"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", target])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let used = used_by_members(&metadata);
    assert!(used.len() > 100, "only {} packages were looked at", used.len());
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| used.contains(package["id"].as_str().unwrap())) {
        let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        let licence = package["license"].as_str().unwrap_or_default();
        match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(terms) => {
                let is_allowed = |term: &spdx::LicenseReq| allowed.contains(&term.to_string().as_str());
                if !terms.evaluate(is_allowed) {
                    wrong.push(format!("{name}: {licence} is not allowed"));
                }
            }
            Err(error) => wrong.push(format!("{name}: licence `{licence}`: {error}")),
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            wrong.push(format!("{name}: expected a package of the registry, found {source:?}"));
        }
    }
    assert!(wrong.is_empty(), "by deny.toml:\n{}", wrong.join("\n"));
}

/// The ids of the workspace's members and of all that they need but for their tests.
fn used_by_members(metadata: &Value) -> BTreeSet<&str> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut next: Vec<&str> = members.iter().filter_map(Value::as_str).collect();
    let mut used = BTreeSet::new();
    while let Some(id) = next.pop() {
        if used.insert(id) {
            let node = nodes.iter().find(|node| node["id"] == id).unwrap();
            let is_for_tests = |dependency: &&Value| {
                dependency["dep_kinds"].as_array().unwrap().iter().all(|kind| kind["kind"] == "dev")
            };
            let needed = node["deps"].as_array().unwrap().iter().filter(|dependency| !is_for_tests(dependency));
            next.extend(needed.filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    used
}
