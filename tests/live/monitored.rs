//! `status`, its exit code and its metrics beside a pipeline to which one thing after the other happens, and what the `[notify]` command
//! hears of it.

use std::{collections::BTreeMap, fs, process::Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_pipeline::client::connect::Connect;
use serde_json::Value;

use super::{
    archiving::{archive_with, comes, finish},
    prepared::folder,
    sandbox::{DEADLINE, Stack, cdc_drill, cdc_drill_with, expect},
};

/// The pipeline, its configuration with `[monitor]` and `[notify]`, and where metrics and events go.
struct Watched {
    stack: Stack,
    config: Utf8PathBuf,
    metrics: Utf8PathBuf,
    events: Utf8PathBuf,
}

/// What `status` said in its three ways.
struct Seen {
    exit: i32,
    said: String,
    json: Value,
    numbers: BTreeMap<String, f64>,
}

impl Watched {
    /// Writes the configuration anew, with other limits.
    fn with(&self, more: &str) {
        let own = fs::read_to_string(self.stack.file()).unwrap();
        let text = format!(
            "{own}\n[notify]\ncommand = \"cat >> {}\"\non = \"all\"\n[monitor]\npipeline = \"orders\"\n{more}",
            self.events
        );
        fs::write(&self.config, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&self.config, mode).unwrap();
    }

    fn status(&self) -> Seen {
        let Watched { config, metrics, .. } = self;
        let said = cdc_drill(&format!("status --config {config}"));
        let json = cdc_drill(&format!("status --config {config} --json --metrics {metrics}"));
        assert_eq!(said.exit, json.exit, "{}", said.err);
        Seen {
            exit: said.exit,
            said: said.err,
            json: serde_json::from_str(&json.out).unwrap(),
            numbers: numbers(&fs::read_to_string(metrics).unwrap()),
        }
    }

    /// The last event.
    fn event(&self) -> Value {
        let text = fs::read_to_string(&self.events).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

impl Seen {
    #[track_caller]
    fn is(&self, exit: i32, recoverable: &str, obstacle: Option<&str>) {
        let all = format!("{}\n{:#}", self.said, self.json["obstacles"]);
        assert_eq!((self.exit, &self.json["exit_code"]), (exit, &exit.into()), "{all}");
        assert!(self.said.contains(&format!("recoverable: {recoverable}")), "{all}");
        assert_eq!(self.json["recoverable"], recoverable, "{all}");
        for answer in ["yes", "no", "unknown"] {
            let number = self.number(&format!("cdc_drill_recoverable{{answer=\"{answer}\"}}"));
            assert_eq!(number, Some(if answer == recoverable { 1.0 } else { 0.0 }), "{answer}: {all}");
        }
        let ids: Vec<&str> =
            self.json["obstacles"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap()).collect();
        match obstacle {
            None => assert!(ids.is_empty() && self.said.contains("nothing stands in the way"), "{all}"),
            Some(id) => assert!(ids.contains(&id) && self.said.contains(&format!("{id}: ")), "no {id}: {all}"),
        }
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }
}

/// Each number of a file by its metric and labels, but for the pipeline's.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.contains("pipeline=\"orders\""), "{line}");
            let name = name.replace(",pipeline=\"orders\"", "").replace("pipeline=\"orders\",", "");
            (name.replace("{pipeline=\"orders\"}", ""), value.parse().unwrap())
        })
        .collect()
}

fn archived(name: &str) -> String {
    format!("select last_archived_wal >= '{name}' from pg_stat_archiver")
}

/// The object of a segment in the archive.
fn object(repository: &Utf8Path, segment: &str) -> Utf8PathBuf {
    let mut folders = vec![repository.join("wal")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path().to_owned());
            } else if entry.file_name().starts_with(segment) {
                return entry.path().to_owned();
            }
        }
    }
    panic!("{segment} is not archived");
}

/// Prometheus's own reader takes the file, where it is there.
fn is_understood(file: &Utf8Path) {
    let command = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(command) = command else {
        eprintln!("LEFT OUT: promtool is not on this machine (Debian: apt-get install prometheus)");
        return;
    };
    let output = command.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("error while"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_screen_an_exit_code_and_metrics_tell_what_happens_to_a_pipeline() {
    let (_folder, path) = folder();
    let stack = Stack::up(path.join("stack"), "--registry h2");
    let watched = Watched {
        config: stack.dir.join("watched.toml"),
        metrics: path.join("orders.prom"),
        events: path.join("events.jsonl"),
        stack,
    };
    watched.with("");
    let Watched { stack, config, metrics, .. } = &watched;
    let sql = stack.sql("postgres").await;
    let ours = sql.text("show archive_command").await.unwrap().unwrap();
    stack.pipeline("orders").await;

    watched.status().is(30, "no", Some("no-point"));
    expect(0, &format!("backup create --config {config} --metrics {metrics}"), "recovery point");
    assert_eq!((&watched.event()["event"], &watched.event()["verdict"]), (&"backup".into(), &"passed".into()));
    assert!(watched.event()["point"].is_string(), "{}", watched.event());
    assert_eq!(numbers(&fs::read_to_string(metrics).unwrap())["cdc_drill_last_attempt_passed{task=\"backup\"}"], 1.0);
    watched.status().is(37, "yes", Some("not-verified"));
    expect(0, &format!("backup check --deep --config {config}"), "whole");

    // Healthy.
    let healthy = watched.status();
    healthy.is(0, "yes", None);
    assert!(healthy.said.contains("any moment from 20") && healthy.said.contains("not measured"), "{}", healthy.said);
    for name in ["cdc_drill_system_up{system=\"kafka\"}", "cdc_drill_point_complete", "cdc_drill_point_consistent"] {
        assert_eq!(healthy.number(name), Some(1.0), "{name}");
    }
    for name in ["cdc_drill_archiver_failing", "cdc_drill_wal_gaps", "cdc_drill_wal_lost_files"] {
        assert_eq!(healthy.number(name), Some(0.0), "{name}");
    }
    is_understood(metrics);

    // A backup that has no room, and one that is killed.
    watched.with("[backup]\nbudget = \"1 KiB\"\n");
    let refused = cdc_drill(&format!("backup create --config {config} --metrics {metrics}"));
    assert_eq!(refused.exit, 35, "{}", refused.err);
    let told = numbers(&fs::read_to_string(metrics).unwrap());
    assert_eq!(told["cdc_drill_last_attempt_passed{task=\"backup\"}"], 0.0);
    assert_eq!(told["cdc_drill_last_attempt_exit_code{task=\"backup\"}"], 35.0);
    let event = watched.event();
    assert_eq!(
        (&event["verdict"], &event["exit_code"], &event["pipeline"]),
        (&"failed".into(), &35.into(), &"orders".into())
    );
    assert!(event["reason"].as_str().unwrap().contains("budget"), "{event}");
    watched.with("");
    let failed = watched.status();
    failed.is(37, "yes", Some("backup-failed"));
    assert!(failed.said.contains("failed with exit code 35"), "{}", failed.said);
    let killed =
        cdc_drill_with(&format!("backup create --config {config}"), &[("CDC_DRILL_INTERRUPT", "backup:connect:kill")]);
    assert_eq!(killed.exit, -1, "{}", killed.err);
    let killed = watched.status();
    killed.is(37, "yes", Some("backup-failed"));
    assert!(killed.said.contains("did not end"), "{}", killed.said);
    assert_eq!(killed.number("cdc_drill_last_attempt_passed{task=\"backup\"}"), Some(0.0));
    expect(0, &format!("backup create --config {config}"), "recovery point");
    watched.status().is(0, "yes", None);

    // The archiver fails; then it gives WAL away; then what the server still has is taken.
    archive_with(&sql, "false").await;
    let late = finish(&sql).await;
    comes(&sql, "a failure", &format!("select last_failed_wal = '{late}' from pg_stat_archiver")).await;
    let failing = watched.status();
    failing.is(37, "yes", Some("archiver-failing"));
    assert_eq!(failing.number("cdc_drill_archiver_failing"), Some(1.0));
    assert!(failing.number("cdc_drill_archiver_failures") >= Some(1.0));
    assert_eq!(failing.number("cdc_drill_wal_waiting_files"), Some(1.0));
    archive_with(&sql, "true").await;
    comes(&sql, "the segment given away", &archived(&late)).await;
    let lost = watched.status();
    lost.is(32, "no", Some("wal-lost"));
    assert_eq!(lost.number("cdc_drill_wal_lost_files"), Some(1.0));
    archive_with(&sql, &ours).await;
    let last = finish(&sql).await;
    comes(&sql, "the last segment in the archive", &archived(&last)).await;
    let repository = stack.dir.join("repository");
    let pgdata = &stack.config().postgres.pgdata;
    expect(0, &format!("wal push --repository {repository} --pgdata {pgdata} pg_wal/{late}"), "");
    watched.status().is(0, "yes", None);

    // A gap in the archive.
    let (there, aside) = (object(&repository, &late), path.join("aside"));
    fs::rename(&there, &aside).unwrap();
    let gap = watched.status();
    gap.is(32, "no", Some("wal-gap"));
    assert!(gap.said.contains(&late), "{}", gap.said);
    assert_eq!(gap.number("cdc_drill_wal_gaps"), Some(1.0));
    fs::rename(&aside, &there).unwrap();

    // A slot that nobody reads from.
    let kept = |seen: &Seen| seen.number("cdc_drill_slot_retained_wal_bytes{slot=\"orders\"}");
    let workers = Connect::of(&stack.config().connect);
    workers.stop("orders").await.unwrap();
    workers.stopped("orders", DEADLINE).await.unwrap();
    let before = watched.status();
    before.is(0, "yes", None);
    finish(&sql).await;
    let after = watched.status();
    assert!(kept(&after) > kept(&before), "{:?} and {:?}", kept(&before), kept(&after));
    watched.with("slot_wal = \"1 MiB\"\n");
    let much = watched.status();
    much.is(37, "yes", Some("slot-wal"));
    assert_eq!(much.number("cdc_drill_slot_active{slot=\"orders\"}"), Some(0.0));
    watched.with("drill_age = \"35d\"\n");
    workers.resume("orders").await.unwrap();

    // A drill that could not begin is one that failed.
    watched.status().is(37, "yes", Some("drill-old"));
    let line = format!("run --record {config} --metrics {metrics} --only no-such-variant");
    assert_eq!(cdc_drill(&line).exit, 3);
    assert_eq!(numbers(&fs::read_to_string(metrics).unwrap())["cdc_drill_last_attempt_exit_code{task=\"drill\"}"], 3.0);
    watched.status().is(37, "yes", Some("drill-failed"));
    watched.with("");

    // A recovery that is killed.
    let run = format!("recover run slot --yes --config {config}");
    assert_eq!(cdc_drill_with(&run, &[("CDC_DRILL_INTERRUPT", "stop-connectors:after:kill")]).exit, -1);
    let unfinished = watched.status();
    unfinished.is(34, "no", Some("unfinished-recovery"));
    assert_eq!(unfinished.number("cdc_drill_recovery_unfinished"), Some(1.0));
    expect(0, &format!("recover resume --config {config}"), "recovered");
    let recovered = watched.status();
    recovered.is(0, "yes", None);
    assert!(recovered.said.contains("measured by a recovery"), "{}", recovered.said);
    assert!(recovered.number("cdc_drill_rto_seconds{source=\"recovery\"}") > Some(0.0));
    assert_eq!((&watched.event()["event"], &watched.event()["exit_code"]), (&"recovery".into(), &0.into()));

    // A hook that fails changes nothing.
    let own = fs::read_to_string(config).unwrap();
    fs::write(config, own.replace("cat >> ", "echo no route; false >> ")).unwrap();
    expect(
        0,
        &format!("backup check --config {config}"),
        "nobody was notified: [notify] command: exit status 1: no route",
    );

    // The database is down.
    drop(sql);
    assert_eq!(cdc_drill(&format!("stack stop --dir {} postgres", stack.dir)).exit, 0);
    let down = watched.status();
    down.is(13, "unknown", Some("server"));
    assert!(down.said.contains("any moment from 20") && down.said.contains("postgres unknown"), "{}", down.said);
    assert_eq!(down.number("cdc_drill_system_up{system=\"postgres\"}"), Some(0.0));
    assert_eq!(down.number("cdc_drill_wal_lost_files"), None, "what is not known is absent");
    // And Kafka with it.
    assert_eq!(cdc_drill(&format!("stack stop --dir {} kafka", stack.dir)).exit, 0);
    watched.status().is(13, "unknown", Some("kafka"));
    is_understood(metrics);
}
