//! The same scenarios in containers: same checks, same verdicts, same counts, and nothing left behind. Where no Docker engine
//! answers, these drills are left out and say so; with `CDC_DRILL_REQUIRE_DOCKER` that is a failure.
//!
//! Images are those that the environment names, else the stand-ins of `fixtures/docker/build.sh`.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
};

use rstest::rstest;
use serde_json::{Value, json};

use super::{PROGRAM, Run, all_gone, essence, killed_in_the_middle, passed, processes_of, started};

const STAND_INS: &str = include_str!("../../fixtures/docker/stand-ins.env");
/// The other version of PostgreSQL.
const OLDER: (&str, &str) = ("CDC_DRILL_IMAGE_POSTGRES", "cdc-drill/postgres:15");
/// One whole drill a playbook.
const DRILLS: [&str; 3] = ["heap-pages-killed", "dropped-when-needed", "registry-lost"];

fn docker(arguments: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().ok()?;
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    output.status.success().then_some(lines)
}

/// The images to run on; none where no engine answers.
pub(crate) fn images() -> Option<Vec<(&'static str, &'static str)>> {
    if docker(&["info"]).is_some() {
        let all = STAND_INS.lines().filter_map(|line| line.split_once('='));
        return Some(all.filter(|(name, _)| std::env::var_os(name).is_none()).collect());
    }
    let required = std::env::var_os("CDC_DRILL_REQUIRE_DOCKER").is_some();
    assert!(!required, "CDC_DRILL_REQUIRE_DOCKER is set, and no Docker engine answers");
    // Not by a macro: the test harness would keep that to itself.
    let said = format!("no Docker engine answers: left out in containers: {}, and PostgreSQL 15\n", DRILLS.join(", "));
    let _ = std::io::stderr().write_all(said.as_bytes());
    None
}

fn arguments(drills: &[&'static str]) -> Vec<&'static str> {
    let only = drills.iter().flat_map(|drill| ["--only", drill]);
    ["--backend", "docker"].into_iter().chain(only).collect()
}

/// Without controls: that a check notices what is left out does not depend on where servers run.
fn uncontrolled(drills: &[&'static str]) -> Vec<&'static str> {
    [arguments(drills), vec!["--without-controls"]].concat()
}

fn run() -> Option<&'static Run> {
    static RUN: OnceLock<Option<Run>> = OnceLock::new();
    RUN.get_or_init(|| images().map(|images| started(&uncontrolled(&DRILLS), &images))).as_ref()
}

/// What the same drill says of native processes, without its controls.
fn native(scenario: &str, variant: &str) -> Value {
    let snapshots = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/snapshots");
    let text = std::fs::read_to_string(format!("{snapshots}/live__{scenario}--{variant}.snap")).unwrap();
    let mut native: Value = serde_json::from_str(text.splitn(3, "---\n").last().unwrap()).unwrap();
    native["controls"] = json!([]);
    native
}

/// Containers and networks of a run, volumes of any, and the run's supervisors.
fn left_of(run: &str) -> Vec<String> {
    let mut left = processes_of(run);
    let filter = format!("label=cdc-drill.stack=cdc-drill-{run}");
    for listing in [
        vec!["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"],
        vec!["network", "ls", "--filter", &filter, "--format", "{{.Name}}"],
        vec!["volume", "ls", "--filter", "label=cdc-drill.stack", "--format", "{{.Name}}"],
    ] {
        left.extend(docker(&listing).expect("the engine still answers"));
    }
    left
}

#[rstest]
#[case::coordinated("database-corruption", "heap-pages-killed")]
#[case::slot("slot-loss", "dropped-when-needed")]
#[case::schema("schema-conflict", "registry-lost")]
fn containers_give_the_same_verdicts_and_counts(#[case] scenario: &str, #[case] variant: &str) {
    if let Some(run) = run() {
        let drill = essence::essence(passed(run, scenario, variant));
        assert_eq!(serde_json::from_str::<Value>(&drill).unwrap(), native(scenario, variant));
    }
}

#[test]
fn no_container_network_or_volume_is_left_behind() {
    let Some(run) = run() else { return };
    let left = left_of(run.report["run"].as_str().unwrap());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_older_postgresql_gives_the_same_verdicts() {
    let Some(mut images) = images() else { return };
    images.push(OLDER);
    // Pages, WAL and slots are the server's; the registry's drill knows nothing of its version.
    let drills = &DRILLS[..2];
    let run = started(&uncontrolled(drills), &images);
    assert_eq!(run.exit, Some(0), "{}", run.said);
    assert_eq!(run.report["drills"].as_array().unwrap().len(), drills.len());
    let log = run.folder.join("logs");
    let servers = std::fs::read_dir(log).unwrap().flatten().map(|entry| entry.path().join("postgres.log"));
    let versions: Vec<String> = servers.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    assert!(!versions.is_empty() && versions.iter().all(|text| text.contains("starting PostgreSQL 15.")));
}

#[tokio::test]
async fn nothing_in_containers_survives_a_run_that_is_killed() {
    let Some(images) = images() else { return };
    let run = killed_in_the_middle(&["--backend", "docker"], &images, |run| {
        let running = left_of(run);
        assert!(running.len() >= 9, "four containers, their supervisors and the network: {running:?}");
    })
    .await;
    all_gone(|| left_of(&run)).await;
    std::fs::remove_dir_all(std::env::temp_dir().join(format!("cdc-drill-{run}"))).unwrap();
}

#[test]
fn a_dead_engine_is_an_error_that_names_the_way_without() {
    let output = Command::new(PROGRAM)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--backend", "docker", "--only", "dropped-initial", "--report-dir"])
        .arg(tempfile::tempdir().unwrap().path())
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(20), "{said}");
    assert!(said.contains("no Docker engine answers") && said.contains("--backend local"), "{said}");
}
