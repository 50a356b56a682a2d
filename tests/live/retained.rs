//! Retention and budget while a server writes: a minute of what `just retention` does for an hour.

use std::process::{Command, Output};

use super::PROGRAM;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/retention.py");

fn script(words: &[&str]) -> Output {
    Command::new("python3").arg(SCRIPT).args(words).env("CDC_DRILL_BIN", PROGRAM).output().unwrap()
}

#[test]
fn a_repository_stays_within_its_budget_and_every_point_that_is_left_restores() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("cdc-drill");
    // Where the server's account can reach it.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::copy(PROGRAM, &program).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (dir, report) = (path("stack"), path("report.json"));
    let ran = script(&[
        "--program",
        program.to_str().unwrap(),
        "--dir",
        &dir,
        "--seconds",
        "30",
        "--every",
        "5",
        "--keep",
        "3",
        "--budget",
        "64 MiB",
        "--rate",
        "200",
        "--scale",
        "1",
        "--report",
        &report,
    ]);
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(said.contains("points taken"), "{said}");
    // The judgement can fail: of a budget that was not kept, and of a point that restores to something else.
    let red = script(&["--judge", &report, "--budget", "1 MiB"]);
    assert_eq!(red.status.code(), Some(1), "{red:?}");
    assert!(String::from_utf8_lossy(&red.stdout).contains("over the budget"), "{red:?}");
    let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let restored = changed["restored"].as_object_mut().unwrap();
    *restored.values_mut().next().unwrap() = "0|0|0|0|7".into();
    std::fs::write(&report, changed.to_string()).unwrap();
    let red = script(&["--judge", &report]);
    assert_eq!(red.status.code(), Some(1), "{red:?}");
    assert!(String::from_utf8_lossy(&red.stdout).contains("restores to 0|0|0|0|7"), "{red:?}");
}
