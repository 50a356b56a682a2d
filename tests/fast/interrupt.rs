//! A library leaves its caller's signals alone: whoever ran a session still ends at Ctrl-C.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use cdc_harness::run::Session;
use cdc_pipeline::client::{
    limits,
    wait::{self, Poll},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Names the folder for reports to the program that is this test once more.
const FOLDER: &str = "CDC_DRILL_TEST_SESSIONS";
const READY: &str = "sessions have run";

/// Runs sessions that end at once, as the programs that they need cannot be had, and waits to be ended.
async fn run_sessions(folder: &str) {
    for _ in 0..20 {
        let run = Session::new(folder).options(|options| options.isolated = true).run().await;
        assert!(run.is_err(), "a folder below /dev/null is no cache");
    }
    #[allow(clippy::print_stdout, reason = "told to the test that started this program")]
    {
        println!("{READY}");
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_program_that_ran_sessions_ends_at_ctrl_c() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return run_sessions(&folder).await;
    }
    let folder = tempfile::tempdir().unwrap();
    // Whoever runs the tests in the background ignores the signal, and so would this program.
    let mut child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "interrupt::a_program_that_ran_sessions_ends_at_ctrl_c"])
        .env(FOLDER, folder.path())
        .env("CDC_DRILL_CACHE", "/dev/null/cache")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(READY)), "the sessions did not end");
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGINT).unwrap();
    // Were the signal taken, it would not end by itself.
    let child = std::cell::RefCell::new(child);
    let ended = wait::until("the program to end at Ctrl-C", limits::servers::KILLED, || async {
        Ok::<_, std::convert::Infallible>(match child.borrow_mut().try_wait().unwrap() {
            Some(status) => Poll::Ready(status),
            None => Poll::NotYet("it runs".into()),
        })
    })
    .await;
    if ended.is_err() {
        child.borrow_mut().kill().unwrap();
    }
    assert_eq!(ended.expect("Ctrl-C ends the program").signal(), Some(Signal::SIGINT as i32));
}
