//! What no drill can show, on a cluster alone: a fault without an effect does not count as landed, a server ends with its
//! owner, and a session depends on no setting of the database or the role.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8PathBuf;
use cdc_harness::{
    fault::{Fault, Target},
    stack::{LocalStack, Native, OwnerLock, Part, PostgresSpec, Programs, Silent, StackSpec},
};
use cdc_model::{
    event::Landed,
    units::{Secret, SlotName, TableName},
};
use cdc_pipeline::{
    client::postgres::Postgres,
    config::{ConnectConfig, KafkaConfig, RegistryConfig, RegistryFlavour},
};
use nix::sys::signal::Signal;

/// A cluster and its owner; both end with the test.
struct Cluster {
    stack: LocalStack,
    owner: OwnerLock,
    // The servers run below it: it goes last.
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        // The servers' account has to get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap();
        let nobody = "127.0.0.1:1";
        let registry = RegistryConfig::plain(&format!("http://{nobody}"), RegistryFlavour::Apicurio, None);
        let spec = StackSpec {
            postgres: Some(PostgresSpec { wal_segment_mib: 1, archive: false, ..PostgresSpec::default() }),
            kafka: Part::External(KafkaConfig::plain(nobody)),
            connect: Part::External(ConnectConfig::plain(&format!("http://{nobody}"), "connect-offsets")),
            registry: Part::External(registry),
            ..StackSpec::default()
        };
        let mut stack =
            LocalStack::create(&path, spec, &Native::new(Programs::ensure(&Silent).await.unwrap())).unwrap();
        let owner = stack.own().unwrap();
        stack.start_all(&Silent).await.unwrap();
        Cluster { stack, owner, _folder: folder }
    }

    async fn sql(&self) -> Postgres {
        Postgres::connect(&self.stack.config().unwrap().postgres.url, "test").await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_without_an_effect_has_not_landed() {
    let cluster = Cluster::start().await;
    let sql = cluster.sql().await;
    sql.run("create table people (id integer primary key); insert into people select generate_series(1, 100)")
        .await
        .unwrap();
    let people = TableName::new("public", "people");
    let target = Target {
        config: cluster.stack.config().unwrap(),
        connector: "none".to_owned(),
        prefix: "none".to_owned(),
        slot: SlotName::new("none"),
        tables: vec![people.clone()],
    };

    let delete = Fault::DeleteAll { table: people.clone() };
    let emptied = delete.inject(&target).await.unwrap();
    assert_eq!(emptied.landed().await.landed, Landed::Confirmed);
    sql.run("insert into people values (1)").await.unwrap();
    assert_eq!(emptied.landed().await.landed, Landed::Confirmed, "a row that came later is not its failure");
    sql.run("truncate people").await.unwrap();
    let nothing = delete.inject(&target).await.unwrap().landed().await;
    assert_eq!(nothing.landed, Landed::Mismatch, "there was nothing to delete: {}", nothing.evidence);

    sql.run("insert into people select generate_series(1, 100)").await.unwrap();
    for (fault, expected) in [
        (Fault::FlipHeapBytes { table: people, pages: 50, seed: 7 }, "at least 50 pages"),
        (Fault::DropSlot, "expected a slot"),
        (Fault::InvalidateSlot, "expected a slot"),
    ] {
        let error = fault.inject(&target).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{fault:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_and_ends_with_its_owner() {
    let cluster = Cluster::start().await;
    cluster.sql().await.run("create table kept (a integer); insert into kept values (1)").await.unwrap();
    let Cluster { stack, owner, _folder } = cluster;
    let first = stack.pid("postgres").unwrap();
    stack.kill("postgres", Signal::SIGKILL).await.unwrap();
    assert!(!stack.running("postgres").unwrap());
    stack.start("postgres").await.unwrap();
    assert_ne!(stack.pid("postgres"), Some(first));
    let again = Postgres::connect(&stack.config().unwrap().postgres.url, "test").await.unwrap();
    assert_eq!(again.text("select count(*) from kept").await.unwrap().as_deref(), Some("1"));
    stack.stop("postgres").await.unwrap();
    stack.stop("postgres").await.unwrap();
    stack.start("postgres").await.unwrap();
    // What the kernel does when the owner's process ends, however it ends.
    drop(owner);
    stack.folder().all_gone(super::sandbox::DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_inherits_no_settings_of_database_and_role() {
    let cluster = Cluster::start().await;
    let sql = cluster.sql().await;
    let version: u32 = sql.value("show server_version_num").await.unwrap();
    let hostile = [
        ("statement_timeout", "'5s'", "0"),
        ("lock_timeout", "'5s'", "0"),
        ("idle_in_transaction_session_timeout", "'5s'", "0"),
        ("idle_session_timeout", "'5s'", "0"),
        ("transaction_timeout", "'5s'", "0"),
        ("default_transaction_isolation", "serializable", "read committed"),
        ("default_transaction_read_only", "on", "off"),
        ("default_transaction_deferrable", "on", "off"),
        ("row_security", "on", "off"),
        ("search_path", "elsewhere", "\"$user\",public"),
        ("standard_conforming_strings", "off", "on"),
        ("quote_all_identifiers", "on", "off"),
        ("client_encoding", "latin1", "UTF8"),
        ("TimeZone", "'Asia/Kathmandu'", "UTC"),
        ("DateStyle", "german", "ISO, MDY"),
        ("IntervalStyle", "iso_8601", "postgres"),
        ("bytea_output", "escape", "hex"),
        ("extra_float_digits", "-15", "1"),
        ("lc_monetary", "'C.UTF-8'", "C"),
    ];
    let known = hostile.iter().filter(|(name, ..)| *name != "transaction_timeout" || version >= 170_000);
    for (name, value, _) in known.clone() {
        sql.run(&format!("alter role current_user set {name} = {value}")).await.unwrap();
    }
    let (own, url) = (cluster.sql().await, cluster.stack.config().unwrap().postgres.url);
    let application = Postgres::connect_as_application(&url, "test").await.unwrap();
    for (name, _, expected) in known {
        let shown = own.text(&format!("select setting from pg_settings where name = '{name}'")).await.unwrap();
        assert_eq!(shown.as_deref(), Some(*expected), "{name}");
    }
    for (name, expected) in [("search_path", "elsewhere"), ("statement_timeout", "5s"), ("TimeZone", "UTC")] {
        let shown = application.text(&format!("show {name}")).await.unwrap();
        assert_eq!(shown.as_deref(), Some(expected), "{name}");
    }
    let given = url.expose().to_owned();
    let separator = if given.contains('?') { '&' } else { '?' };
    let asked = format!("{given}{separator}options=-c%20work_mem%3D3MB%20-c%20statement_timeout%3D5s");
    let asked = Secret::new(asked);
    let asked = Postgres::connect(&asked, "test").await.unwrap();
    assert_eq!(asked.text("show work_mem").await.unwrap().as_deref(), Some("3MB"), "an option of the address stands");
    assert_eq!(asked.text("show statement_timeout").await.unwrap().as_deref(), Some("0"), "and ours over it");
}
