//! Recoveries whose target, cluster or data folder is in question: second thoughts after a recovery, two clusters in one repository, a
//! data folder that is gone, and hooks whose word the machine contradicts.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use camino::Utf8Path;
use cdc_harness::stack::Folder;
use cdc_pipeline::client::{
    ClientError,
    kafka::{Kafka, TopicSpec},
    wait::{self, Poll},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    attach::attached,
    prepared::folder,
    sandbox::{DEADLINE, Stack, expect},
};

/// Commits a row, and says what the server's clock shows and where its WAL is then.
async fn commit(stack: &Stack, id: u32) -> (String, String) {
    let sql = stack.sql("shop").await;
    sql.run(&format!("insert into orders values ({id}, 'new')")).await.unwrap();
    let shown = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let time = sql.text(shown).await.unwrap().unwrap();
    (time, sql.text("select pg_current_wal_lsn()").await.unwrap().unwrap())
}

/// The rows that [`commit`] made.
async fn committed(stack: &Stack) -> Vec<u32> {
    let rows = stack.sql("shop").await.texts("select id from orders where id > 200 order by id").await.unwrap();
    rows.into_iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

fn findings(said: &str) -> Vec<String> {
    let outcome: Value = serde_json::from_str(said).unwrap();
    outcome["findings"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn second_thoughts_get_the_second_answer() {
    let (_folder, root) = folder();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let (file, run) = (stack.file(), "recover run coordinated --yes --config");
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let (ten, _) = commit(&stack, 1000).await;
    let (half_past, position) = commit(&stack, 1030).await;
    commit(&stack, 1059).await;
    stack.sql("shop").await.run("select pg_switch_wal()").await.unwrap();
    let said = expect(0, &format!("{run} {file} --target time:{ten} --json"), "the topics hold what the tables hold");
    let given_up = findings(&said.out);
    let two = "given up: 2 transactions on timeline 1 after the target";
    assert!(given_up.iter().any(|finding| finding.starts_with(two)), "{given_up:?}");
    assert_eq!(committed(&stack).await, [1000]);

    // It should have been half past ten. Meanwhile clients are at work on timeline 2, beyond the position.
    commit(&stack, 1100).await;
    stack.sql("shop").await.run("select pg_switch_wal(); checkpoint; select pg_switch_wal()").await.unwrap();
    commit(&stack, 1101).await;
    for target in [format!("time:{half_past}"), format!("lsn:{position}")] {
        let refused =
            expect(40, &format!("recover plan coordinated --config {file} --target {target}"), "timeline 1 (");
        for part in ["timeline 2 (", "commits from ", "--timeline 1 or --timeline 2"] {
            assert!(refused.err.contains(part), "{part}: {}", refused.err);
        }
        expect(40, &format!("{run} {file} --target {target}"), "--timeline 1");
        let plan = format!("recover plan coordinated --config {file} --target {target} --timeline 1 --json");
        let given_up = findings(&expect(0, &plan, "").out);
        let has = |parts: &[&str]| given_up.iter().any(|finding| parts.iter().all(|part| finding.contains(part)));
        assert!(has(&["given up: 1 transaction on timeline 1", "an earlier recovery had left"]), "{given_up:?}");
        assert!(has(&["given up: ", "on timeline 2"]) && has(&["the target lies on timeline 1"]), "{given_up:?}");
    }
    assert_eq!(committed(&stack).await, [1000, 1100, 1101], "a refusal touches nothing");
    let line = format!("{run} {file} --target time:{half_past} --timeline 1");
    let registry = "create schema registry; create table registry.apicurio (propName text, propValue text); \
                    create table registry.content (contentId bigint); create table registry.versions (globalId bigint)";
    stack.sql("postgres").await.run(registry).await.unwrap();
    expect(40, &line, "database postgres, schema registry: expected no registry");
    let plan = findings(&expect(0, &format!("recover plan coordinated --config {file} --json"), "").out);
    assert!(plan.iter().any(|finding| finding.contains("Apicurio registry (database postgres,")), "{plan:?}");
    stack.sql("postgres").await.run("drop schema registry cascade").await.unwrap();
    expect(0, &line, "the topics hold what the tables hold");
    assert_eq!(committed(&stack).await, [1000, 1030]);
    let sql = stack.sql("shop").await;
    assert_eq!(sql.timeline().await.unwrap().get(), 3);

    // And the end of a timeline that was left.
    expect(2, &format!("recover plan coordinated --config {file} --exclusive"), "--exclusive: expected a target");
    expect(0, &format!("{run} {file} --timeline 1"), "the topics hold what the tables hold");
    assert_eq!(committed(&stack).await, [1000, 1030, 1059]);
}

async fn killed(stack: &Stack) {
    Folder::open(&stack.dir).unwrap().kill("postgres", Signal::SIGKILL).await.unwrap();
}

async fn archived(stack: &Stack) {
    let sql = stack.sql("shop").await;
    let file = sql.text("select pg_walfile_name(pg_switch_wal())").await.unwrap().unwrap();
    wait::until(&format!("{file} in the archive"), DEADLINE, || async {
        let last = sql.text("select last_archived_wal from pg_stat_archiver").await?.unwrap_or_default();
        Ok::<_, ClientError>(if last >= file { Poll::Ready(()) } else { Poll::NotYet(last) })
    })
    .await
    .unwrap();
}

/// A hook that says that the server is down, and a stranger at its address.
async fn contradicted(stack: &Stack, root: &Utf8Path) {
    let text = std::fs::read_to_string(stack.file()).unwrap();
    let running = format!("running = {:?}", stack.config.control["postgres"].running);
    assert!(text.contains(&running), "{text}");
    let lying = root.join("lying.toml");
    std::fs::write(&lying, text.replace(&running, "running = \"exit 1\"")).unwrap();
    std::fs::set_permissions(&lying, std::fs::Permissions::from_mode(0o600)).unwrap();
    for verb in ["plan coordinated", "run coordinated --yes"] {
        let refused = expect(40, &format!("recover {verb} --config {lying}"), "[control.postgres] running");
        assert!(refused.err.contains("that it does not run, and process "), "{}", refused.err);
    }
    assert!(stack.sql("shop").await.system_id().await.is_ok(), "nothing was touched");

    expect(0, &format!("stack stop --dir {} postgres", stack.dir), "");
    let url: tokio_postgres::Config = stack.config.postgres.url.expose().parse().unwrap();
    let address = ("127.0.0.1", url.get_ports()[0]);
    let stranger = TcpListener::bind(address).unwrap();
    let leaves = Arc::new(AtomicBool::new(false));
    let left = leaves.clone();
    // A server that is full: it has no TLS, and then no room, whoever asks and however often.
    let stranger = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = stranger.accept()
            && !left.load(Ordering::Relaxed)
        {
            let mut message = [0; 512];
            if stream.read(&mut message).is_ok_and(|length| length == 8) {
                stream.write_all(b"N").unwrap();
                assert!(stream.read(&mut message).unwrap() > 0);
            }
            stream.write_all(b"E\0\0\0\x19SFATAL\0C53300\0Mfull\0\0").unwrap();
        }
    });
    let file = stack.file();
    let refused = expect(40, &format!("recover plan coordinated --config {file}"), "[control.postgres] running");
    assert!(
        refused.err.contains("that it does not run, and somebody there") && refused.err.contains("53300"),
        "{}",
        refused.err
    );
    leaves.store(true, Ordering::Relaxed);
    drop(TcpStream::connect(address).unwrap());
    stranger.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_is_gone_is_recovered_from_the_repository() {
    let (_folder, root) = folder();
    let stack = Stack::beside_lent(root.join("stack"));
    stack.pipeline("shop").await;
    let (file, pgdata) = (stack.file(), stack.config.postgres.pgdata.clone());
    expect(0, &format!("backup create --config {file}"), "recovery point");
    commit(&stack, 1000).await;
    archived(&stack).await;
    let (uid, system_id) = (pgdata.metadata().unwrap().uid(), stack.sql("shop").await.system_id().await.unwrap());
    contradicted(&stack, &root).await;

    let run = format!("recover run coordinated --config {file} --yes");
    std::fs::remove_dir_all(&pgdata).unwrap();
    expect(41, &run, "the control file cannot be read");
    expect(41, &format!("{run} --accept-loss registry --accept-loss retention"), "agree to it with --accept-loss wal");
    let said = expect(0, &format!("{run} --accept-loss wal"), "the topics hold what the tables hold");
    let only = format!("the cluster is taken for {system_id}, the only one that the repository knows");
    assert!(said.err.contains(&only) && said.err.contains("is gone: it is made again for uid"), "{}", said.err);
    assert_eq!(committed(&stack).await, [1000]);
    let meta = pgdata.metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (uid, 0o700));
    expect(0, &format!("recover run coordinated --config {file} --yes"), "the topics hold");

    // The same pipeline as somebody's own, which says by name what it is.
    commit(&stack, 1001).await;
    archived(&stack).await;
    let kafka = Kafka::of(&stack.config.kafka).unwrap();
    let cluster = kafka.cluster_id().await.unwrap().unwrap();
    let marker =
        TopicSpec { name: "cdc-drill-target.play".into(), partitions: 1, replication: 1, settings: Default::default() };
    kafka.create_topics(&[marker]).await.unwrap();
    let permitted = format!(
        "allow = ['recover']\nmarker = 'play'\nsystem_ids = ['{system_id}']\nclusters = ['{cluster}']\nnamespaces = ['shop']"
    );
    let file = attached(&root, &stack.config, &permitted);
    killed(&stack).await;
    std::fs::remove_file(pgdata.join("global/pg_control")).unwrap();
    let run = format!("recover run coordinated --config {file} --yes --accept-loss wal");
    expect(41, &run, "--system-id");
    expect(41, &format!("{run} --system-id 77"), "PostgreSQL system identifier: expected");
    // Cut short in the middle: what was named is remembered.
    std::fs::remove_dir_all(&pgdata).unwrap();
    let cut = super::sandbox::cdc_drill_with(
        &format!("{run} --system-id {system_id}"),
        &[("CDC_DRILL_INTERRUPT", "restore:set-aside:kill")],
    );
    assert_eq!(cut.exit, -1, "{}", cut.err);
    expect(0, &format!("recover resume --config {file}"), "the topics hold what the tables hold");
    assert_eq!(committed(&stack).await, [1000, 1001]);
    let left = pgdata.parent().unwrap().read_dir_utf8().unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name().to_owned()).filter(|name| name.contains(".restoring-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_in_one_repository_recover_their_own() {
    let (_folder, root) = folder();
    let shop = Stack::beside_lent(root.join("a"));
    let stock = Stack::up(root.join("b"), &format!("--join {}", shop.file()));
    let shared = &shop.config.repository.path;
    let text = std::fs::read_to_string(stock.file()).unwrap();
    let text = text.replace(stock.config.repository.path.as_str(), shared.as_str());
    assert!(text.contains(shared.as_str()), "{text}");
    std::fs::write(stock.file(), text).unwrap();
    let sql = stock.sql("postgres").await;
    let command = sql.text("show archive_command").await.unwrap().unwrap();
    let command = command.replace(stock.config.repository.path.as_str(), shared.as_str()).replace('\'', "''");
    sql.run(&format!("alter system set archive_command = '{command}'")).await.unwrap();
    sql.run("select pg_reload_conf()").await.unwrap();
    tokio::join!(shop.pipeline("shop"), stock.pipeline("stock"));

    expect(0, &format!("backup create --config {}", shop.file()), "recovery point");
    let list = |stack: &Stack| -> Value {
        serde_json::from_str(&expect(0, &format!("backup list --config {} --json", stack.file()), "").out).unwrap()
    };
    let first = list(&shop)[0]["point"].as_str().unwrap().to_owned();
    expect(0, &format!("backup create --config {}", stock.file()), "recovery point");
    let both = list(&stock);
    assert_eq!(both.as_array().unwrap().len(), 2, "{both}");
    let second = both[1]["point"].as_str().unwrap().to_owned();
    let other = stock.sql("stock").await.system_id().await.unwrap();

    // The newest point of the repository is the other cluster's.
    for playbook in ["slot", "schema", "coordinated"] {
        let said = expect(0, &format!("recover plan {playbook} --config {} --json", shop.file()), "");
        let plan: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(plan["point"], first.as_str(), "{playbook}");
        let passed =
            format!("recovery point {second} is passed over: it is of the cluster with system identifier {other}");
        assert!(findings(&said.out).contains(&passed), "{playbook}: {}", said.out);
        let named = format!("recover plan {playbook} --config {} --point {second}", shop.file());
        expect(40, &named, &format!("found system identifier {other}"));
    }
    expect(0, &format!("verify --point latest --config {}", shop.file()), "passed");
    shop.sql("shop").await.run("delete from orders where id > 150").await.unwrap();
    stock.sql("stock").await.run("delete from orders where id > 100").await.unwrap();
    expect(0, &format!("recover run slot --config {} --yes", shop.file()), "the topics hold what the tables hold");
    for (stack, rows) in [(&stock, 100), (&shop, 150)] {
        let line = format!("recover run coordinated --config {} --yes", stack.file());
        expect(0, &line, "the topics hold what the tables hold");
        let name = if rows == 100 { "stock" } else { "shop" };
        let found: u64 = stack.sql(name).await.value("select count(*) from orders").await.unwrap();
        assert_eq!(found, rows, "{name}");
    }

    // Which of the two a cluster is that lost its control file, it cannot say.
    let pgdata = &shop.config.postgres.pgdata;
    killed(&shop).await;
    std::fs::remove_file(pgdata.join("global/pg_control")).unwrap();
    let plan = format!("recover plan coordinated --config {} --accept-loss wal", shop.file());
    let refused = expect(40, &plan, "name the cluster with --system-id N");
    assert!(refused.err.contains(&first) && refused.err.contains(&second), "{}", refused.err);
    let own = shop.config.repository.path.clone();
    assert!(own.join("wal").read_dir_utf8().unwrap().count() == 2);
    let ids: Vec<String> =
        own.join("wal").read_dir_utf8().unwrap().map(|e| e.unwrap().file_name().to_owned()).collect();
    let own = ids.iter().find(|id| **id != other.to_string()).unwrap();
    expect(0, &format!("{plan} --system-id {own}"), "note:");
}
