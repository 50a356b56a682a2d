//! A stack's folder, and the operations on one server of it.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::supervised::{PidFile, STARTED};
use crate::stack::{
    Process, StackError,
    binary::{SMALL, find_binary},
    docker,
    plan::{ServerPlan, parse_signal},
    ports, process,
    write::write_atomically,
};
use cdc_pipeline::{
    client::{
        limits::{self, Bound},
        wait::{Poll, until},
    },
    config::Means,
};

/// The version of `stack.json`.
const FORMAT: u32 = 1;
const MANIFEST: &str = "stack.json";
/// How much of a log an error shows.
const TAIL_LINES: usize = 15;

/// What `stack.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    servers: Vec<ServerPlan>,
}

/// One server as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub ready: bool,
    /// Its process, when it runs.
    pub pid: Option<i32>,
    /// How clients reach it.
    pub endpoint: String,
    /// Its log.
    pub log: Utf8PathBuf,
}

/// A stack's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: Utf8PathBuf,
    servers: Vec<ServerPlan>,
}

impl Folder {
    /// Opens an existing stack.
    pub fn open(dir: &Utf8Path) -> Result<Folder, StackError> {
        let none = |detail: String| StackError::NoStack { dir: dir.to_owned(), detail };
        let dir = dir.canonicalize_utf8().map_err(|e| none(e.to_string()))?;
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|e| none(format!("{MANIFEST}: {e}")))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| none(format!("{MANIFEST}: {e}")))?;
        if manifest.format != FORMAT {
            return Err(none(format!("{MANIFEST} has format {}, this program reads {FORMAT}", manifest.format)));
        }
        Ok(Folder { dir, servers: manifest.servers })
    }

    /// Whether there is a stack in this folder.
    pub fn exists(dir: &Utf8Path) -> bool {
        dir.join(MANIFEST).exists()
    }

    /// Writes the description of a new stack, last of all: without it the folder is no stack.
    pub(in crate::stack) fn create(dir: &Utf8Path, servers: Vec<ServerPlan>) -> Result<Folder, StackError> {
        let manifest = Manifest { format: FORMAT, servers };
        let text = serde_json::to_string_pretty(&manifest).map_err(|e| StackError::io("write", dir, e.into()))?;
        write_atomically(&dir.join(MANIFEST), &text, 0o644)?;
        Ok(Folder { dir: dir.to_owned(), servers: manifest.servers })
    }

    /// Removes the description of a stack that did not come up: what is left are logs to read, not a stack to start.
    pub fn forget(&self) -> Result<(), StackError> {
        let path = self.dir.join(MANIFEST);
        std::fs::remove_file(&path).map_err(|e| StackError::io("remove", &path, e))
    }

    /// The folder's path.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// The servers, in the order they are started.
    pub fn servers(&self) -> &[ServerPlan] {
        &self.servers
    }

    /// One server.
    pub fn server(&self, name: &str) -> Result<&ServerPlan, StackError> {
        self.servers.iter().find(|s| s.name == name).ok_or_else(|| StackError::NoServer {
            dir: self.dir.clone(),
            name: name.to_owned(),
            has: self.servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn pid_path(&self, name: &str) -> Utf8PathBuf {
        self.dir.join("pids").join(format!("{name}.json"))
    }

    pub(super) fn pids(&self, name: &str) -> Option<PidFile> {
        serde_json::from_str(&std::fs::read_to_string(self.pid_path(name)).ok()?).ok()
    }

    /// The server's process, if it runs.
    pub fn pid(&self, name: &str) -> Option<i32> {
        self.pids(name).filter(|p| p.server.alive()).map(|p| p.server.pid)
    }

    /// Whether the server runs.
    pub fn running(&self, name: &str) -> Result<bool, StackError> {
        self.server(name)?;
        Ok(self.pid(name).is_some())
    }

    /// Starts a server under a supervisor, and returns when its process exists. Starting one that runs does nothing.
    pub async fn start(&self, name: &str) -> Result<(), StackError> {
        let plan = self.server(name)?.clone();
        if self.running(name)? {
            return Ok(());
        }
        // A server that was just killed may still be taken down by its supervisor.
        self.gone(name, limits::servers::KILLED).await?;
        for port in &plan.ports {
            ports::check_free(name, plan.host(), *port)?;
        }
        let binary = find_binary(None)?;
        let dir = self.dir.clone();
        let launched = tokio::task::spawn_blocking(move || launch(&binary, &dir, &plan)).await;
        launched.map_err(|e| StackError::io("start a supervisor in", &self.dir, std::io::Error::other(e)))?
    }

    /// Stops a server cleanly and returns when it and everything below it is gone. Stopping one that does not run does
    /// nothing.
    pub async fn stop(&self, name: &str) -> Result<(), StackError> {
        self.stop_within(name, limits::servers::STOP).await
    }

    /// As [`Folder::stop`]; a server that needs longer is killed.
    pub(in crate::stack) async fn stop_within(&self, name: &str, bound: impl Into<Bound>) -> Result<(), StackError> {
        let plan = self.server(name)?;
        let signal = parse_signal(&plan.stop_signal)?;
        let Some(pids) = self.pids(name) else { return Ok(()) };
        send(plan, pids, signal).await?;
        if plan.container.is_none() {
            // One that is frozen would not notice.
            stop_or_continue(pids, Signal::SIGCONT);
        }
        match self.gone(name, bound).await {
            Err(StackError::DidNotStop { .. }) => self.kill(name, Signal::SIGKILL).await,
            other => other,
        }
    }

    /// Sends a signal to a server; with SIGKILL, returns when it and everything below it is gone.
    pub async fn kill(&self, name: &str, signal: Signal) -> Result<(), StackError> {
        let plan = self.server(name)?;
        let Some(pids) = self.pids(name) else { return Ok(()) };
        send(plan, pids, signal).await?;
        if signal == Signal::SIGKILL { self.gone(name, limits::servers::KILLED).await } else { Ok(()) }
    }

    /// Does something to a running server that its data does not notice.
    pub async fn disturb(&self, name: &str, means: Means) -> Result<(), StackError> {
        let plan = self.server(name)?;
        let Some(pids) = self.pids(name).filter(|pids| pids.server.alive()) else {
            return Err(StackError::Setting {
                what: format!("server {name} of the stack in {}", self.dir),
                expected: "one that runs".to_owned(),
                found: "one that is down".to_owned(),
            });
        };
        match (&plan.container, means) {
            (Some(container), means) => docker::disturb(container, means).await,
            (None, Means::Pause) => {
                stop_or_continue(pids, Signal::SIGSTOP);
                Ok(())
            }
            (None, means) => Err(StackError::NeedsContainers { server: name.to_owned(), means: means.to_string() }),
        }
    }

    /// Takes every disturbance of a server back; of one that is down there is none.
    pub async fn settle(&self, name: &str) -> Result<(), StackError> {
        let plan = self.server(name)?;
        let Some(pids) = self.pids(name).filter(|pids| pids.server.alive()) else { return Ok(()) };
        match &plan.container {
            Some(container) => docker::settle(container).await,
            None => {
                stop_or_continue(pids, Signal::SIGCONT);
                Ok(())
            }
        }
    }

    /// Waits until the server and its supervisor have ended: then nothing of it is left.
    async fn gone(&self, name: &str, bound: impl Into<Bound>) -> Result<(), StackError> {
        let bound = bound.into();
        let Some(pids) = self.pids(name) else { return Ok(()) };
        let what = format!("{name} to end");
        let waited = until(&what, bound, || async {
            let left = pids.server.alive() || pids.supervisor.alive();
            Ok::<_, std::convert::Infallible>(if left { Poll::NotYet("it runs".to_owned()) } else { Poll::Ready(()) })
        });
        let plan = self.server(name)?;
        waited.await.map_err(|_| StackError::DidNotStop {
            server: name.to_owned(),
            pid: pids.server.pid,
            seconds: bound.now().as_secs(),
            log: plan.log.clone(),
        })
    }

    /// The supervisors that are alive, and the servers that are not below them because an engine runs them.
    pub fn roots(&self) -> Vec<i32> {
        let known = self.servers.iter().filter_map(|s| Some((s, self.pids(&s.name)?)));
        let roots = known.flat_map(|(s, p)| [Some(p.supervisor), s.container.as_ref().map(|_| p.server)]);
        roots.flatten().filter(Process::alive).map(|p| p.pid).collect()
    }

    /// The end of a server's log.
    pub fn tail(&self, name: &str) -> String {
        self.server(name).map(|plan| tail(&plan.log)).unwrap_or_default()
    }
}

/// A container's processes may belong to an account that this one cannot signal: its engine can.
async fn send(plan: &ServerPlan, pids: PidFile, signal: Signal) -> Result<(), StackError> {
    match &plan.container {
        Some(container) if pids.server.alive() => docker::signal(&container.name, signal).await,
        Some(_) => Ok(()),
        None => {
            pids.server.signal(signal);
            Ok(())
        }
    }
}

/// Every process of a native server: all that is below its supervisor.
fn stop_or_continue(pids: PidFile, signal: Signal) {
    for process in process::descendants(pids.supervisor.pid) {
        process.signal(signal);
    }
}

/// Starts the supervisor and waits for its one line.
fn launch(binary: &Utf8Path, dir: &Utf8Path, plan: &ServerPlan) -> Result<(), StackError> {
    let mut command = Command::new(binary);
    command.args(["supervise", "--dir", dir.as_str(), "--name", plan.name.as_str()]).env(SMALL.0, SMALL.1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| StackError::Binary { detail: format!("{binary}: {e}") })?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(|e| StackError::io("read from the supervisor in", dir, e))?;
    }
    // Waited for in the background, or it would stay a zombie as long as the harness lives.
    std::thread::spawn(move || child.wait());
    if line.trim() == STARTED {
        return Ok(());
    }
    let detail = if line.is_empty() {
        format!("its supervisor ({binary} supervise) ended without a word")
    } else {
        line.trim().to_owned()
    };
    Err(StackError::DidNotStart { server: plan.name.clone(), detail, log: plan.log.clone(), tail: tail(&plan.log) })
}

pub(super) fn tail(log: &Utf8Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
