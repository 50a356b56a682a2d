//! What the run of all drills reported.

use std::{path::Path, process::Command};

use rstest::rstest;
use serde_json::json;

use super::{PROGRAM, processes_of, proven, run};

#[rstest]
#[case::logical_disaster("database-corruption", "logical-disaster")]
#[case::heap_pages("database-corruption", "heap-pages")]
#[case::heap_pages_killed("database-corruption", "heap-pages-killed")]
#[case::second_recovery("database-corruption", "second-recovery")]
#[case::writers_continue("database-corruption", "writers-continue")]
#[case::no_data_connector("database-corruption", "no-data-connector")]
#[case::publication_gap("database-corruption", "publication-gap")]
#[case::schema_history("database-corruption", "schema-history")]
#[case::pgbench("database-corruption", "pgbench")]
#[case::dropped_initial("slot-loss", "dropped-initial")]
#[case::dropped_when_needed("slot-loss", "dropped-when-needed")]
#[case::dropped_no_data("slot-loss", "dropped-no-data")]
#[case::dropped_compensate("slot-loss", "dropped-compensate")]
#[case::invalidated("slot-loss", "invalidated")]
#[case::int_to_text_reject("schema-conflict", "int-to-text-reject")]
#[case::set_not_null_accept("schema-conflict", "set-not-null-accept")]
#[case::subject_deleted("schema-conflict", "subject-deleted")]
#[case::levels_changed("schema-conflict", "levels-changed")]
#[case::registry_lost("schema-conflict", "registry-lost")]
#[case::topic_deleted("topics-lost", "deleted")]
#[case::topic_truncated("topics-lost", "truncated")]
#[case::topic_deleted_resnapshot("topics-lost", "deleted-resnapshot")]
#[case::topic_truncated_resnapshot("topics-lost", "truncated-resnapshot")]
#[case::own_runbook_delete("own-runbook", "delete-without-where")]
#[case::chinook_deleted("chinook", "invoice-lines-deleted")]
#[case::chinook_slot("chinook", "slot-dropped")]
#[case::two_connectors_back("chinook-two", "both-back")]
#[case::two_connectors_slot("chinook-two", "one-slot-dropped")]
#[case::own_runbook_killed("own-runbook", "server-killed")]
fn a_drill_is_green_and_its_controls_are_red(#[case] scenario: &str, #[case] variant: &str) {
    proven(run(), scenario, variant);
}

#[test]
fn the_run_is_green_and_its_reports_are_complete() {
    let run = run();
    assert_eq!(run.exit, Some(0), "{}", run.said);
    assert_eq!(run.report["verdict"], "passed");
    for file in ["events.jsonl", "report.json", "junit.xml", "report.html"] {
        let path = run.folder.join(file);
        let size = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).len();
        assert!(size > 0, "{} is empty", path.display());
    }
}

#[test]
fn at_least_three_controls_are_silent() {
    let drills = run().report["drills"].as_array().unwrap();
    let controls = drills.iter().flat_map(|d| d["controls"].as_array().unwrap());
    let silent = controls.filter(|c| c["silent"] == json!(true) && c["verdict"] == "passed").count();
    assert!(silent >= 3, "only {silent} silent controls");
}

#[test]
fn reports_can_be_made_again_from_the_events() {
    let run = run();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(run.folder.join("events.jsonl"), elsewhere.path().join("events.jsonl")).unwrap();
    let made = Command::new(PROGRAM).arg("report").arg(elsewhere.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["report.json", "junit.xml", "report.html"] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(elsewhere.path()), read(&run.folder), "{file}");
    }
}

#[test]
fn no_server_is_left_behind() {
    let left = processes_of(run().report["run"].as_str().unwrap());
    assert!(left.is_empty(), "still running:\n{}", left.join("\n"));
}
