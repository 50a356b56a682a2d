//! Runs a command of a scenario's own: on a leash, for a limited time, with its words kept.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::Child;

use crate::run::RunError;
use cdc_pipeline::client::limits;

/// Runs the command, and beside it a watcher that ends the whole process group when standard input closes: that happens
/// when this process ends in any way, also by SIGKILL.
const LEASH: &str = r#"exec 3<&0
( read _ <&3; kill -KILL 0 ) </dev/null >/dev/null 2>&1 &
watcher=$!
sh -c "$1" 3<&- </dev/null
status=$?
kill $watcher 2>/dev/null
exit $status"#;

/// What of its words is evidence; all of them are in the log.
const LINES_MAX: usize = 30;
const CHARS_MAX: usize = 3000;
/// What `sh` says of a program that it cannot find, and of one that it may not run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// What to run.
#[derive(Debug)]
pub(crate) struct Command<'c> {
    /// For `sh -c`.
    pub text: &'c str,
    /// Where.
    pub folder: Utf8PathBuf,
    /// What it is told, beside what this process was told.
    pub environment: BTreeMap<&'static str, String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Where its words go.
    pub log: Utf8PathBuf,
    /// What must not be shown of its words.
    pub secret: String,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// None when its time was up.
    pub status: Option<ExitStatus>,
    /// The last of what it said.
    pub said: String,
    /// How long it took.
    pub seconds: f64,
    timeout: Duration,
}

impl Command<'_> {
    /// Runs it to its end, or to the end of its time; then nothing of its process group is left. `meanwhile` is called again
    /// and again while it runs, and once when it has ended.
    pub(crate) async fn run(&self, mut meanwhile: impl FnMut()) -> Result<Ended, RunError> {
        std::fs::create_dir_all(&self.folder).map_err(RunError::file("create", &self.folder))?;
        let log = File::create(&self.log).map_err(RunError::file("create", &self.log))?;
        let both = log.try_clone().map_err(RunError::file("open", &self.log))?;
        let began = Instant::now();
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", LEASH, "runbook", self.text]).current_dir(&self.folder);
        // A drill's configuration has its own address; one of a person's environment would win over it.
        command.env_remove("CDC_DRILL_POSTGRES_URL").envs(&self.environment);
        command.stdin(Stdio::piped()).stdout(log).stderr(both).process_group(0);
        let mut child = command.spawn().map_err(RunError::file("run", Utf8Path::new("sh")))?;
        let group = Group(child.id().map(|id| Pid::from_raw(id as i32)));
        let _leash = child.stdin.take();
        let status = loop {
            match tokio::time::timeout(limits::pacing::COMMAND_LOOK, child.wait()).await {
                Ok(ended) => break Some(ended.map_err(RunError::file("wait for", Utf8Path::new("sh")))?),
                Err(_) if began.elapsed() >= self.timeout => break None,
                Err(_) => meanwhile(),
            }
        };
        meanwhile();
        drop(group);
        reap(status.is_none(), &mut child).await?;
        let bytes = std::fs::read(&self.log).map_err(RunError::file("read", &self.log))?;
        let said = last_words(&String::from_utf8_lossy(&bytes), &self.secret);
        Ok(Ended { status, said, seconds: began.elapsed().as_secs_f64(), timeout: self.timeout })
    }
}

async fn reap(killed: bool, child: &mut Child) -> Result<(), RunError> {
    if killed {
        child.wait().await.map_err(RunError::file("wait for", Utf8Path::new("sh")))?;
    }
    Ok(())
}

/// A process group that does not outlive this value.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // No such group: the usual case, nothing of it is left.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Ended {
    /// Whether it ended by itself, with 0.
    pub(crate) fn well(&self) -> bool {
        self.status.is_some_and(|s| s.success())
    }

    /// How it ended, and the last it said.
    pub(crate) fn told(&self) -> String {
        let how = match self.status {
            Some(status) => status.to_string(),
            None => format!("no end within {} s; it was killed with all that it had started", self.timeout.as_secs()),
        };
        match self.said.is_empty() {
            true => format!("{how}; it said nothing"),
            false => format!("{how}; it said:\n{}", self.said),
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self.status.map(|s| s.code()) {
            None => "give it more time with `timeout`, or find out what it waits for",
            Some(Some(NOT_FOUND | NOT_RUNNABLE)) => {
                "a program was not found or may not be run: the command runs in a folder of its own; \
                 $CDC_DRILL_SCENARIO_DIR is the folder of the scenario"
            }
            Some(_) => "all that it said is in the run's logs",
        }
    }
}

/// The last lines, without secrets.
fn last_words(text: &str, secret: &str) -> String {
    let text = if secret.is_empty() { text.to_owned() } else { text.replace(secret, "***") };
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES_MAX)..].join("\n");
    let cut = tail.char_indices().rev().nth(CHARS_MAX - 1).map_or(0, |(at, _)| at);
    tail[cut..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(folder: &tempfile::TempDir, text: &'static str, timeout: Duration) -> Command<'static> {
        let at = |name: &str| Utf8PathBuf::from_path_buf(folder.path().join(name)).unwrap();
        Command {
            text,
            folder: at("work"),
            environment: BTreeMap::from([("CDC_DRILL_TARGET", "latest".to_owned())]),
            timeout,
            log: at("log"),
            secret: "hunter2".to_owned(),
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn it_runs_in_its_folder_with_its_environment_and_its_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let ended =
            command(&folder, "echo to $CDC_DRILL_TARGET; echo hunter2 >&2; pwd", LONG).run(|| {}).await.unwrap();
        assert!(ended.well());
        let expected = format!("to latest\n***\n{}", folder.path().join("work").display());
        assert_eq!(ended.said, expected);
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_status_and_words() {
        let folder = tempfile::tempdir().unwrap();
        let ended = command(&folder, "echo no tape in the drive; exit 3", LONG).run(|| {}).await.unwrap();
        assert!(!ended.well());
        assert_eq!(ended.told(), "exit status: 3; it said:\nno tape in the drive");
        let ended = command(&folder, "no-such-program --restore", LONG).run(|| {}).await.unwrap();
        assert!(ended.hint().contains("CDC_DRILL_SCENARIO_DIR"), "{}", ended.told());
        assert!(ended.told().contains("not found"), "{}", ended.told());
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(300);
        let text = "echo began; sleep 97 & echo $! > pid; wait";
        let mut turns = 0;
        let ended = command(&folder, text, short).run(|| turns += 1).await.unwrap();
        assert!(ended.status.is_none() && ended.seconds < 10.0, "{}", ended.told());
        assert!(ended.told().contains("no end within") && ended.said == "began", "{}", ended.told());
        assert!(turns > 1);
        let pid: i32 = std::fs::read_to_string(folder.path().join("work/pid")).unwrap().trim().parse().unwrap();
        assert!(gone(pid).await, "{pid} still runs");
    }

    #[tokio::test]
    async fn what_it_leaves_in_its_process_group_ends_with_it_also_when_nobody_waits_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let left = command(&folder, "sleep 98 & echo $! > pid", LONG).run(|| {}).await.unwrap();
        assert!(left.well() && left.seconds < 10.0);
        let pid = |name: &str| -> Option<i32> {
            std::fs::read_to_string(folder.path().join("work").join(name)).ok()?.trim().parse().ok()
        };
        assert!(gone(pid("pid").unwrap()).await);
        let running = command(&folder, "sleep 99 & echo $! > other; wait", LONG);
        let cut = tokio::time::timeout(Duration::from_millis(400), running.run(|| {})).await;
        assert!(cut.is_err());
        assert!(gone(pid("other").unwrap()).await);
    }

    async fn gone(pid: i32) -> bool {
        let look = || async {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie is waited for by whoever adopted it.
            Ok::<_, std::convert::Infallible>(match stat.is_empty() || stat.contains(") Z ") {
                true => cdc_pipeline::client::wait::Poll::Ready(()),
                false => cdc_pipeline::client::wait::Poll::NotYet(stat),
            })
        };
        cdc_pipeline::client::wait::until("the process to end", Duration::from_secs(5), look).await.is_ok()
    }

    #[test]
    fn only_the_last_of_many_words_is_evidence() {
        let many: String = (1..=100).map(|n| format!("line {n}\n")).collect();
        let said = last_words(&many, "");
        assert_eq!((said.lines().count(), said.lines().next_back()), (LINES_MAX, Some("line 100")));
        let long = "é".repeat(CHARS_MAX * 2);
        assert_eq!(last_words(&long, "").chars().count(), CHARS_MAX);
    }
}
