//! The property that everything else leans on, against a real server: the ledger replayed in commit order is the tables.
//!
//! Needs a PostgreSQL that the tests may create databases on: `CDC_DRILL_TEST_URL`, `CDC_DRILL_TEST_PGDATA`,
//! `CDC_DRILL_TEST_BIN`. Run by `cargo test --lib workload::live -- --ignored`.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::{
    ledger::{Ledger, Outcome, TableState, Tables},
    shop::tables,
    *,
};
use crate::{
    client::postgres::Postgres,
    units::{Epoch, Lsn, Secret, TableName},
};

struct Server {
    url: Secret,
    pgdata: Utf8PathBuf,
    bin: Utf8PathBuf,
    from: Lsn,
    _keep: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Server {
    /// A fresh database with the schema.
    async fn open(name: &str, schema: &str) -> Server {
        let env = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let admin = Secret::new(env("CDC_DRILL_TEST_URL"));
        let name = format!("{name}_{}", std::process::id());
        let pg = Postgres::connect(&admin, "test").await.unwrap();
        pg.run(&format!("create database {name} template template0")).await.unwrap();
        let from = pg.value("select pg_current_wal_insert_lsn()").await.unwrap();
        let (base, _) = admin.expose().rsplit_once('/').unwrap();
        let url = Secret::new(format!("{base}/{name}"));
        Postgres::connect(&url, "test").await.unwrap().run(schema).await.unwrap();
        let keep = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned()).unwrap();
        let (pgdata, bin) = (env("CDC_DRILL_TEST_PGDATA").into(), env("CDC_DRILL_TEST_BIN").into());
        Server { url, pgdata, bin, from, _keep: keep, dir }
    }

    fn spec(&self, seed: u64) -> WorkloadSpec {
        WorkloadSpec { seed, writers: 4, token_prefix: format!("t{seed}"), ledger_dir: self.dir.join("ledger") }
    }

    /// The ledger with its order and settled outcomes.
    async fn settled(&self) -> Ledger {
        let pg = Postgres::connect(&self.url, "test").await.unwrap();
        let mut ledger = Ledger::load(&self.dir.join("ledger")).unwrap();
        let range = WalRange {
            folders: vec![self.pgdata.join("pg_wal")],
            timeline: pg.timeline().await.unwrap(),
            from: Some(self.from),
            to: None,
        };
        let scan = commit_order(&self.bin, range).await.unwrap();
        assert!(scan.last_record.is_some(), "{}", scan.ended);
        for epoch in 0..3 {
            ledger.order.insert(Epoch(epoch), scan.commits.clone());
        }
        ledger.settle(&present_tokens(&pg).await.unwrap());
        ledger
    }

    /// Compares the replayed ledger with the tables, and says where they differ.
    async fn assert_equal(&self, ledger: &Ledger) {
        let actual = capture(&self.url, &tables()).await.unwrap();
        let mut replayed: Tables = tables().into_iter().map(|t| (t, TableState::default())).collect();
        ledger.replay(&mut replayed, |_, _| true);
        for (table, state) in &actual {
            let other = &replayed[table];
            for (key, row) in &state.keyed {
                assert_eq!(Some(row), other.keyed.get(key), "{table} {key}");
            }
            assert_eq!(state.keyed.len(), other.keyed.len(), "{table}");
            assert_eq!(state.unkeyed, other.unkeyed, "{table}");
        }
    }
}

const SHOP: &str = include_str!("../../fixtures/sql/shop.sql");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn the_replayed_ledger_is_the_tables() {
    for seed in 1..=5 {
        let server = Server::open(&format!("replay{seed}"), SHOP).await;
        let mut workload = Workload::start(&server.url, server.spec(seed), Epoch(0)).await.unwrap();
        let seeded = workload.seed_rows(3_000).await.unwrap();
        assert_eq!(seeded.rows, 3_000);
        println!("seed {seed}: {:.2} s for {} rows", seeded.seconds, seeded.rows);
        let must = vec![
            Must::InsertNewKeys,
            Must::Update,
            Must::Delete,
            Must::ChangeKey,
            Must::RollBack,
            Must::Savepoint,
            Must::MultiTable,
        ];
        let spec = LoadSpec { transactions: 403, must, tables: None };
        let done = workload.load(spec.clone()).await.unwrap();
        println!("{done:?}");
        assert_eq!((done.attempted, done.failed, done.unknown), (403, 0, 0), "{:?}", done.first_error);
        assert_eq!(done.missing, []);
        workload.set_epoch(Epoch(1)).await;
        workload.load(spec).await.unwrap();

        let ledger = server.settled().await;
        let acknowledged = ledger.entries.iter().filter(|e| e.outcome == Outcome::Acknowledged);
        for entry in acknowledged {
            assert!(ledger.commit(entry).is_some(), "no commit record of {}", entry.token);
        }
        server.assert_equal(&ledger).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn the_order_of_writers_alone_is_not_the_order_of_commits() {
    let server = Server::open("order", SHOP).await;
    let mut workload = Workload::start(&server.url, server.spec(9), Epoch(0)).await.unwrap();
    workload.seed_rows(500).await.unwrap();
    let products = Some(vec![TableName::new("public", "products")]);
    workload.load(LoadSpec { transactions: 400, must: vec![], tables: products }).await.unwrap();
    let mut ledger = server.settled().await;
    server.assert_equal(&ledger).await;
    ledger.order = BTreeMap::new();
    let mut replayed = Tables::new();
    ledger.replay(&mut replayed, |_, _| true);
    let actual = capture(&server.url, &tables()).await.unwrap();
    let products = TableName::new("public", "products");
    assert_ne!(replayed[&products], actual[&products], "the WAL's order is needed, or this test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn connections_cut_at_any_moment_leave_outcomes_that_settle() {
    let server = Server::open("cut", SHOP).await;
    let mut workload = Workload::start(&server.url, server.spec(11), Epoch(0)).await.unwrap();
    workload.seed_rows(500).await.unwrap();
    let pg = Postgres::connect(&server.url, "test").await.unwrap();
    workload.hammer().unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'cdc-drill writer%'";
    for _ in 0..30 {
        pg.texts(cut).await.unwrap();
        crate::client::wait::pause_for(std::time::Duration::from_millis(120)).await;
    }
    let done = workload.stop_hammer().await.unwrap();
    println!("{done:?}");
    assert!(done.acknowledged > 20 && done.failed + done.unknown > 5, "{done:?}");
    let ledger = server.settled().await;
    server.assert_equal(&ledger).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn the_same_seed_leaves_the_same_counts() {
    let mut seen = Vec::new();
    for at in 0..2 {
        let server = Server::open(&format!("same{at}"), SHOP).await;
        let mut workload = Workload::start(&server.url, server.spec(5), Epoch(0)).await.unwrap();
        workload.seed_rows(1_000).await.unwrap();
        let mut done = workload.load(LoadSpec { transactions: 300, ..LoadSpec::default() }).await.unwrap();
        done.seconds = 0.0;
        let counts: Vec<u64> = capture(&server.url, &tables()).await.unwrap().values().map(TableState::len).collect();
        seen.push((done, counts));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn a_changed_schema_still_takes_the_load() {
    let server = Server::open("changed", SHOP).await;
    let mut workload = Workload::start(&server.url, server.spec(6), Epoch(0)).await.unwrap();
    workload.seed_rows(500).await.unwrap();
    let pg = Postgres::connect(&server.url, "test").await.unwrap();
    for sql in [
        "alter table orders alter priority type text",
        "alter table orders alter channel set not null",
        "alter table customers add shard integer not null default 0",
        "alter table customers alter shard drop default",
        "alter table products drop column attributes",
    ] {
        pg.run(sql).await.unwrap();
    }
    let done = workload.load(LoadSpec { transactions: 200, ..LoadSpec::default() }).await.unwrap();
    assert_eq!((done.failed, done.unknown), (0, 0), "{:?}", done.first_error);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL"]
async fn pgbench_counts_exactly_and_its_sums_hold() {
    let server = Server::open("bench", "select 1").await;
    pgbench::init(&server.bin, &server.url, 1).await.unwrap();
    let done = pgbench::load(&server.bin, &server.url, 3, 200, 1).await.unwrap();
    assert_eq!((done.processed, done.failed), (200, 0));
    let pg = Postgres::connect(&server.url, "test").await.unwrap();
    let sums = pgbench::invariants(&pg).await.unwrap();
    assert!(sums.hold() && sums.history == 200, "{sums:?}");
    let captured = capture(&server.url, &pgbench::tables()).await.unwrap();
    let counts: Vec<u64> = captured.values().map(TableState::len).collect();
    assert_eq!(counts, [100_000, 1, 200, 10]);
    assert!(captured[&TableName::new("public", "pgbench_history")].keyed.is_empty());
}
