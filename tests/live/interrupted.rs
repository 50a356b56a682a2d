//! Recoveries that are cut short and gone on with by the same command: nothing that was committed on the restored server is given
//! up, and topics, groups, configurations and states end as the first run found them. And one that is taken back.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::{Offset, TopicPartition};
use cdc_pipeline::client::{
    connect::{AtRest, Connect},
    kafka::{Kafka, TopicSpec},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    PROGRAM,
    sandbox::{DEADLINE, Stack, cdc_drill, cdc_drill_with, expect},
};

const TOPIC: &str = "shop.public.orders";
const GROUP: &str = "billing";

/// Runs a command that is killed at this moment.
pub(super) fn killed(line: &str, at: &str) {
    let said = cdc_drill_with(line, &[("CDC_DRILL_INTERRUPT", &format!("{at}:kill"))]);
    assert_eq!(said.exit, -1, "{at}: expected a killed process\n{}{}", said.err, said.out);
}

/// Runs a command that waits in this step until a person ends it.
fn interrupted(line: &str, file: &Utf8Path, step: &str) {
    let mut child = Command::new(PROGRAM)
        .args(line.split(' '))
        .env("CDC_DRILL_BIN", PROGRAM)
        .env("CDC_DRILL_INTERRUPT", format!("{step}:before:wait"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = format!("  {step}: begun, and not ended");
    while !cdc_drill(&format!("recover status --config {file}")).err.contains(&begun) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("Ctrl-C: ending in order") && said.contains(&begun), "{said}");
}

pub(super) fn beside(pgdata: &Utf8Path, part: &str) -> usize {
    let entries = pgdata.parent().unwrap().read_dir_utf8().unwrap();
    entries.flatten().filter(|entry| entry.file_name().contains(part)).count()
}

async fn spec(kafka: &Kafka) -> TopicSpec {
    kafka.topic_specs(&[TOPIC.to_owned()]).await.unwrap().remove(0)
}

fn partitions(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition { topic: TOPIC.into(), partition }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_cut_short_goes_on_as_it_began() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let (kafka, connect) = (Kafka::of(&stack.config().kafka).unwrap(), Connect::of(&stack.config().connect));
    // What a second look would not see again.
    let mut config = connect.config("shop").await.unwrap();
    config.insert("snapshot.mode".into(), "no_data".into());
    connect.put_config("shop", &config).await.unwrap();
    // And one that somebody has paused.
    stack.pipeline("extra").await;
    connect.paused("extra", DEADLINE).await.unwrap();
    let found = spec(&kafka).await;
    let half: Vec<_> = partitions(found.partitions).into_iter().map(|p| (p, Offset(1))).collect();
    kafka.commit_group_offsets(GROUP, &half).await.unwrap();

    let (file, pgdata) = (stack.file(), stack.config().postgres.pgdata.clone());
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let insert = async |from: u32| {
        let rows = format!("insert into orders select g, 'new' from generate_series({from}, {from} + 9) g");
        stack.sql("shop").await.run(&rows).await.unwrap();
    };
    insert(1_000).await;
    stack.sql("shop").await.run("select pg_create_restore_point('before')").await.unwrap();
    stack.sql("shop").await.run("delete from orders where id <= 50; select pg_switch_wal()").await.unwrap();
    let run = format!("recover run coordinated --config {file} --target name:before --yes");

    killed(&run, "salvage:after");
    killed(&run, "restore:set-aside");
    assert!(!pgdata.exists(), "between the two renames");
    expect(41, &format!("recover abort --leave --config {file}"), "no data folder is in its place");
    killed(&run, "open:after");
    // From here on clients may commit, and none of it may be given up.
    insert(2_000).await;
    killed(&run, "delete-topics:after");
    assert!(!kafka.topics().await.unwrap().contains_key(TOPIC));
    // As a client does whose topics the broker makes: with its defaults.
    let defaults = TopicSpec { partitions: found.partitions + 1, settings: Default::default(), ..found.clone() };
    kafka.create_topics(&[defaults]).await.unwrap();
    insert(3_000).await;
    killed(&run, "recreate-topics:after");
    killed(&run, "force-snapshot:after");
    let failed = cdc_drill_with(&run, &[("CDC_DRILL_INTERRUPT", "resume:after:fail")]);
    assert_eq!(failed.exit, 11, "{}", failed.err);
    assert!(failed.err.contains("did not end") && failed.err.contains("next: `recover resume`"), "{}", failed.err);
    // Rows and records agree half-way, while the connector still has its temporary settings: that is not passed.
    let half_way =
        expect(13, &format!("verify --config {file} --connector shop --json"), "`recover resume` is the way forward");
    let half_way: Value = serde_json::from_str(&half_way.out).unwrap();
    assert!(half_way["unfinished_recovery"]["id"].is_string(), "{half_way}");
    for check in half_way["checks"].as_array().unwrap() {
        assert_eq!(check["verdict"], "passed", "{half_way}");
    }
    insert(4_000).await;

    let status = expect(11, &format!("recover status --config {file} --json"), "resume: begun, and not ended");
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["asked"]["target"], "name:before");
    assert!(!format!("{status}").contains("password"), "{status}");
    expect(41, &format!("recover run coordinated --config {file} --yes"), "target: name:before then, latest now");
    expect(41, &format!("recover abort --config {file}"), "cannot be taken back");
    expect(0, &format!("recover plan coordinated --config {file} --target name:before"), "did not end: a run goes on");
    let said = expect(0, &format!("recover resume --config {file}"), "the topics hold what the tables hold");
    assert!(said.err.contains("connector extra is at rest, as it was found"), "{}", said.err);

    let sql = stack.sql("shop").await;
    assert_eq!(sql.value::<u64>("select count(*) from orders").await.unwrap(), 200 + 4 * 10);
    assert_eq!(sql.timeline().await.unwrap().get(), 2, "one point-in-time recovery, however many runs");
    assert_eq!((beside(&pgdata, ".aside-"), beside(&pgdata, ".restoring-")), (1, 0));
    assert_eq!(spec(&kafka).await, found);
    let offsets = kafka.group_offsets(GROUP, &partitions(found.partitions)).await.unwrap();
    assert!(offsets.len() == half.len() && offsets.iter().all(|(_, at)| at.0 == 0), "{offsets:?}");
    assert_eq!(connect.config("shop").await.unwrap()["snapshot.mode"], "no_data");
    assert!(connect.status("shop").await.unwrap().all_running());
    assert_eq!(connect.status("extra").await.unwrap().at_rest(), Some(AtRest::Paused));
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
    expect(40, &format!("recover resume --config {file}"), "a recovery of this cluster that did not end");

    let named = expect(41, &format!("recover finish --config {file} --json"), "data folder of recovery");
    assert!(named.out.contains(".aside-") && beside(&pgdata, ".aside-") == 1, "{}", named.out);
    expect(0, &format!("recover finish --config {file} --yes"), "MB");
    assert_eq!(beside(&pgdata, ".aside-"), 0);
    expect(0, &format!("recover finish --config {file}"), "nothing is set aside");

    // And one that is taken back: what is committed afterwards is delivered as if nothing had been.
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let run = format!("recover run coordinated --config {file} --yes");
    connect.resume("extra").await.unwrap();
    interrupted(&run, &file, "salvage");
    expect(0, &format!("recover abort --config {file}"), "the old server runs");
    insert(5_000).await;
    expect(0, &format!("verify --config {file}"), "passed");
    assert_eq!(stack.sql("shop").await.timeline().await.unwrap().get(), 2);
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");

    // A session that makes a slot waits for older transactions, and outlives its client: the same command ends it.
    killed(&run, "delete-topics:before");
    let (sql, older) = (stack.sql("shop").await, stack.sql("shop").await);
    older.run("begin; select pg_current_xact_id()").await.unwrap();
    killed(&run, "resume:half-way");
    let maker = || async { sql.text("select max(active_pid)::text from pg_replication_slots").await.unwrap() };
    let first = loop {
        if let Some(pid) = maker().await {
            break pid;
        }
    };
    let again = std::thread::spawn(move || cdc_drill(&run));
    while maker().await.as_ref() == Some(&first) {
        assert!(!again.is_finished(), "{}", again.join().unwrap().err);
    }
    older.run("commit").await.unwrap();
    let said = again.join().unwrap();
    assert_eq!(said.exit, 0, "{}", said.err);
}
