//! A pipeline that somebody else started: three brokers, two workers, two PostgreSQL servers, and a configuration with only
//! its endpoints, its hooks and what is permitted. Nothing here calls the library where a person would call a command.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::stack::Folder;
use cdc_model::units::{Secret, Subject};
use cdc_pipeline::{
    client::{connect::Connect, kafka::Kafka, postgres::Postgres, registry::Registry, wait},
    config::Config,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::sandbox::DEADLINE;
pub(super) use super::sandbox::{Stack, cdc_drill, expect};

/// The configuration of a person to whom the pipeline was described: endpoints, hooks, a password file.
pub(super) fn attached(folder: &Utf8Path, of: &Config, attach: &str) -> Utf8PathBuf {
    let url: tokio_postgres::Config = of.postgres.url.expose().parse().unwrap();
    let password = String::from_utf8_lossy(url.get_password().unwrap()).into_owned();
    std::fs::write(folder.join("password"), password).unwrap();
    let hook = &of.control["postgres"];
    let text = format!(
        "[postgres]\nurl = 'postgres://postgres@{}:{}/shop'\npassword_file = 'password'\nbin = '{}'\n\
         [kafka]\nbootstrap = '{}'\n[connect]\nurl = '{}'\n[registry]\nurl = '{}'\nflavour = 'apicurio'\n\
         [repository]\npath = '{}'\n[control.postgres]\nstart = '{}'\nstop = '{}'\nrunning = '{}'\npgdata = 'echo {}'\n\
         timeout = '1m'\n{}[attach]\n{attach}\n",
        host(&url),
        url.get_ports()[0],
        of.postgres.bin,
        of.kafka.bootstrap,
        of.connect.url,
        of.registry.url,
        of.repository.path,
        hook.start,
        hook.stop,
        hook.running,
        of.postgres.pgdata,
        hook.tool.as_ref().map_or(String::new(), |tool| format!(
            "tool = \"\"\"{tool}\"\"\"\nscratch = '{}'\n",
            hook.scratch.as_ref().unwrap()
        )),
    );
    let file = folder.join("attached.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn host(url: &tokio_postgres::Config) -> &str {
    match &url.get_hosts()[0] {
        tokio_postgres::config::Host::Tcp(name) => name,
        tokio_postgres::config::Host::Unix(path) => path.to_str().unwrap(),
    }
}

/// Refused, whatever is missing, and nothing touched.
async fn refused_without_permission_or_marker(folder: &Utf8Path, shop: &Stack) -> String {
    let id = shop.sql("shop").await.system_id().await.unwrap();
    let cluster = Kafka::of(&shop.config.kafka).unwrap().cluster_id().await.unwrap().unwrap();
    let recover = |attach: &str, part: &str| {
        let file = attached(folder, &shop.config, attach);
        expect(41, &format!("recover run coordinated --config {file} --yes"), part);
        expect(41, &format!("backup create --config {file}"), "refused for safety");
        expect(41, &format!("run --backend attach --config {file} database-corruption"), "inject");
    };
    let allow = "allow = ['backup', 'recover']";
    recover("", "nothing: read-only");
    recover(allow, "[attach] marker");
    recover(&format!("{allow}\nmarker = 'play'\nsystem_ids = ['77']"), "PostgreSQL system identifier");
    recover(&format!("{allow}\nmarker = 'play'\nsystem_ids = ['{id}']"), "cdc-drill-target=play");
    shop.sql("shop").await.run("comment on database shop is 'staging; cdc-drill-target=play'").await.unwrap();
    recover(&format!("{allow}\nmarker = 'play'\nsystem_ids = ['{id}']"), "Kafka cluster id");
    let known = format!("{allow}\nmarker = 'play'\nsystem_ids = ['{id}']\nclusters = ['{cluster}']");
    recover(&known, "topic `cdc-drill-target.play`");
    let marker = cdc_pipeline::client::kafka::TopicSpec {
        name: "cdc-drill-target.play".into(),
        partitions: 1,
        replication: 1,
        settings: Default::default(),
    };
    Kafka::of(&shop.config.kafka).unwrap().create_topics(&[marker]).await.unwrap();
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_of_one_server_leaves_its_neighbours_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let shop = Stack::up(root.join("a"), "--brokers 3 --workers 2");
    let stock = Stack::up(root.join("b"), &format!("--join {}", shop.file()));
    tokio::join!(shop.pipeline("shop"), stock.pipeline("stock"));

    let known = refused_without_permission_or_marker(&root, &shop).await;
    let stranger = attached(&root, &shop.config, &format!("{known}\nnamespaces = ['other']"));
    expect(0, &format!("backup create --config {stranger}"), "recovery point");
    expect(41, &format!("recover run coordinated --config {stranger} --yes"), "topic prefix: expected one in other");
    let file = attached(&root, &shop.config, &format!("{known}\nnamespaces = ['shop', 'extra']"));
    shop.sql("shop").await.run("delete from orders where id <= 50").await.unwrap();
    expect(0, &format!("recover run coordinated --config {file} --dry-run"), "dry run: would");
    expect(41, &format!("recover run coordinated --config {file}"), "nothing was changed");

    let (shop_before, stock_before) = (shop.topic_id("shop").await, stock.topic_id("stock").await);
    let writing = writer(&stock.config.postgres.url);
    let said = expect(0, &format!("recover run coordinated --config {file} --yes --json"), "neighbours     passed");
    let written = writing.await.unwrap();
    let outcome: Value = serde_json::from_str(&said.out).unwrap();
    let note = outcome["neighbours"]["notes"][0].as_str().unwrap();
    assert!(note.contains(&format!("stock.public.orders {stock_before}")) && note.contains("slot stock"), "{note}");
    let fence = outcome["steps"].as_array().unwrap().iter().find(|step| step["name"] == "fence").unwrap();
    assert!(fence["hooks"].as_array().is_some_and(|h| !h.is_empty()), "the fence's hooks are reported");
    assert_eq!(stock.topic_id("stock").await, stock_before);
    assert_ne!(shop.topic_id("shop").await, shop_before);
    // Every row that was written meanwhile arrived, and each once.
    stock.records("stock", 200 + written).await;
    expect(0, &format!("verify --config {}", stock.file()), "passed");

    shop.pipeline("extra").await;
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let one = format!("recover run coordinated --config {file} --yes --connector shop");
    expect(40, &one, "left out: extra");
    expect(0, &format!("{one} --connector extra"), "passed: the topics hold what the tables hold");
}

/// Writes on the other server for as long as a recovery takes; how many rows.
fn writer(url: &Secret) -> tokio::task::JoinHandle<i64> {
    let url = url.clone();
    tokio::spawn(async move {
        let sql = Postgres::connect_database(&url, "stock", "writer").await.unwrap();
        for id in 1000..1100 {
            sql.run(&format!("insert into orders values ({id}, 'meanwhile')")).await.unwrap();
            wait::pause_for(Duration::from_millis(100)).await;
        }
        100
    })
}

/// Whichever way the servers run: dead database, lost slot, lost subject, each brought back by endpoints and hooks alone.
async fn every_playbook_works_attached(more: &str, environment: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let shop = Stack::up_with(root.join("a"), more, environment);
    shop.pipeline("shop").await;
    let known = refused_without_permission_or_marker(&root, &shop).await;
    let file = attached(&root, &shop.config, &format!("{known}\nnamespaces = ['shop']"));
    expect(0, &format!("backup create --config {file}"), "recovery point");
    shop.sql("shop").await.run("insert into orders values (201, 'after the backup')").await.unwrap();
    let folder = Folder::open(&shop.dir).unwrap();
    folder.kill("postgres", Signal::SIGKILL).await.unwrap();
    expect(10, &format!("verify --config {file} --deadline 5s"), "expected a server that answers");
    expect(
        0,
        &format!("recover run coordinated --config {file} --yes"),
        "passed: the topics hold what the tables hold",
    );
    let rows: i64 = shop.sql("shop").await.value("select count(*) from orders").await.unwrap();
    assert_eq!(rows, 201);

    let connect = Connect::of(&shop.config.connect);
    connect.stopped("shop", DEADLINE).await.unwrap();
    let sql = shop.sql("shop").await;
    sql.run("select pg_drop_replication_slot('shop'); delete from orders where id <= 10").await.unwrap();
    // It is to run: what is found stopped is stopped again in the end.
    connect.resume("shop").await.unwrap();
    expect(10, &format!("verify --config {file} --deadline 5s"), "");
    expect(0, &format!("recover run slot --config {file} --yes"), "passed: the topics hold what the tables hold");

    let value = Subject::new("shop.public.orders-value");
    expect(0, &format!("backup create --config {file}"), "recovery point");
    Registry::of(&shop.config.registry).delete_subject(&value, true).await.unwrap();
    expect(10, &format!("verify --config {file} --deadline 5s"), "");
    expect(0, &format!("recover run schema --config {file} --yes"), "passed: the topics hold what the tables hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_playbook_works_on_processes_of_somebody() {
    every_playbook_works_attached("", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_playbook_works_on_containers_of_somebody() {
    if let Some(images) = super::containers::images() {
        // Only `stack up` is told of them: the other commands know hooks and addresses.
        every_playbook_works_attached("--backend docker", &images).await;
    }
}
