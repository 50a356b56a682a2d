//! A repository in a bucket of a real server: archiving, backups, killed at each moment, and a recovery from it.

use camino::{Utf8Path, Utf8PathBuf};
use cdc_engine::backup::{MOMENTS, topics::BACKUP_MOMENTS, wal::PUSH_MOMENTS};
use cdc_harness::stack::Folder;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    object_server::{ObjectServer, stack_with},
    prepared::folder,
};
use cdc_model::units::{SystemId, Timeline};
use cdc_postgres::wal::{SegmentHeader, SegmentName, SegmentSize};

fn points(server: &ObjectServer, address: &Utf8Path) -> Vec<(String, bool)> {
    let listed = server.expect(0, &format!("backup list --repository {address} --json"), "");
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let point = |point: &Value| (point["point"].as_str().unwrap().to_owned(), point["complete"] == true);
    listed.as_array().unwrap().iter().map(point).collect()
}

/// Every third of the moments, or all (`just bucket-moments`).
fn every() -> usize {
    if std::env::var("CDC_DRILL_MOMENTS").is_ok_and(|which| which == "all") { 1 } else { 3 }
}

fn topic_backups(server: &ObjectServer, file: &Utf8Path) -> usize {
    let listed = server.expect(0, &format!("topic list --config {file} --json"), "");
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let all = listed.as_array().unwrap();
    assert!(all.iter().all(|backup| backup["defect"].is_null()), "{listed}");
    all.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_database_is_recovered_from_a_bucket() {
    let server = ObjectServer::up("drill").await;
    let (_folder, root) = folder();
    let address = server.address("drill");
    let stack = stack_with(&server, &root, &address).await;
    stack.pipeline("shop").await;
    let file = stack.file();
    server.expect(0, &format!("backup create --config {file}"), "recovery point");
    server.expect(0, &format!("backup verify --config {file} latest --deep"), "");
    server.expect(0, &format!("backup check --config {file} --deep"), "");
    assert!(matches!(&points(&server, &address)[..], [(_, true)]));

    let sql = stack.sql("shop").await;
    sql.run("insert into orders select g, 'after the backup' from generate_series(201, 300) g").await.unwrap();
    stack.records("shop", 300).await;
    // The pages of the table on disk, while the server is down.
    let table = sql.text("select pg_relation_filepath('orders')").await.unwrap().unwrap();
    sql.run("checkpoint").await.unwrap();
    drop(sql);
    Folder::open(&stack.dir).unwrap().kill("postgres", Signal::SIGKILL).await.unwrap();
    let path = stack.config.postgres.pgdata.join(table);
    let mut pages = std::fs::read(&path).unwrap();
    pages.iter_mut().skip(64).take(4096).for_each(|byte| *byte = !*byte);
    std::fs::write(&path, pages).unwrap();
    server.expect(0, &format!("recover plan coordinated --config {file}"), "");
    server.expect(0, &format!("recover run coordinated --yes --config {file}"), "the topics hold what the tables hold");
    let found: u64 = stack.sql("shop").await.value("select count(*) from orders").await.unwrap();
    assert_eq!(found, 300);
    server.expect(0, &format!("verify --config {file}"), "passed");
    server.expect(0, &format!("backup check --config {file} --deep"), "");

    // And records of topics.
    let back_up = format!("topic backup shop.public.orders --config {file}");
    let mut whole = 0;
    for moment in BACKUP_MOMENTS.into_iter().step_by(every()) {
        let cut = server.said_with(&back_up, &[("CDC_DRILL_INTERRUPT", &format!("topic-backup:{moment}:kill"))]);
        assert_eq!(cut.exit, -1, "{moment}: {}", cut.err);
        whole += usize::from(["published", "removed"].contains(&moment));
        assert_eq!(topic_backups(&server, &file), whole, "killed at {moment}");
        server.expect(0, &format!("backup check --config {file} --deep"), "");
    }
    server.expect(0, &back_up, "");
    assert_eq!(topic_backups(&server, &file), whole + 1);
    server.expect(0, &format!("topic verify --config {file}"), "");
    server.expect(0, &format!("topic replay --topic shop.public.orders --as again --yes --config {file}"), "");
    server.expect(0, &format!("backup prune --config {file}"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_at_any_moment_leaves_nothing_half_valid() {
    let server = ObjectServer::up("killed").await;
    let (_folder, root) = folder();
    let address = server.address("killed");
    let stack = stack_with(&server, &root, &address).await;
    stack.pipeline("shop").await;
    let file = stack.file();
    let create = format!("backup create --config {file}");
    server.expect(0, &create, "recovery point");
    let mut whole = 1;
    for moment in MOMENTS.into_iter().step_by(every()) {
        let cut = server.said_with(&create, &[("CDC_DRILL_INTERRUPT", &format!("backup:{moment}:kill"))]);
        assert_eq!(cut.exit, -1, "{moment}: {}", cut.err);
        whole += usize::from(moment == "published");
        let complete = points(&server, &address).iter().filter(|(_, complete)| *complete).count();
        assert_eq!(complete, whole, "killed at {moment}");
        server.expect(0, &format!("backup check --config {file} --deep"), "");
        server.expect(0, &format!("backup verify --config {file} latest"), "");
    }
    server.expect(0, &create, "recovery point");
    let all = points(&server, &address);
    assert!(all.len() == whole + 1 && all.iter().all(|(_, complete)| *complete), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_or_is_not_allowed_is_told_with_its_address() {
    let server = ObjectServer::up("refused").await;
    let address = server.address("refused");
    server.expect(3, &format!("backup list --repository {address}"), "nothing is there");
    server.expect(0, &format!("backup init --repository {address}"), "is a backup repository");
    server.expect(0, &format!("backup init --repository {address}"), "is a backup repository");
    server.expect(0, &format!("backup check --repository {address}"), "");
    let line = format!("backup list --repository {address}");
    let denied = server.said_with(&line, &[("AWS_SECRET_ACCESS_KEY", "another")]);
    assert_ne!(denied.exit, 0, "{}", denied.err);
    assert!(denied.err.contains(&format!("{address}/FORMAT")) && !denied.err.contains("another"), "{}", denied.err);
    server.expect(3, "backup list --repository s3://", "expected s3://BUCKET/PREFIX");
    let other = server.address("no-such-bucket-anywhere");
    let gone = server.said(&format!("backup init --repository {other}"));
    assert!(gone.exit != 0 && gone.err.contains(other.as_str()), "{}", gone.err);
    let nobody = server.said("backup list --repository s3+http://127.0.0.1:1/bucket/repository");
    assert!(
        nobody.exit == 13 && nobody.err.contains("s3+http://127.0.0.1:1/bucket/repository/FORMAT"),
        "{}",
        nobody.err
    );
}

/// A file of WAL as a server leaves it.
fn segment(folder: &Utf8Path, number: u64, fill: u8) -> Utf8PathBuf {
    let size = SegmentSize::new(1 << 20).unwrap();
    let name = SegmentName::new(Timeline::FIRST, number, size);
    let address = name.start(size).unwrap();
    let header = SegmentHeader { system_id: SystemId(7), size, address, timeline: Timeline::FIRST };
    let mut bytes = vec![fill; 1 << 20];
    bytes[..SegmentHeader::LENGTH].copy_from_slice(&header.to_bytes());
    let path = folder.join(fill.to_string()).join(name.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// At each of its moments: what is left is whole, and the next attempt goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_that_is_killed_leaves_nothing_half() {
    let server = ObjectServer::up("pushed").await;
    let (_folder, root) = folder();
    let address = server.address("pushed");
    server.expect(0, &format!("backup init --repository {address}"), "");
    for (number, moment) in (1..).zip(PUSH_MOMENTS) {
        let path = segment(&root, number, 1);
        let push = format!("wal push --repository {address} --pgdata {root} {path}");
        let cut = server.said_with(&push, &[("CDC_DRILL_INTERRUPT", &format!("push:{moment}:kill"))]);
        assert_eq!(cut.exit, -1, "{moment}: {}", cut.err);
        server.expect(0, &format!("backup check --repository {address} --deep"), "");
        server.expect(0, &push, "");
        server.expect(0, &format!("backup check --repository {address} --deep"), "");
        let name = path.file_name().unwrap();
        let fetch = format!("wal fetch --repository {address} --system-id 7 {name} {root}/{moment}");
        server.expect(0, &fetch, "");
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(root.join(moment)).unwrap(), "{moment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_write_at_once_agree() {
    let server = ObjectServer::up("raced").await;
    let (_folder, root) = folder();
    let address = server.address("raced");
    server.expect(0, &format!("backup init --repository {address}"), "");
    let at_once = |lines: &[String]| -> Vec<i32> {
        std::thread::scope(|scope| {
            let said = lines.iter().map(|line| scope.spawn(|| server.said(line).exit)).collect::<Vec<_>>();
            said.into_iter().map(|said| said.join().unwrap()).collect()
        })
    };
    let push = |path: &Utf8Path| format!("wal push --repository {address} --pgdata {root} {path}");
    for number in 1..=4 {
        let path = segment(&root, number, 1);
        assert_eq!(at_once(&[push(&path), push(&path), push(&path)]), [0; 3]);
    }
    let more: Vec<String> = (5..=10).map(|number| push(&segment(&root, number, 1))).collect();
    assert_eq!(at_once(&more), [0; 6]);
    server.expect(0, &format!("backup check --repository {address} --deep"), "");
    // Two servers with one identity: neither or one of them is believed, and what is archived is whole.
    let exits = at_once(&[push(&segment(&root, 11, 1)), push(&segment(&root, 11, 2))]);
    assert!(exits.iter().filter(|exit| **exit == 0).count() <= 1, "{exits:?}");
    let fetched =
        server.said(&format!("wal fetch --repository {address} --system-id 7 00000001000000000000000B {root}/to"));
    assert!([0, 1].contains(&fetched.exit), "{}", fetched.err);

    let prune = format!("backup prune --repository {address}");
    let mut worked = 0;
    for _ in 0..5 {
        let exits = at_once(&[prune.clone(), prune.clone(), prune.clone()]);
        assert!(exits.iter().all(|exit| [0, 34].contains(exit)), "{exits:?}");
        worked += exits.iter().filter(|exit| **exit == 0).count();
    }
    assert!(worked > 0, "nobody ever works");
    server.expect(0, &prune, "");
}
