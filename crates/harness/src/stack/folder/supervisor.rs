//! The process above each server. It outlives the harness, survives the change of uid, and ends the server when the harness
//! is gone.
//!
//! It is single-threaded until the server is spawned, and spawns it on its main thread, which lives as long as the process:
//! the kernel sends the parent-death signal when the *thread* that spawned the server ends.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use camino::Utf8Path;
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, getppid, setsid},
};

use super::{
    operations::Folder,
    supervised::{Supervised, orphaned},
};
use crate::stack::{
    Process, StackError, docker,
    plan::{ServerPlan, parse_signal},
    process,
};
use cdc_pipeline::client::limits;

/// Set when the server has ended.
type Ended = Arc<(Mutex<bool>, Condvar)>;

/// Runs one server of the stack in `dir` until it ends, or until the stack's owner dies. The body of `cdc-drill
/// supervise`; must be called before any thread is started.
pub fn supervise(dir: &Utf8Path, name: &str) -> Result<(), StackError> {
    let folder = Folder::open(dir)?;
    let plan = folder.server(name)?.clone();
    // An own session: Ctrl-C in the harness's terminal is not for the servers.
    let _ = setsid();
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    let system = |e: Errno| StackError::io("supervise", folder.dir(), e.into());
    signals.thread_block().map_err(system)?;
    prctl::set_child_subreaper(true).map_err(system)?;
    let _lock = lock(&folder, name)?;
    let supervised = Supervised { pid_path: folder.pid_path(name) };
    if let Some(container) = &plan.container {
        let ended = docker::supervise(folder.dir(), &plan, container, signals, &supervised);
        supervised.ended();
        return ended;
    }
    let mut child = spawn(&plan)?;
    let server = Process::of(child.id() as i32).unwrap_or(Process { pid: child.id() as i32, start: 0 });
    if let Err(error) = supervised.started(server) {
        let _ = child.kill();
        return Err(error);
    }
    let ended: Ended = Ended::default();
    watch_signals(signals, plan.clone(), server, ended.clone());
    watch_owner(&folder, plan, server, ended.clone());
    wait_for(server.pid, &ended);
    end_rest();
    supervised.ended();
    Ok(())
}

/// Taken for the supervisor's life: two people who start the same server get one server.
fn lock(folder: &Folder, name: &str) -> Result<File, StackError> {
    let path = folder.dir().join("pids").join(format!("{name}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StackError::io("open", &path, e))?;
    file.try_lock().map_err(|_| StackError::Setting {
        what: format!("server {name}"),
        expected: "no other supervisor".to_owned(),
        found: "one that holds its lock".to_owned(),
    })?;
    Ok(file)
}

#[allow(unsafe_code, reason = "the parent-death signal can only be set between fork and exec")]
fn spawn(plan: &ServerPlan) -> Result<Child, StackError> {
    let log =
        File::options().create(true).append(true).open(&plan.log).map_err(|e| StackError::io("open", &plan.log, e))?;
    let both = log.try_clone().map_err(|e| StackError::io("open", &plan.log, e))?;
    let Some((program, arguments)) = plan.argv.split_first() else {
        return Err(StackError::Setting {
            what: format!("server {}", plan.name),
            expected: "a program".into(),
            found: "none".into(),
        });
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&plan.env).current_dir(&plan.cwd);
    command.stdin(Stdio::null()).stdout(log).stderr(both).process_group(0);
    plan.account.run_as(&mut command);
    let parent = getpid();
    // SAFETY: runs in the forked child after its uid has changed (a change would clear the signal), and makes two system
    // calls that neither allocate nor lock.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The supervisor may have died before the line above.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
    command.spawn().map_err(|e| StackError::io("run", Utf8Path::new(program), e))
}

/// A supervisor that is told to stop takes its server down cleanly.
fn watch_signals(signals: SigSet, plan: ServerPlan, server: Process, ended: Ended) {
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            end(&plan.stop_signal, server, &ended, limits::servers::SUPERVISED_STOP.now());
        }
    });
}

/// Blocks on the owner's lock, shared, so that all supervisors get it at once when the owner is gone.
fn watch_owner(folder: &Folder, plan: ServerPlan, server: Process, ended: Ended) {
    if let Some(orphaned) = orphaned(folder.dir()) {
        std::thread::spawn(move || {
            if orphaned() {
                end(&plan.end_signal, server, &ended, limits::servers::ORPHANED.now());
            }
        });
    }
}

fn end(signal: &str, server: Process, ended: &Ended, grace: Duration) {
    if let Ok(signal) = parse_signal(signal) {
        server.signal(signal);
    }
    let (flag, bell) = &**ended;
    let Ok(guard) = flag.lock() else { return };
    let waited = bell.wait_timeout_while(guard, grace, |over| !*over);
    if waited.map(|(over, _)| *over).unwrap_or(false) {
        return;
    }
    for process in process::descendants(getpid().as_raw()) {
        process.signal(Signal::SIGKILL);
    }
}

/// Reaps children, the server's orphans among them, until the server itself has ended.
fn wait_for(server: i32, ended: &Ended) {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) if pid == Pid::from_raw(server) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    let (flag, bell) = &**ended;
    if let Ok(mut over) = flag.lock() {
        *over = true;
        bell.notify_all();
    }
}

/// Ends and reaps what the server left behind: backends of a killed postmaster, an archive command.
fn end_rest() {
    loop {
        for process in process::descendants(getpid().as_raw()) {
            process.signal(Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
