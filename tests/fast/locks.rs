//! Locks between processes: of other PID namespaces, of other accounts, and as the commands answer them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_engine::backup::{Activity, BackupError, ClusterName, Left, Lock, Repository};
use cdc_pipeline::client::wait::{self, Poll};
use nix::unistd::geteuid;

use super::contract::DEAD;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cdc-drill");
/// Names the repository to a test that was started to hold its lock.
const REPOSITORY: &str = "CDC_DRILL_TEST_LOCKED_REPOSITORY";
/// Names the data folder to a test that was started as another account.
const PGDATA: &str = "CDC_DRILL_TEST_LOCKED_PGDATA";
const READY: &str = "the lock is held";
const NOBODY: u32 = 65534;

/// A repository, and a configuration of a pipeline that is dead.
fn pipeline() -> (tempfile::TempDir, Repository, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(folder.path()).unwrap();
    let repository = Repository::init(&root.join("repository")).unwrap();
    let file = root.join("dead.toml");
    let text = DEAD.replace("pgdata = \"pgdata\"", "pgdata = \"main\"");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    (folder, repository, file)
}

fn left(repository: &Repository) -> Left {
    Left {
        recovery: "20261122T201400Z-1a2b".into(),
        folder: repository.path().join("recoveries/20261122T201400Z-1a2b"),
        repository: repository.path().to_owned(),
        asked: "recover run coordinated --target latest".into(),
        cluster: ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None },
    }
}

/// `backup create` ends with this code and says all of this.
fn create(config: &Utf8Path, exit: i32, parts: &[&str]) {
    let output = Command::new(PROGRAM).args(["backup", "create", "--config", config.as_str()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "no `{part}` in\n{said}"));
}

#[test]
fn backup_create_is_refused_while_a_recovery_runs_and_as_long_as_it_is_unfinished() {
    let (_folder, repository, config) = pipeline();
    let dead = "kafka at 127.0.0.1:1 does not answer";
    create(&config, 13, &[dead]);
    let recovery = repository.lock(Activity::Recover, "recover run coordinated").unwrap();
    let pid = format!("recover run coordinated (pid {}", std::process::id());
    create(&config, 34, &[&pid, "locks/recovery.lock"]);
    let left = left(&repository);
    recovery.leave(left.clone()).unwrap();
    create(&config, 34, &[&pid]);
    drop(recovery);
    let next = "`cdc-drill recover resume` goes on with it".to_owned();
    create(&config, 34, &[&left.recovery, left.folder.as_str(), &next]);
    repository.lock(Activity::Recover, "recover run coordinated").unwrap().clear(&left.recovery).unwrap();
    create(&config, 13, &[dead]);

    // The same from another repository.
    let pgdata = config.with_file_name("main");
    let beside = Lock::beside(&pgdata, "recover run coordinated", None).unwrap().unwrap();
    create(&config, 34, &[&pid, ".cdc-drill/main.lock"]);
    beside.leave(Left { repository: "/the/other".into(), ..left }).unwrap();
    drop(beside);
    create(&config, 34, &["/the/other"]);
    assert_eq!(repository.points().unwrap(), []);
}

/// A process that holds the recovery's lock; dropped, it is killed.
struct Holding(Child);

impl Holding {
    /// Starts this test again by `wrapper`, to hold the lock.
    fn start(repository: &Repository, wrapper: &[&str]) -> Holding {
        let mut child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "locks::a_lock_is_held_across_pid_namespaces_and_ends_with_its_holder"])
            .env(REPOSITORY, repository.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)), "the lock was not taken");
        Holding(child)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn hold(repository: &str) {
    let repository = Repository::open(repository.into()).unwrap();
    let _lock = repository.lock(Activity::Recover, "recover run slot").unwrap();
    #[expect(clippy::print_stdout, reason = "told to the test that started this program")]
    {
        println!("{READY}");
    }
    // Whoever started this ends it; were that process killed itself, its end of the pipe is closed.
    let _ = std::io::stdin().read(&mut [0]);
}

#[tokio::test]
async fn a_lock_is_held_across_pid_namespaces_and_ends_with_its_holder() {
    if let Ok(repository) = std::env::var(REPOSITORY) {
        return hold(&repository);
    }
    let (_folder, repository, config) = pipeline();
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let permitted = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    match permitted {
        Ok(output) if output.status.success() => {}
        refused => {
            eprintln!("left out: no PID namespace can be made here: {refused:?}");
            return;
        }
    }
    let take = || repository.lock(Activity::Recover, "recover run slot");
    let holding = Holding::start(&repository, &unshare);
    let error = take().unwrap_err();
    assert!(matches!(error, BackupError::LockHeld { .. }), "{error}");
    drop(holding);
    // Of a process that is killed, the kernel closes the files a moment later.
    let taken = wait::until("the lock of a killed process", Duration::from_secs(60), || async {
        match take() {
            Ok(lock) => Ok(Poll::Ready(lock)),
            Err(BackupError::LockHeld { holder, .. }) => Ok(Poll::NotYet(holder)),
            Err(other) => Err(other),
        }
    });
    let lock =
        taken.await.expect("a fresh heartbeat does not keep the lock of a process of this kernel that has ended");

    // And the other way round: from within a namespace, a holder outside is seen.
    let held = Command::new(unshare[0])
        .args(&unshare[1..])
        .args([PROGRAM, "backup", "create", "--config", config.as_str()])
        .output()
        .unwrap();
    assert_eq!(held.status.code(), Some(34), "{}", String::from_utf8_lossy(&held.stderr));
    drop(lock);
}

#[test]
fn an_account_that_cannot_write_beside_the_data_folder_goes_on_without_that_lock() {
    if let Ok(pgdata) = std::env::var(PGDATA) {
        let taken = Lock::beside(pgdata.as_str().into(), "recover run slot", None).unwrap();
        println!("{}", if taken.is_some() { "taken" } else { "none" });
        return;
    }
    if !geteuid().is_root() {
        eprintln!("left out: only root becomes another account");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let pgdata = folder.path().join("main");
    fs::create_dir(&pgdata).unwrap();
    let said = |account: u32| {
        // The folder of the test's program may be closed to others; the program itself is not.
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "--nocapture"]);
        command.arg("locks::an_account_that_cannot_write_beside_the_data_folder_goes_on_without_that_lock");
        let output = command.uid(account).gid(account).current_dir("/").env(PGDATA, &pgdata).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    assert!(said(NOBODY).contains("none"));
    assert!(said(0).contains("taken"));
    assert!(said(NOBODY).contains("none"), "nor where root's lock files lie");
}
