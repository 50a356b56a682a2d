//! Mistakes and dead servers that only show where something runs: each ends with its exit code and says what is wrong,
//! nothing is lost, and nothing is left running.

use std::{net::TcpListener, process::Command};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::{
    PROGRAM,
    attach::{Stack, cdc_drill, expect},
    prepared::folder,
    processes_of,
    sandbox::cdc_drill_with,
};

#[test]
fn a_port_in_use_is_told_before_anything_is_started() {
    let (_folder, path) = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = expect(20, &format!("stack up --dir {path}/stack --port kafka={port}"), "Address already in use");
    assert!(said.err.contains(&port.to_string()), "{}", said.err);
    assert!(!path.join("stack").exists(), "a stack that never was leaves no folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_nowhere_and_servers_that_are_dead_lose_nothing() {
    let (_folder, path) = folder();
    let stack = Stack::up(path.join("stack"), "--registry h2");
    stack.pipeline("shop").await;
    let file = stack.file();
    expect(0, &format!("backup create --config {file}"), "");
    let rows = || async { stack.sql("shop").await.text("select count(*) from orders").await.unwrap() };
    for (target, part) in [
        ("time:2020-01-01T00:00:00Z", "every recovery point ended after it"),
        ("time:2020-01-01T00:00:00Z", "the earliest target that this repository can reach is --target time:20"),
        ("lsn:0/100", "the earliest target that this repository can reach is --target lsn:"),
        ("lsn:FF/0", "the last record of timeline 1"),
        ("time:2099-01-01T00:00:00Z", "no transaction committed after it"),
        ("name:nowhere", "no such restore point in the WAL since the first recovery point: there are `cdc_"),
    ] {
        expect(40, &format!("recover plan coordinated --config {file} --target {target}"), part);
        expect(40, &format!("recover run coordinated --config {file} --target {target} --yes"), part);
        assert_eq!(rows().await.as_deref(), Some("200"), "{target}: the server goes on");
    }
    expect(0, &format!("verify --config {file}"), "");
    dead_servers(&stack, &path).await;
    assert_eq!(rows().await.as_deref(), Some("200"));
}

/// Each server is stopped, what needs it is refused, and once it is back a recovery makes the pipeline whole.
async fn dead_servers(stack: &Stack, path: &Utf8Path) {
    let (file, dir) = (stack.file(), path.join("stack"));
    let points = || {
        let listed: Value =
            serde_json::from_str(&expect(0, &format!("backup list --config {file} --json"), "").out).unwrap();
        listed.as_array().unwrap().len()
    };
    let backup = format!("backup create --config {file}");
    let recover = format!("recover run slot --config {file} --yes");
    assert_eq!(points(), 1);

    expect(0, &format!("stack stop postgres --dir {dir}"), "");
    expect(13, &backup, "postgres at");
    expect(40, &recover, "the source server");
    let said = cdc_drill(&format!("verify --config {file} --deadline 2s"));
    assert_eq!(said.exit, 10, "{}", said.err);
    assert!(said.err.contains("dead postgres"), "{}", said.err);
    expect(0, &format!("stack start postgres --dir {dir}"), "");

    expect(0, &format!("stack stop registry --dir {dir}"), "");
    expect(13, &backup, "registry at");
    // Without it the topics that the recovery empties could not be filled again: it leaves them as they are.
    expect(13, &recover, "registry at");
    expect(0, &format!("stack start registry --dir {dir}"), "");
    expect(0, &format!("verify --config {file}"), "the topics hold what the tables hold");
    assert_eq!(points(), 1, "a backup that failed is no recovery point");
    expect(0, &recover, "the topics hold what the tables hold");
}

const SCENARIO: &str = "
version: 1
id: refused
title: A connector that the worker does not take
pipeline: { schema: people.sql, connector: connector.json }
workload: { sql: { transactions: [ { name: add, statements: ['insert into people values ({n})'] } ] } }
variants:
  one:
    steps: [ { load: { transactions: 5 } } ]
    checks: [state]
";

const CONNECTOR: &str = r#"{ "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1",
  "table.include.list": "public.people", "plugin.name": "pgoutput", "max.batch.size": "many" }"#;

#[test]
fn a_connector_that_fails_validation_ends_its_drill_and_leaves_nothing() {
    let (_folder, path) = folder();
    for (name, text) in [
        ("refused.yaml", SCENARIO),
        ("people.sql", "create table people (id bigint primary key);"),
        ("connector.json", CONNECTOR),
    ] {
        std::fs::write(path.join(name), text).unwrap();
    }
    let output = Command::new(PROGRAM)
        .args(["run", "--json", "--report-dir", path.join("reports").as_str(), path.join("refused.yaml").as_str()])
        .envs([("CDC_DRILL_BIN", PROGRAM), ("TMPDIR", path.as_str())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("connector.json") && said.contains("max.batch.size"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["exit_code"], 3);
    let run = report["run"].as_str().unwrap();
    assert!(processes_of(run).is_empty(), "{:?}", processes_of(run));
    // A drill that is not green keeps its data folders and names them.
    assert!(path.join(format!("cdc-drill-{run}")).exists(), "{said}");
}

/// A scenario on the example's files, with these in the place of its own: pairs of name and text.
fn scenario(folder: &Utf8Path, replaced: &[(&str, &str, &str)]) -> Utf8PathBuf {
    let example = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own-pipeline");
    std::fs::create_dir_all(folder.join("sql")).unwrap();
    for file in ["connector.json", "sql/clinic.sql", "sql/seed.sql"] {
        let mut text = std::fs::read_to_string(example.join(file)).unwrap();
        for (_, from, to) in replaced.iter().filter(|(of, ..)| *of == file) {
            assert!(text.contains(from), "{file}: {from}");
            text = text.replace(from, to);
        }
        std::fs::write(folder.join(file), text).unwrap();
    }
    let path = folder.join("mine.yaml");
    let text = "version: 1\nid: mine\ntitle: Somebody's first try\npipeline: { schema: sql/clinic.sql, connector: connector.json }\n\
        workload: { sql: { seed-file: sql/seed.sql, transactions: [ { name: book, statements: [update clinic.rooms set bookings = 1] } ] } }\n\
        variants: { loaded: { title: Something is loaded, steps: [ load: { transactions: 5 } ], checks: [state] } }\n";
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_only_a_server_can_tell_of_a_scenario_s_files_is_bad_input_and_named() {
    let (_folder, path) = folder();
    let said = |name: &str, replaced: &[(&str, &str, &str)], part: &str| {
        let file = scenario(&path.join(name), replaced);
        expect(0, &format!("scenario check {file}"), "good: 1 drill");
        // A drill that is not green keeps its data folders: they go with the test's.
        let run = cdc_drill_with(&format!("run {file} --report-dir {path}/reports"), &[("TMPDIR", path.as_str())]);
        assert_eq!(run.exit, 3, "{}", run.err);
        assert!(run.err.contains(part), "no `{part}` in\n{}", run.err);
        run
    };
    let replaced = [("sql/seed.sql", "'missed'])[1 + i", "'missed'])[1 + j")];
    let seed = said("seed", &replaced, "sql/seed.sql, line 9: `insert into clinic.visits");
    assert!(seed.err.contains(r#"column "j" does not exist"#), "{}", seed.err);
    let twice = [("sql/seed.sql", "'room-' || i, i % 3", "'room-1', i % 3")];
    let unplaced = said("twice", &twice, "sql/seed.sql, line 2: `insert into clinic.rooms");
    assert!(unplaced.err.contains("duplicate key"), "the server gives no position: {}", unplaced.err);
    let table =
        said("table", &[("connector.json", "clinic.payments\"", "clinic.payment\"")], "found no `clinic.payment`");
    assert!(table.err.contains("hint: did you mean `clinic.payments`?"), "{}", table.err);
}
