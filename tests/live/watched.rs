//! A recovery is watched from another process: how far it is, who is at work, and what it waits for where nothing moves.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use camino::Utf8Path;
use cdc_pipeline::client::wait::{self, Poll};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    PROGRAM,
    interrupted::killed,
    prepared::folder,
    sandbox::{DEADLINE, Stack, cdc_drill, expect},
};

/// A program that hangs where it is asked for a segment, until a file `go` is beside it.
fn hanging(root: &Utf8Path) -> String {
    std::fs::copy(PROGRAM, root.join("cdc-drill")).unwrap();
    let script = root.join("hanging");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n'wal fetch '*.history*) ;;\n'wal fetch '*)\n  while [ -e {root}/hanging ] && [ ! -e {root}/go ]; do sleep 0.1; done ;;\nesac\n\
         exec {root}/cdc-drill \"$@\"\n"
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    script.into_string()
}

fn begun(line: &str, program: &str) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(line.split(' ')).env("CDC_DRILL_BIN", program).stderr(Stdio::piped()).spawn().unwrap()
}

/// How `recover status --json` says that a recovery is, once that is as wanted.
async fn status(file: &Utf8Path, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, DEADLINE, || async {
        let said = cdc_drill(&format!("recover status --config {file} --json"));
        let status: Value = serde_json::from_str(&said.out).unwrap();
        Ok::<_, std::convert::Infallible>(match wanted(&status) {
            true => Poll::Ready(status),
            false => Poll::NotYet(format!("{}{}", status["at_work"], status["progress"])),
        })
    })
    .await
    .unwrap()
}

fn ended(child: Child, exit: i32, parts: &[&str]) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "no `{part}` in\n{said}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_recovery_waits_for_is_told_to_who_asks() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let (file, pgdata) = (stack.file(), stack.config().postgres.pgdata.clone());
    expect(0, &format!("backup create --config {file}"), "recovery point");
    stack.sql("shop").await.run("insert into orders values (201, 'late')").await.unwrap();
    let run = format!("recover run coordinated --config {file} --yes");
    let program = hanging(&path);

    let stands_still = |status: &Value| {
        let text = status["progress"]["text"].as_str().unwrap_or_default();
        status["progress"]["kind"] == "replay" && text.contains("nothing has moved for")
    };
    let child = begun(&run, &program);
    let seen = status(&file, "a replay that stands still", stands_still).await;
    let segment = seen["progress"]["asked_for"].as_str().unwrap().to_owned();
    assert_eq!(segment.len(), 24, "{seen}");
    assert!(seen["progress"]["text"].as_str().unwrap().contains(&segment), "{seen}");
    assert!(seen["progress"]["age_seconds"].is_u64(), "{seen}");
    let by = format!("recover run coordinated (pid {}", child.id());
    assert!(seen["at_work"].as_str().unwrap().starts_with(&by), "{seen}");
    let said = expect(11, &format!("recover status --config {file}"), &format!("at work: {by}"));
    assert!(said.err.contains(&format!("waits for {segment}")) && said.err.contains(" s ago)"), "{}", said.err);
    assert!(!said.err.contains("next:"), "somebody is at work: {}", said.err);

    // The server is gone: there is nothing to wait for any more.
    let entries = pgdata.parent().unwrap().read_dir_utf8().unwrap();
    let fresh = entries.flatten().find(|entry| entry.file_name().contains(".restoring-")).unwrap();
    let pid = std::fs::read_to_string(fresh.path().join("postmaster.pid")).unwrap();
    kill(Pid::from_raw(pid.lines().next().unwrap().trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    ended(child, 11, &["the restored server ended before it was promoted", "next: `recover resume`"]);
    let seen = status(&file, "nobody at work", |status| status["at_work"].is_null()).await;
    assert!(seen["progress"].is_null(), "the step has ended: {seen}");

    let child = begun(&run, &program);
    status(&file, "a replay that stands still", stands_still).await;
    std::fs::write(path.join("go"), "").unwrap();
    ended(child, 0, &["the topics hold what the tables hold"]);

    // A slot that waits for an older transaction.
    killed(&run, "delete-topics:after");
    let session = stack.sql("shop").await;
    session.run("begin; select pg_current_xact_id()").await.unwrap();
    let child = begun(&format!("recover resume --config {file}"), PROGRAM);
    let seen = status(&file, "a slot that waits", |status| status["progress"]["waits_for"].is_string()).await;
    assert_eq!((&seen["progress"]["kind"], &seen["progress"]["connector"]), (&"snapshot".into(), &"shop".into()));
    assert!(seen["progress"]["records"].is_u64(), "{seen}");
    session.run("commit").await.unwrap();
    ended(child, 0, &["the topics hold what the tables hold"]);
}
