//! The drills on a real stack. All run once, as `cdc-drill run` runs them; each test then looks at one drill's part of the
//! report. Counts in the snapshots are not redacted: one that changes is a finding.
//!
//! With `CDC_DRILL_LIVE_REPORT=reports/<run>` nothing is run: the tests look at what that run reported.

// Also in helpers, which are no `#[test]` to the lint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alternating;
mod archiver;
mod archiving;
mod attach;
mod backward;
mod bucket;
mod captured;
mod cluster;
mod containers;
mod down;
mod dropped;
mod encrypted;
mod engine;
mod essence;
mod full_disk;
mod incremental;
mod interrupted;
mod layouts;
mod lent;
mod limited;
mod login;
mod looked;
mod monitored;
mod newcomer;
mod object_server;
mod operated;
mod parts;
mod parts_interrupted;
mod prefixes;
mod prepared;
mod proofs;
mod refusals;
mod registry_client;
mod registry_store;
mod resolver;
mod retained;
mod safekeeping;
mod sandbox;
mod secure;
mod sinks;
mod targets;
mod topics;
mod unexercised;
mod verdicts;
mod watched;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use cdc_pipeline::client::wait;
use serde_json::Value;

/// The program under test, which is also what archives WAL and supervises servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");

/// One run of everything.
struct Run {
    exit: Option<i32>,
    report: Value,
    folder: PathBuf,
    said: String,
}

fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        if let Some(folder) = std::env::var_os("CDC_DRILL_LIVE_REPORT") {
            return reported(PathBuf::from(folder));
        }
        // What `run` takes by itself, and the examples.
        started(
            &[
                "database-corruption",
                "slot-loss",
                "schema-conflict",
                "topics-lost",
                "own-runbook",
                "chinook",
                "chinook-two",
            ],
            &[],
        )
    })
}

/// Runs drills by the command line, three at a time: a fourth would make every wait longer in an unoptimized build, and
/// deadlines are part of what is tested.
fn started(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reports = root.join("target/live-reports");
    let output = Command::new(PROGRAM)
        .current_dir(root)
        .args(["run", "--json", "--jobs", "3", "--report-dir"])
        .arg(&reports)
        .args(arguments)
        .env("NO_COLOR", "1")
        .envs(environment.iter().copied())
        .output()
        .expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Whoever reads a failed CI run has only this.
    eprintln!("{said}");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("report.json on standard output: {e}; standard error:\n{said}"));
    let folder = reports.join(report["run"].as_str().unwrap_or_default());
    Run { exit: output.status.code(), report, folder, said }
}

/// A run that was made before.
fn reported(folder: PathBuf) -> Run {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("a folder with report.json");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let exit = report["exit_code"].as_i64().map(|code| code as i32);
    Run { exit, report, folder, said: String::new() }
}

fn drill<'a>(run: &'a Run, scenario: &str, variant: &str) -> &'a Value {
    let drills = run.report["drills"].as_array().expect("a list of drills");
    let found = drills.iter().find(|d| d["scenario"] == scenario && d["variant"] == variant);
    found.unwrap_or_else(|| panic!("{scenario}/{variant} is not in the report"))
}

/// Requires that the drill recovered and its controls were found out, with the same counts as ever.
fn proven(run: &Run, scenario: &str, variant: &str) {
    let drill = passed(run, scenario, variant);
    insta::assert_snapshot!(format!("{scenario}--{variant}"), essence::essence(drill));
}

/// Requires that the drill recovered, wherever it ran.
fn passed<'a>(run: &'a Run, scenario: &str, variant: &str) -> &'a Value {
    let drill = drill(run, scenario, variant);
    let text = serde_json::to_string_pretty(drill).unwrap();
    assert_eq!(drill["verdict"], "passed", "{text}");
    assert_eq!(drill["fault"]["landed"], "confirmed", "{text}");
    for check in drill["checks"].as_array().unwrap() {
        assert_eq!(check["verdict"], "passed", "{text}");
        assert_ne!(check["compared"], 0, "{text}");
    }
    for control in drill["controls"].as_array().unwrap() {
        assert_eq!(control["verdict"], "passed", "{text}");
    }
    drill
}

/// The drills take longer than anything else and leave much of the machine free: they begin before the other tests, which run
/// beside them, and [`verdicts`] looks at them in the end. Tests run in the order of their names.
#[test]
fn a_run_begins_beside_the_other_tests() {
    let drills = std::thread::Builder::new().name("drills".to_owned()).spawn(|| run().exit);
    assert!(drills.is_ok(), "{drills:?}");
}

/// The command lines of processes that have to do with a run.
fn processes_of(run: &str) -> Vec<String> {
    processes_with(&format!("cdc-drill-{run}"))
}

/// The command lines that contain this text.
fn processes_with(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    });
    lines.filter(|line| line.contains(mark)).collect()
}

/// A drill whose servers all run, and whose connector streams; then it is killed.
async fn killed_in_the_middle(arguments: &[&str], environment: &[(&str, &str)], before: impl FnOnce(&str)) -> String {
    let reports = tempfile::tempdir().unwrap();
    let mut child = Command::new(PROGRAM)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--only", "slot-loss/dropped-initial", "--without-controls", "--report-dir"])
        .arg(reports.path())
        .args(arguments)
        .envs(environment.iter().copied())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = || {
        let run = std::fs::read_dir(reports.path()).ok()?.flatten().next()?.file_name().into_string().ok()?;
        let events = std::fs::read_to_string(reports.path().join(&run).join("events.jsonl")).ok()?;
        events.contains(r#""step-finished":{"step":"prepare""#).then_some(run)
    };
    let run = wait::until("the drill to be prepared", sandbox::DEADLINE, || async {
        Ok::<_, std::convert::Infallible>(begun().map_or(wait::Poll::NotYet("not yet".into()), wait::Poll::Ready))
    });
    let run = run.await.unwrap();
    before(&run);
    child.kill().unwrap();
    child.wait().unwrap();
    run
}

/// Waits until `left` names nothing more.
async fn all_gone(left: impl Fn() -> Vec<String>) {
    wait::until("everything to end", sandbox::DEADLINE, || async {
        let left = left();
        Ok::<_, std::convert::Infallible>(match left.is_empty() {
            true => wait::Poll::Ready(()),
            false => wait::Poll::NotYet(left.join("; ")),
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nothing_survives_a_run_that_is_killed() {
    let run = killed_in_the_middle(&[], &[], |run| {
        let running = processes_of(run);
        assert!(running.len() >= 4, "servers and their supervisors: {running:?}");
    })
    .await;
    all_gone(|| processes_of(&run)).await;
    std::fs::remove_dir_all(std::env::temp_dir().join(format!("cdc-drill-{run}"))).unwrap();
}
