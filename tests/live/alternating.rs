//! A recovery that root and the server's account go on with in turns, with its records in a folder of their own.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::ExitStatusExt,
    },
    process::Command,
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_harness::stack::Account;

use super::{
    PROGRAM,
    prepared::folder,
    sandbox::{Stack, expect},
};

/// A pipeline whose hooks start and stop the server as its own account, whoever calls them.
struct Pipeline {
    root: Utf8PathBuf,
    file: Utf8PathBuf,
    program: Utf8PathBuf,
    account: Account,
    stop: String,
}

impl Pipeline {
    fn of(stack: &Stack, root: &Utf8Path, records: &str) -> Pipeline {
        let account = Account::choose().unwrap();
        let postgres = &stack.config().postgres;
        let (pgdata, bin) = (&postgres.pgdata, &postgres.bin);
        let owner = std::fs::metadata(pgdata).unwrap();
        let become_it = format!("setpriv --reuid {} --regid {} --clear-groups", owner.uid(), owner.gid());
        let ctl = |what: &str| {
            format!("P=; [ $(id -u) != 0 ] || P='{become_it}'; cd /; $P {bin}/pg_ctl -D {pgdata} -w -t 600 {what}")
        };
        let text = std::fs::read_to_string(stack.file()).unwrap();
        let sections = text.split("\n[").map(|section| match section.split(']').next().unwrap() {
            "control.postgres" => format!(
                "control.postgres]\nstart = \"{}\"\nstop = \"{}\"\nrunning = \"{} || exit 1\"\n",
                ctl(&format!("-l {}/server.log start > /dev/null", pgdata.parent().unwrap())),
                ctl("-m fast stop"),
                ctl("status")
            ),
            "repository" => format!("{section}\n[recovery]\nfolder = \"{records}\"\n"),
            _ => section.to_owned(),
        });
        let (file, program) = (root.join(format!("{records}.toml")), root.join("cdc-drill"));
        std::fs::write(&file, sections.collect::<Vec<_>>().join("\n[")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        account.give(&file).unwrap();
        std::fs::copy(PROGRAM, &program).unwrap();
        Pipeline { root: root.to_owned(), file, program, account, stop: ctl("-m immediate stop") }
    }

    fn command(&self, by_root: bool, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(line.split(' ')).args(["--config", self.file.as_str()]);
        command.current_dir(&self.root).env("CDC_DRILL_BIN", &self.program);
        if !by_root {
            self.account.run_as(&mut command);
        }
        command
    }

    fn expect(&self, by_root: bool, exit: i32, line: &str, parts: &[&str]) {
        let output = self.command(by_root, line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{line}, by root: {by_root}\n{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{line}: no `{part}` in\n{said}"));
    }

    fn killed(&self, by_root: bool, line: &str, at: &str) {
        let mut command = self.command(by_root, line);
        let output = command.env("CDC_DRILL_INTERRUPT", format!("{at}:kill")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(9), "{line}, by root: {by_root}, {at}\n{said}");
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Started by a hook, it is no server of the stack's.
        let _ = Command::new("sh").args(["-c", &self.stop]).output();
    }
}

/// Everything in a folder belongs to this account, and only to it.
fn belongs_to(folder: &Utf8Path, uid: u32) {
    for entry in folder.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o077), (uid, 0), "{path}");
        if meta.is_dir() {
            belongs_to(&path, uid);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_and_the_servers_account_go_on_with_one_anothers_recoveries() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can be another account");
        return;
    }
    let (_folder, path) = folder();
    let stack = Stack::beside_lent(path.join("stack"));
    stack.pipeline("shop").await;
    let pgdata = stack.config().postgres.pgdata.clone();
    expect(0, &format!("stack stop postgres --dir {}", stack.dir), "");
    let pipeline = Pipeline::of(&stack, &path, "records");
    let (root, server) = (true, false);
    let start = pipeline.stop.replace("-m immediate stop", "-l /dev/null start > /dev/null");
    assert!(Command::new("sh").args(["-c", &start]).status().unwrap().success());
    pipeline.expect(root, 0, "backup create", &["recovery point"]);
    stack.sql("shop").await.run("insert into orders values (201, 'late')").await.unwrap();

    let run = "recover run coordinated --yes";
    pipeline.killed(root, run, "stop-connectors:after");
    pipeline.expect(server, 11, "recover status", &["stop-connectors: begun", &format!("{path}/records/")]);
    pipeline.expect(server, 34, "backup create", &[&format!("its record is {path}/records/")]);
    // Whoever changes the setting meanwhile does not lose it.
    let moved = Pipeline::of(&stack, &path, "others");
    let named = [&*format!("its record is {path}/records/"), &format!("{path}/others"), "[recovery] folder"];
    for line in [run, "recover plan coordinated", "recover status", "recover resume", "recover abort", "recover finish"]
    {
        moved.expect(root, 41, line, &named);
    }
    std::mem::forget(moved);
    pipeline.killed(server, "recover resume", "restore:set-aside");
    pipeline.killed(root, "recover resume", "open:after");
    pipeline.killed(server, run, "delete-topics:after");
    pipeline.expect(root, 0, "recover resume", &["the topics hold what the tables hold"]);
    assert_eq!(stack.sql("shop").await.value::<u64>("select count(*) from orders").await.unwrap(), 201);

    pipeline.killed(server, run, "fence:after");
    pipeline.expect(root, 0, "recover abort", &[]);
    pipeline.killed(root, run, "fence:after");
    pipeline.expect(server, 0, "recover abort", &[]);
    pipeline.expect(server, 0, "recover finish --yes", &["data folder of recovery"]);
    pipeline.expect(root, 0, "backup create", &["recovery point"]);
    let uid = std::fs::metadata(&pgdata).unwrap().uid();
    belongs_to(&path.join("records"), uid);
    belongs_to(&stack.dir.join("repository"), uid);
}
