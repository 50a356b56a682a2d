//! Data folders as people have them: with the configuration elsewhere, behind links, on volumes of their own. Each is recovered, or
//! refused before anything stops.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::stack::{ConnectorRequest, debezium_config};
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::{connect::Connect, postgres::Postgres},
    config::Config,
};

use super::{
    PROGRAM,
    interrupted::beside,
    prepared::{Mount, folder},
    sandbox::{Stack, expect},
};

/// A command that must succeed.
fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A cluster as Debian's packages make it: its configuration in a folder of its own, which names the data folder.
struct Debian {
    root: Utf8PathBuf,
}

impl Debian {
    /// Made and started, with the archive of a new repository.
    fn new(root: Utf8PathBuf, port: u16) -> Debian {
        for part in ["etc", "data", "socket"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        sh(&format!("chown -R postgres {root}"));
        let cluster = Debian { root };
        let root = &cluster.root;
        let made = format!("-d {root}/data/main -l {root}/log -s {root}/socket -p {port} 15 drill");
        sh(&format!("PG_CLUSTER_CONF_ROOT={root}/etc pg_createcluster {made} -- --auth-host=trust --auth-local=trust"));
        expect(0, &format!("backup init --repository {root}/repository"), "");
        sh(&format!("chown -R postgres {root}/repository"));
        // Where that account can reach it.
        std::fs::copy(PROGRAM, root.join("cdc-drill")).unwrap();
        let archive = format!("{root}/cdc-drill wal push --repository {root}/repository --pgdata {root}/data/main %p");
        let settings = format!("wal_level = logical\narchive_mode = on\narchive_command = '{archive}'\n");
        std::fs::write(root.join("etc/15/drill/conf.d/drill.conf"), settings).unwrap();
        sh(&cluster.control("start"));
        cluster
    }

    fn control(&self, what: &str) -> String {
        format!("PG_CLUSTER_CONF_ROOT={}/etc pg_ctlcluster --skip-systemctl-redirect 15 drill {what}", self.root)
    }

    /// The configuration of a pipeline with this cluster and a stack's brokers, workers and registry.
    fn config(&self, stack: &Stack, port: u16) -> Utf8PathBuf {
        let root = &self.root;
        let text = std::fs::read_to_string(stack.file()).unwrap();
        let sections = text.split("\n[").map(|section| match section.split(']').next().unwrap() {
            "control.postgres" => format!(
                "control.postgres]\nstart = \"{}\"\nstop = \"{}\"\nrunning = \"{} || exit 1\"\n",
                self.control("start"),
                self.control("stop -m fast"),
                self.control("status")
            ),
            "postgres" => format!(
                "postgres]\nbin = \"/usr/lib/postgresql/15/bin\"\npgdata = \"{root}/data/main\"\n\
                 url = \"postgres://postgres@127.0.0.1:{port}/postgres\"\n"
            ),
            "repository" => format!("repository]\npath = \"{root}/repository\"\n"),
            _ => section.to_owned(),
        });
        let path = root.join("cdc-drill.toml");
        std::fs::write(&path, sections.collect::<Vec<_>>().join("\n[")).unwrap();
        path
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let line = format!("PG_CLUSTER_CONF_ROOT={}/etc pg_dropcluster --stop 15 drill", self.root);
        let _ = Command::new("sh").args(["-c", &line]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_configuration_lies_elsewhere_comes_back() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let debian = Debian::new(path.join("debian"), port);
    let file = debian.config(&stack, port);
    let config = Config::load(&file).unwrap();
    let sql = async |name: &str| Postgres::connect_database(&config.postgres.url, name, "test").await.unwrap();
    sql("postgres").await.run("create database deb").await.unwrap();
    let rows = "create table orders (id int primary key, note text); \
                insert into orders select g, 'x' || g from generate_series(1, 200) g";
    sql("deb").await.run(rows).await.unwrap();
    let tables = vec![TableName::new("public", "orders")];
    let request = ConnectorRequest { name: "deb".into(), database: "deb".into(), tables };
    let connector = debezium_config(&config, &request).unwrap();
    Connect::of(&config.connect).put_config("deb", &connector).await.unwrap();
    stack.records("deb", 200).await;
    expect(0, &format!("backup create --config {file}"), "recovery point");
    sql("deb").await.run("insert into orders values (201, 'late')").await.unwrap();
    let run = format!("recover run coordinated --config {file} --yes");
    expect(0, &run, "the topics hold what the tables hold");
    let session = sql("deb").await;
    assert_eq!(session.value::<u64>("select count(*) from orders").await.unwrap(), 201);
    assert_eq!(session.timeline().await.unwrap().get(), 2);
    let place = session.text("show data_directory").await.unwrap();
    assert_eq!(place.as_deref(), Some(debian.root.join("data/main").as_str()));
    assert_eq!(beside(&debian.root.join("data/main"), ".aside-"), 1);

    // Dead, and its recovery point knows where the configuration is.
    sh(&debian.control("stop -m immediate"));
    expect(0, &run, "the topics hold what the tables hold");
    assert_eq!(sql("deb").await.timeline().await.unwrap().get(), 3);

    // On a machine that has nothing of it any more, with a list of names that only the access file knows.
    let etc = debian.root.join("etc/15/drill");
    sh(&format!("echo postgres > {etc}/admins && sed -i '1i local all @admins trust' {etc}/pg_hba.conf"));
    sh(&format!("chown postgres {etc}/admins && {}", debian.control("reload")));
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let points = debian.root.join("repository/points").read_dir_utf8().unwrap().map(|e| e.unwrap().into_path());
    let newest = points.filter(|path| path.is_dir()).max();
    let saved = newest.unwrap().join(format!("pg/outside{etc}/admins"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(saved).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    sh(&debian.control("stop -m immediate"));
    sh(&format!("mv {etc} {}/gone", debian.root));
    let taken = "gone, and made as the recovery point has it: ";
    let plan = expect(0, &format!("recover plan coordinated --config {file}"), taken);
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "conf.d/drill.conf", "admins"] {
        assert!(plan.err.contains(&format!("{etc}/{name}")), "no {name} in {}", plan.err);
    }
    assert!(!etc.exists(), "a plan makes nothing");
    super::interrupted::killed(&run, "stop-connectors:after");
    assert!(etc.join("admins").exists());
    expect(0, &format!("recover abort --config {file}"), "");
    assert!(!etc.join("admins").exists(), "what was made is removed");
    expect(0, &run, "the topics hold what the tables hold");
    assert_eq!(sql("deb").await.timeline().await.unwrap().get(), 4);
    let rules = "select count(*) from pg_hba_file_rules where user_name @> array['postgres'] and error is null";
    assert!(sql("deb").await.value::<u64>(rules).await.unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_behind_links_is_exchanged_behind_them() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let (file, pgdata) = (stack.file(), stack.config().postgres.pgdata.clone());
    let (volume, wal) = (path.join("volume"), path.join("wal"));
    let down = |line: &str| {
        expect(0, &format!("stack stop postgres --dir {}", stack.dir), "");
        sh(line);
        expect(0, &format!("stack start postgres --dir {}", stack.dir), "");
    };
    expect(0, &format!("backup create --config {file}"), "recovery point");

    // A volume that is mounted at the data folder itself.
    let mount = Mount::new(&format!("--bind {pgdata}"), &pgdata);
    for verb in ["plan coordinated", "run coordinated --yes"] {
        expect(40, &format!("recover {verb} --config {file}"), "a mount point");
    }
    assert!(Connect::of(&stack.config().connect).status("shop").await.unwrap().all_running());
    drop(mount);

    std::fs::create_dir(&volume).unwrap();
    std::fs::create_dir(&wal).unwrap();
    sh(&format!("chown --reference={pgdata} {volume} {wal}"));
    down(&format!(
        "mv {pgdata}/pg_wal {wal}/main && ln -s {wal}/main {pgdata}/pg_wal && mv {pgdata} {volume}/main && \
         ln -s {volume}/main {pgdata} && chown -h --reference={volume} {pgdata} {volume}/main/pg_wal"
    ));
    stack.sql("shop").await.run("insert into orders values (201, 'late')").await.unwrap();
    expect(0, &format!("recover run coordinated --config {file} --yes"), "the topics hold what the tables hold");
    assert_eq!(stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap(), 201);
    let link = |path: &Utf8Path| path.read_link_utf8().unwrap();
    assert_eq!(link(&pgdata), volume.join("main"));
    assert_eq!((beside(&volume.join("main"), ".aside-"), beside(&pgdata, ".aside-")), (1, 0));
    let current = link(&pgdata.join("pg_wal"));
    assert!(current.parent() == Some(&wal) && current != wal.join("main"), "{current}");
    expect(41, &format!("recover finish --config {file}"), "WAL folder of recovery");
    expect(0, &format!("recover finish --config {file} --yes"), "");
    let left: Vec<_> = wal.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    assert_eq!(left, [current]);
    expect(0, &format!("verify --config {file}"), "passed");

    // A tablespace made since the backup would be shared by the old folder and the new one.
    let space = path.join("space");
    std::fs::create_dir(&space).unwrap();
    sh(&format!("chown --reference={volume} {space}"));
    stack.sql("postgres").await.run(&format!("create tablespace fast location '{space}'")).await.unwrap();
    for verb in ["plan coordinated", "run coordinated --yes"] {
        expect(40, &format!("recover {verb} --config {file}"), &format!("at {space}"));
    }
    expect(40, &format!("backup create --config {file}"), &format!("tablespace fast at {space}"));
    assert_eq!(stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap(), 201);
}
