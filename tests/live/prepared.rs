//! What can be refused is refused before anything stops: damage, programs of another version, too little room. And what a recovery
//! keeps of the server's configuration.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use cdc_pipeline::client::connect::Connect;
use serde_json::Value;

use super::{
    interrupted::{beside, killed},
    sandbox::{DEADLINE, Said, Stack, cdc_drill, expect},
};

/// A folder that the servers' account can get through.
pub(super) fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

/// A mount that is taken away whatever happens.
pub(super) struct Mount(Utf8PathBuf);

impl Mount {
    pub(super) fn new(words: &str, at: &Utf8Path) -> Mount {
        let status = std::process::Command::new("mount").args(words.split(' ')).arg(at).status().unwrap();
        assert!(status.success(), "mount {words} {at}: the tests with small file systems want to run as root");
        Mount(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Flips one byte in the middle of a file, and back when it is dropped.
struct Flipped(Utf8PathBuf);

impl Flipped {
    fn new(path: Utf8PathBuf) -> Flipped {
        flip(&path);
        Flipped(path)
    }
}

impl Drop for Flipped {
    fn drop(&mut self) {
        flip(&self.0);
    }
}

fn flip(path: &Utf8Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The same configuration with other lines in the place of those that begin like them.
pub(super) fn other_config(stack: &Stack, name: &str, lines: &[&str]) -> Utf8PathBuf {
    let mut text = std::fs::read_to_string(stack.file()).unwrap();
    for line in lines {
        let key = line.split('=').next().unwrap();
        let old = text.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
        text = text.replacen(&old, line, 1);
    }
    let path = stack.dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Requires that a recovery ends like this, and that the pipeline runs as before.
async fn refused(stack: &Stack, exit: i32, line: &str, part: &str) -> Said {
    let (file, pgdata) = (stack.file(), stack.config().postgres.pgdata.clone());
    let said = expect(exit, line, part);
    assert!(!said.err.contains("stop-connectors: done"), "{}", said.err);
    assert_eq!(stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap(), 200, "{part}");
    assert!(Connect::of(&stack.config().connect).status("shop").await.unwrap().all_running(), "{part}");
    assert_eq!(beside(&pgdata, ".restoring-"), 0, "{part}: what was made is removed");
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
    said
}

/// A file below a folder whose name begins like this.
fn file_below(folder: &Utf8Path, begin: &str) -> Utf8PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir_utf8().unwrap() {
            let path = entry.unwrap().into_path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().unwrap().starts_with(begin) => return path,
                false => {}
            }
        }
    }
    panic!("no {begin} in {folder}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_while_everything_runs() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let (file, pgdata) = (stack.file(), stack.config().postgres.pgdata.clone());
    let created = expect(0, &format!("backup create --config {file} --json"), "");
    let created: Value = serde_json::from_str(&created.out).unwrap();
    let needed = created["parts"]["postgres"]["wal_required"][0].as_str().unwrap().to_owned();
    let repository = stack.dir.join("repository");
    let run = format!("recover run coordinated --config {file} --yes");

    let damage = Flipped::new(file_below(&repository.join("points"), "base.tar.zst"));
    refused(&stack, 31, &run, "is damaged: checksum of").await;
    drop(damage);
    let damage = Flipped::new(file_below(&repository.join("wal"), &format!("{needed}-")));
    refused(&stack, 31, &run, &format!("{needed}-")).await;
    drop(damage);

    let bin = path.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["postgres", "pg_controldata", "pg_waldump"] {
        std::fs::write(bin.join(name), format!("#!/bin/sh\necho '{name} (PostgreSQL) 15.3'\n")).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let other = other_config(&stack, "other.toml", &[&format!("bin = \"{bin}\"")]);
    for verb in ["plan coordinated", "run coordinated --yes"] {
        refused(&stack, 40, &format!("recover {verb} --config {other}"), "expected the program of PostgreSQL 18").await;
    }

    // A file of the configuration that the server would not start with is seen, and the backup's is taken instead.
    let sql = stack.sql("shop").await;
    sql.run("select pg_switch_wal()").await.unwrap();
    let between: String = sql.value("select pg_walfile_name(pg_create_restore_point('between'))").await.unwrap();
    sql.run("select pg_switch_wal()").await.unwrap();
    sql.run("select pg_create_restore_point('before')").await.unwrap();
    sql.run("delete from orders where id > 150").await.unwrap();
    sql.run("alter system set work_mem = '7MB'").await.unwrap();
    let hba = pgdata.join("pg_hba.conf");
    let since = "host all all 10.1.2.3/32 scram-sha-256\n";
    std::fs::write(&hba, std::fs::read_to_string(&hba).unwrap() + since).unwrap();
    sql.run("select pg_switch_wal()").await.unwrap();
    let target = format!("coordinated --config {file} --target name:before");
    expect(0, &format!("recover plan {target}"), "kept as it is now: pg_hba.conf, postgresql.auto.conf");

    // A run that is killed has stopped nothing yet, and is taken back or gone on with.
    killed(&format!("recover run {target} --yes"), "prepare:after");
    assert_eq!(beside(&pgdata, ".restoring-"), 1);
    expect(11, &format!("recover status --config {file}"), "prepare: begun, and not ended");
    expect(0, &format!("recover abort --config {file}"), "");
    assert_eq!(beside(&pgdata, ".restoring-"), 0);
    killed(&format!("recover run {target} --yes"), "prepare:after");
    killed(&format!("recover run {target} --yes"), "restore:replaying");
    let said = expect(0, &format!("recover run {target} --yes --json"), "the topics hold what the tables hold");
    assert!(said.err.contains("down: the database for"), "{}", said.err);
    let outcome: Value = serde_json::from_str(&said.out).unwrap();
    let (database, connectors) = (&outcome["downtime"]["database_seconds"], &outcome["downtime"]["connectors_seconds"]);
    assert!(0.0 < database.as_f64().unwrap() && database.as_f64() < connectors.as_f64(), "{outcome}");
    let findings = outcome["findings"].to_string();
    assert!(findings.contains("kept as it was last: pg_hba.conf"), "{findings}");
    let sql = stack.sql("shop").await;
    assert_eq!(sql.value::<u64>("select count(*) from orders").await.unwrap(), 200);
    assert_eq!(sql.text("show work_mem").await.unwrap().as_deref(), Some("7MB"));
    assert!(std::fs::read_to_string(&hba).unwrap().ends_with(since));

    // Of the new timeline nothing is archived yet: what leads to it is compared all the same.
    let damage = Flipped::new(file_below(&repository.join("wal"), &format!("{between}-")));
    refused(&stack, 31, &run, &format!("{between}-")).await;
    drop(damage);
    let damage = Flipped::new(file_below(&repository.join("wal"), "00000002.history"));
    refused(&stack, 31, &run, "00000002.history-").await;
    drop(damage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_repository_is_named_and_stops_nothing() {
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let file = stack.file();
    let repository = stack.dir.join("repository");
    // The archive goes on in a file system of its own.
    let copied = |from: &str, to: &Utf8Path| {
        let status = std::process::Command::new("cp").args(["-a", from]).arg(to).status().unwrap();
        assert!(status.success(), "{from}");
    };
    let kept = path.join("kept");
    copied(repository.as_str(), &kept);
    let _mount = Mount::new("-t tmpfs -o size=96m tmpfs", &repository);
    copied(&format!("{kept}/."), &repository);
    expect(0, &format!("backup create --config {file}"), "recovery point");
    let filler = repository.join("filler");
    let free = nix::sys::statvfs::statvfs(repository.as_std_path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    std::fs::write(&filler, vec![1u8; usize::try_from(free).unwrap() - (3 << 20)]).unwrap();

    let full = cdc_drill(&format!("backup create --config {file}"));
    // Before anything is written: what is left is for the server's WAL.
    assert_eq!(full.exit, 35, "{}", full.err);
    assert!(full.err.contains(&format!("no recovery point is taken into {repository}")), "{}", full.err);
    assert!(full.err.contains("free on the file system"), "{}", full.err);
    for verb in ["plan coordinated", "run coordinated --yes"] {
        refused(&stack, 40, &format!("recover {verb} --config {file}"), "for salvaged WAL in").await;
    }
    std::fs::remove_file(&filler).unwrap();
    stack.records("shop", 200).await;
    expect(0, &format!("verify --config {file} --deadline {}s", DEADLINE.as_secs()), "passed");
}
