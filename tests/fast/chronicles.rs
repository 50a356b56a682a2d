//! Judges live drills again from the chronicles that they left, without a stack. `just chronicles` makes the files anew.

use camino::Utf8PathBuf;
use cdc_harness::run::{Outcome, Record, RecordError};
use cdc_model::{
    event::CheckReport,
    units::{Exit, Verdict},
};
use rstest::rstest;
use serde_json::{Value, json};

/// A drill that is green, and a control of it that is red.
const GREEN: &str = "to-a-mark";
const RED: &str = "to-a-mark+without-delete-topics";

fn text(name: &str) -> String {
    let folder = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/chronicles");
    let packed = std::fs::read(folder.join(format!("{name}.json.zst"))).unwrap();
    String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap()
}

/// As many findings as a report holds of a check: it may hold others of the same.
const FINDINGS_MAX: usize = 20;

/// Checks without the order of their findings, and without those that were chosen from more.
fn comparable(checks: &[CheckReport]) -> Vec<CheckReport> {
    let sorted = |check: &CheckReport| {
        let mut check = check.clone();
        if check.findings.len() >= FINDINGS_MAX {
            check.findings.clear();
        }
        check.findings.sort_by_key(|finding| format!("{finding:?}"));
        check
    };
    checks.iter().map(sorted).collect()
}

#[rstest]
#[case(GREEN, Exit::Passed)]
#[case(RED, Exit::Passed)]
fn a_drill_is_judged_as_it_was(#[case] name: &str, #[case] exit: Exit) {
    let record = Record::parse(&text(name)).unwrap();
    let (checks, outcome) = record.judged();
    assert_eq!(comparable(&checks), comparable(&record.checks));
    assert_eq!(outcome, record.outcome);
    assert_eq!(outcome.exit, exit);
    assert!(checks.len() == 12 && checks.iter().all(|check| check.compared > 0), "{checks:?}");
}

#[test]
fn the_control_is_red_as_named() {
    let (checks, outcome) = Record::parse(&text(RED)).unwrap().judged();
    let ghosts = checks.iter().find(|check| check.id == "ghosts").unwrap();
    assert!(ghosts.verdict == Verdict::Failed && ghosts.findings_total > 0);
    let control = outcome.control.unwrap();
    assert!(
        control.red
            && control.verdict == Verdict::Passed
            && control.confirmation.as_ref().is_some_and(|said| said.is_confirmed()),
        "{control:?}"
    );
}

/// The drill with something else in its file.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (Vec<String>, Outcome) {
    let mut json: Value = serde_json::from_str(&text(name)).unwrap();
    let before = json.clone();
    change(&mut json);
    assert_ne!(json, before, "the change has changed nothing");
    let (checks, outcome) = Record::parse(&json.to_string()).unwrap().judged();
    let failed = checks.into_iter().filter(|check| check.verdict != Verdict::Passed).map(|check| check.id);
    (failed.collect(), outcome)
}

fn fact<'j>(json: &'j mut Value, name: &str) -> &'j mut Value {
    let facts = json["chronicle"]["facts"].as_array_mut().unwrap();
    facts.iter_mut().find_map(|fact| fact.get_mut(name)).unwrap()
}

/// Each of these is another drill, with the same observation: what is expected decides.
#[rstest]
// Everything after the mark is expected too, and it is gone.
#[case::nothing_was_to_be_given_up(|json: &mut Value| fact(json, "recovered")["end"] = json!("kept"), &["restored-to-target"])]
// What was committed between this position and the mark is there, and must not be.
#[case::a_mark_before_the_mark(
    |json: &mut Value| fact(json, "recovered")["end"]["mark"]["mark"]["lsn"] = json!("0/1"), &["restored-to-target", "ghosts"])]
#[case::a_group_that_was_made_after_the_recovery(
    |json: &mut Value| {
        let facts = json["chronicle"]["facts"].as_array_mut().unwrap();
        let group = facts.iter().position(|fact| fact.get("group-made").is_some()).unwrap();
        let made = facts.remove(group);
        facts.push(made);
    },
    &["positions"])]
#[case::a_point_without_the_registrys_versions(
    |json: &mut Value| {
        let subjects = fact(json, "point-read")["view"]["registry"]["subjects"].as_object_mut().unwrap();
        subjects.values_mut().for_each(|subject| subject["versions"] = json!({}));
        json["chronicle"]["facts"].as_array_mut().unwrap().retain(|fact| fact.get("registry-before-fault").is_none());
    },
    &["compatibility"])]
#[case::topics_with_other_settings(
    |json: &mut Value| json["chronicle"]["terms"]["topic_settings"]["retention.ms"] = json!("7"), &["positions"])]
fn another_chronicle_has_another_verdict(#[case] change: fn(&mut Value), #[case] failed: &[&str]) {
    let (found, outcome) = changed(GREEN, change);
    assert_ne!(outcome.exit, Exit::Passed);
    for check in failed {
        assert!(found.iter().any(|id| id == check), "{check} should see it: {found:?}");
    }
}

#[test]
fn a_control_that_nobody_confirms_is_not_red_as_named() {
    let (_, outcome) = changed(RED, |json| json["evidence"]["confirmed"] = json!({ "refuted": "the row is there" }));
    assert_eq!(outcome.exit, Exit::Inconclusive);
    let (_, outcome) = changed(RED, |json| json["evidence"]["confirmed"] = Value::Null);
    assert_eq!(outcome.exit, Exit::Inconclusive);
}

#[test]
fn an_objective_is_judged_again() {
    let (_, outcome) = changed(GREEN, |json| json["chronicle"]["terms"]["objectives"]["rto_seconds"] = json!(0.001));
    assert_eq!(outcome.exit, Exit::ObjectiveMissed);
}

#[test]
fn a_drill_that_saw_nothing_is_inconclusive() {
    let (failed, outcome) = changed(GREEN, |json| json["evidence"] = Value::Null);
    assert_eq!((failed.len(), outcome.exit), (0, Exit::Inconclusive));
}

#[test]
fn no_secret_is_in_the_files() {
    let with_password = regex::Regex::new(r"://[^/@\s:]+:[^@/\s]+@").unwrap();
    for name in [GREEN, RED] {
        let text = text(name);
        let json: Value = serde_json::from_str(&text).unwrap();
        let configs = [
            &json["chronicle"]["layout"]["sources"][0]["config"],
            &json["evidence"]["seen"]["connectors"][0]["config"],
        ];
        for config in configs {
            assert_eq!(config["database.password"], "<secret 1>", "both are the same one");
        }
        assert!(!with_password.is_match(&text), "an address with a password");
    }
}

#[test]
fn another_format_is_refused() {
    let error = Record::parse(r#"{ "format": 99, "anything": [] }"#).unwrap_err();
    assert!(matches!(error, RecordError::Format { found: 99 }), "{error}");
    assert!(Record::parse(r#"{ "format": 1 }"#).is_err());
}
