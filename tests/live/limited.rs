//! The slot playbook as a role that is no superuser and a configuration without a data folder.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::Lsn;
use cdc_pipeline::client::{
    connect::{Connect, StoredOffset},
    postgres::Postgres,
};
use serde_json::json;

use super::sandbox::{DEADLINE, Stack, expect};

/// The stack's configuration with another role and no data folder but a given one.
fn limited(stack: &Stack, path: &Utf8Path, pgdata: Option<&Utf8Path>) -> Utf8PathBuf {
    let text = std::fs::read_to_string(stack.file()).unwrap();
    let mut limited = String::new();
    for line in text.lines().filter(|line| !line.starts_with("pgdata =")) {
        match line.strip_prefix("url = \"postgres://").and_then(|url| url.split_once('@')) {
            Some((_, place)) => {
                limited += &format!("url = \"postgres://bad_day:pw@{}\"\n", place.replace("/postgres\"", "/shop"));
                limited += &pgdata.map(|folder| format!("pgdata = \"{folder}\"\n")).unwrap_or_default();
            }
            None => limited += &format!("{line}\n"),
        }
    }
    let file = path.join(if pgdata.is_some() { "elsewhere.toml" } else { "limited.toml" });
    std::fs::write(&file, limited).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[tokio::test]
async fn a_role_without_a_superusers_rights_replaces_a_slot_and_is_told_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let sql = stack.sql("shop").await;
    let role = "create role bad_day login replication password 'pw'; grant pg_monitor to bad_day; \
                grant select on all tables in schema public to bad_day";
    sql.run(role).await.unwrap();
    let file = limited(&stack, &path, None);
    let (plan, run) = (format!("recover plan slot --config {file}"), format!("recover run slot --yes --config {file}"));

    // The server says where its data folder is, and it is on this machine: whether the slot was made again is seen there.
    let said = expect(0, &plan, "nothing wrong is visible in its slot");
    assert!(!said.err.contains("not looked at"), "{}", said.err);
    assert!(!said.err.contains("abandoned"), "{}", said.err);
    lacking(&sql, &run).await;
    let connect = Connect::of(&stack.config().connect);
    assert!(connect.status("shop").await.unwrap().all_running(), "what is refused has touched nothing");
    expect(0, &run, "the topics hold what the tables hold");

    elsewhere(&stack, &path);
    abandoned(&stack, &sql, &connect, &plan).await;
    expect(0, &run, "the topics hold what the tables hold");
}

/// Each missing privilege is named, and nothing is touched.
async fn lacking(sql: &Postgres, run: &str) {
    for (take, named, give) in [
        ("alter role bad_day noreplication", "REPLICATION", "alter role bad_day replication"),
        ("revoke select on orders from bad_day", "reading table public.orders", "grant select on orders to bad_day"),
        ("drop publication shop", "CREATE on the database", "create publication shop for table orders"),
    ] {
        sql.run(take).await.unwrap();
        expect(40, run, named);
        sql.run(give).await.unwrap();
    }
    sql.run("grant select on all tables in schema public to bad_day").await.unwrap();
}

/// A data folder of another cluster is refused by its name.
fn elsewhere(stack: &Stack, path: &Utf8Path) {
    let other = path.join("other-cluster");
    std::fs::create_dir_all(other.join("global")).unwrap();
    std::fs::write(other.join("global/pg_control"), 42u64.to_le_bytes()).unwrap();
    let file = limited(stack, path, Some(&other));
    for command in ["plan slot", "run slot --yes"] {
        let said = expect(40, &format!("recover {command} --config {file}"), other.as_str());
        assert!(said.err.contains("system identifier 42"), "{}", said.err);
    }
}

/// On a second timeline, an offset from before it that lies behind its beginning is seen, by the server's own word.
async fn abandoned(stack: &Stack, sql: &Postgres, connect: &Connect, plan: &str) {
    let file = stack.file();
    expect(0, &format!("backup create --config {file}"), "");
    expect(0, &format!("recover run coordinated --yes --config {file}"), "the topics hold what the tables hold");
    let sql_now = stack.sql("shop").await;
    assert_eq!(sql_now.timeline().await.unwrap().get(), 2);
    assert!(sql.is_closed(), "the server was another");
    connect.stopped("shop", DEADLINE).await.unwrap();
    let end: Lsn = sql_now.value("select pg_current_wal_lsn()").await.unwrap();
    let mut stored: Vec<StoredOffset> = connect.offsets("shop").await.unwrap();
    let old = json!({"lsn": end.0, "lsn_proc": end.0, "lsn_commit": end.0, "txId": 1, "ts_usec": 1});
    for offset in &mut stored {
        offset.offset = old.as_object().cloned();
    }
    connect.patch_offsets("shop", &stored).await.unwrap();
    let said = expect(0, plan, "is of an abandoned timeline: timeline 2 began at");
    assert!(!said.err.contains("not looked at: whether its stored offset"), "{}", said.err);
    // When a timeline began is for members of pg_monitor to know.
    sql_now.run("revoke pg_monitor from bad_day").await.unwrap();
    let said = expect(0, plan, "not looked at: whether its stored offset is of an abandoned timeline");
    assert!(!said.err.contains("nothing wrong is visible;"), "{}", said.err);
    // It is to run: what is found stopped is stopped again in the end.
    connect.resume("shop").await.unwrap();
    connect.running("shop", DEADLINE).await.unwrap();
}
