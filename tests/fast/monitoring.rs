//! Alert rules and dashboard in `deploy/`: what they ask for is what the program writes, and the rules fire and are silent as their own
//! tests say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cdc_engine::health::METRICS;
use cdc_pipeline::config::MonitorConfig;
use regex::Regex;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const RULES: &str = "deploy/prometheus/cdc-drill.rules.yaml";

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn rules() -> Vec<Value> {
    let parsed: Value = serde_saphyr::from_str(&text(RULES)).unwrap();
    parsed["groups"][0]["rules"].as_array().unwrap().clone()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/cdc-drill.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// The expressions of the dashboard with the titles of their panels.
fn drawn() -> Vec<(String, String)> {
    let title = |panel: &Value| panel["title"].as_str().unwrap().to_owned();
    let of_panel = |panel: Value| {
        let targets = panel["targets"].as_array().unwrap().clone();
        targets.into_iter().map(move |target| (title(&panel), target["expr"].as_str().unwrap().to_owned()))
    };
    panels().into_iter().flat_map(of_panel).collect()
}

/// The metrics that an expression names, with the labels that it selects by.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let metric = Regex::new(r"(cdc_drill_\w+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let of = |found: regex::Captures<'_>| {
        let labels = found.get(2).map_or("", |labels| labels.as_str());
        (found[1].to_owned(), label.captures_iter(labels).map(|label| label[1].to_owned()).collect())
    };
    metric.captures_iter(expression).map(of).collect()
}

#[test]
fn rules_and_dashboard_name_every_metric_and_no_other() {
    let known: BTreeMap<&str, &[&str]> = METRICS.iter().map(|metric| (metric.name, metric.labels)).collect();
    let of_rules = rules()
        .into_iter()
        .map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned()));
    let mut met = BTreeSet::new();
    for (place, expression) in of_rules.chain(drawn()) {
        let all = named(&expression);
        assert!(!all.is_empty(), "{place} names no metric: {expression}");
        for (metric, labels) in all {
            let there = known.get(metric.as_str()).unwrap_or_else(|| panic!("{place}: nothing writes {metric}"));
            for label in labels {
                assert!(there.contains(&label.as_str()) || label == "pipeline", "{place}: {metric} has no {label}");
            }
            met.insert(metric);
        }
    }
    let unused: Vec<&&str> = known.keys().filter(|name| !met.contains(**name)).collect();
    assert!(unused.is_empty(), "nothing shows {unused:?}");
    // Each is drawn, also what an alert looks at: who is woken wants to see it.
    let drawn: BTreeSet<String> = drawn().iter().flat_map(|(_, e)| named(e)).map(|(metric, _)| metric).collect();
    let missing: Vec<&&str> = known.keys().filter(|name| !drawn.contains(**name)).collect();
    assert!(missing.is_empty(), "the dashboard does not draw {missing:?}");
}

#[test]
fn the_page_has_every_metric_in_its_order() {
    let row = |metric: &cdc_engine::health::Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} |", metric.name, labels.join(", "), metric.help)
    };
    let page = text("docs/monitoring.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `cdc_drill_")).collect();
    assert_eq!(rows, METRICS.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn a_made_up_metric_would_be_noticed() {
    assert_eq!(
        named(r#"cdc_drill_nowhere{task="x", pipeline=~"y"} > 1 or absent(cdc_drill_other)"#),
        [
            ("cdc_drill_nowhere".to_owned(), vec!["task".to_owned(), "pipeline".to_owned()]),
            ("cdc_drill_other".to_owned(), vec![])
        ]
    );
}

/// One number for one thing: `status` and the alerts call the same age old.
#[test]
fn alerts_have_the_limits_of_status() {
    let limits = MonitorConfig::default();
    let number = Regex::new(r"> ([0-9 *]+)").unwrap();
    let limit = |alert: &str| -> u64 {
        let rules = rules();
        let rule = rules.iter().find(|rule| rule["alert"] == alert).unwrap_or_else(|| panic!("{alert}"));
        let product = number.captures(rule["expr"].as_str().unwrap()).unwrap()[1].to_owned();
        product.split('*').map(|factor| factor.trim().parse::<u64>().unwrap()).product()
    };
    assert_eq!(limit("CdcDrillBackupDidNotRun"), limits.backup_age.seconds());
    assert_eq!(limit("CdcDrillDeepCheckDidNotRun"), limits.verified_age.seconds());
    assert_eq!(limit("CdcDrillProofDidNotRun"), limits.verified_age.seconds());
    assert_eq!(limit("CdcDrillArchiverLate"), limits.archive_delay.seconds());
    assert_eq!(limit("CdcDrillSlotHoldsWal"), limits.slot_wal.as_u64());
}

#[test]
fn every_alert_is_tested_both_ways() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    let tests: Value = serde_saphyr::from_str(&text("deploy/prometheus/cdc-drill.test.yaml")).unwrap();
    for case in tests["tests"].as_array().unwrap().iter().flat_map(|t| t["alert_rule_test"].as_array().unwrap()) {
        let alert = case["alertname"].as_str().unwrap().to_owned();
        match case["exp_alerts"].as_array().unwrap().is_empty() {
            true => silent.insert(alert),
            false => fires.insert(alert),
        };
    }
    let all: BTreeSet<String> = rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!((&fires, &silent), (&all, &all));
    for rule in rules() {
        assert!(rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string(), "{rule}");
    }
}

#[test]
fn the_dashboard_has_a_panel_for_each_question() {
    let mut ids = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
    }
    assert!(ids.len() > 15);
}

/// Debian's package `prometheus` has it.
fn promtool(arguments: &[&str]) -> Option<Output> {
    match Command::new("promtool").args(arguments).current_dir(ROOT).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(
                std::env::var_os("CDC_DRILL_REQUIRE_PROMTOOL").is_none(),
                "promtool is not on this machine, and CDC_DRILL_REQUIRE_PROMTOOL is set"
            );
            eprintln!(
                "LEFT OUT: promtool is not on this machine (Debian: apt-get install prometheus); alert rules are not tested"
            );
            None
        }
        Err(error) => panic!("promtool: {error}"),
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_rules_pass_their_own_tests() {
    let Some(output) = promtool(&["check", "rules", RULES]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let tests: Vec<PathBuf> = fs::read_dir(Path::new(ROOT).join("deploy/prometheus"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".test.yaml"))
        .collect();
    assert!(!tests.is_empty());
    let mut arguments = vec!["test", "rules"];
    arguments.extend(tests.iter().map(|path| path.to_str().unwrap()));
    let output = promtool(&arguments).unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// A rule that never fires, and one that always does, fail these tests: they can fail.
#[test]
fn rules_that_are_wrong_fail_their_tests() {
    let folder = tempfile::tempdir().unwrap();
    let rules = text(RULES);
    let plants = [
        (
            "time() - cdc_drill_last_success_timestamp_seconds{task=\"backup\"} > 26",
            "time() - cdc_drill_last_success_timestamp_seconds{task=\"backup\"} > 99",
        ),
        ("or absent(cdc_drill_last_success_timestamp_seconds{task=\"drill\"})", ""),
        ("cdc_drill_wal_gaps > 0", "cdc_drill_wal_gaps >= 0"),
        ("cdc_drill_recovery_unfinished == 1\n        for: 1h", "cdc_drill_recovery_unfinished == 1\n        for: 9h"),
    ];
    fs::write(folder.path().join("cdc-drill.test.yaml"), text("deploy/prometheus/cdc-drill.test.yaml")).unwrap();
    for (right, wrong) in plants {
        assert!(rules.contains(right), "{right}");
        fs::write(folder.path().join("cdc-drill.rules.yaml"), rules.replacen(right, wrong, 1)).unwrap();
        let tests = folder.path().join("cdc-drill.test.yaml");
        let Some(output) = promtool(&["test", "rules", tests.to_str().unwrap()]) else { return };
        assert!(!output.status.success(), "`{wrong}` passes\n{}", said(&output));
    }
}

/// The expressions of the dashboard are PromQL: Grafana's own variables are given a value, and each becomes a rule that is checked.
#[test]
fn the_dashboard_asks_in_promql() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.rules.yaml");
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, (_, expression)) in drawn().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace("$pipeline", "orders");
        rules.push_str(&format!("      - record: drawn:{number}\n        expr: {}\n", serde_json::json!(expression)));
    }
    fs::write(&file, &rules).unwrap();
    let Some(output) = promtool(&["check", "rules", file.to_str().unwrap()]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    fs::write(&file, rules.replacen("time() -", "time( -", 1)).unwrap();
    assert!(!promtool(&["check", "rules", file.to_str().unwrap()]).unwrap().status.success(), "nothing is parsed");
}

/// What `status` can name is what the page explains.
#[test]
fn every_obstacle_is_explained() {
    let judge = text("crates/engine/src/health/judge.rs");
    let named = Regex::new(r#"found\.(?:blocks|unknown|risk)\(\s*"([a-z-]+)""#).unwrap();
    let named: BTreeSet<String> = named.captures_iter(&judge).map(|found| found[1].to_owned()).collect();
    assert!(named.len() > 25, "{named:?}");
    let page = text("docs/monitoring.md");
    let rows =
        page.lines().filter(|line| ["blocks", "unknown", "risk"].iter().any(|s| line.contains(&format!("| {s}"))));
    let rows: String = rows.collect();
    let missing: Vec<&String> = named.iter().filter(|id| !rows.contains(&format!("`{id}`"))).collect();
    assert!(missing.is_empty(), "docs/monitoring.md does not explain {missing:?}");
}
