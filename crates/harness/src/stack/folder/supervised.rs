//! What a supervisor and the others know of each other: its line to the launcher, the file about its server, the owner's lock.

use std::{fs::File, io::Write};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::getpid;
use serde::{Deserialize, Serialize};

use super::owner::{OWNER_LOCK, RELEASED};
use crate::stack::{Process, StackError, write::write_atomically};

/// What the supervisor says when the server's process exists.
pub(super) const STARTED: &str = "started";

/// What a supervisor writes about itself and its server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PidFile {
    pub(super) supervisor: Process,
    pub(super) server: Process,
}

/// What others see of a supervisor and its server.
#[derive(Debug)]
pub(in crate::stack) struct Supervised {
    pub(super) pid_path: Utf8PathBuf,
}

impl Supervised {
    /// The server's process exists: writes that down and tells the launcher.
    pub(in crate::stack) fn started(&self, server: Process) -> Result<(), StackError> {
        let me = Process::of(getpid().as_raw()).unwrap_or(Process { pid: getpid().as_raw(), start: 0 });
        let text = serde_json::to_string(&PidFile { supervisor: me, server }).unwrap_or_default();
        write_atomically(&self.pid_path, &text, 0o644)?;
        say_started();
        Ok(())
    }

    pub(super) fn ended(&self) {
        let _ = std::fs::remove_file(&self.pid_path);
    }
}

/// Tells the launcher, and lets go of its pipe.
fn say_started() {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{STARTED}").and_then(|()| out.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

/// Waits for the owner's end and says whether the servers must end too; none where the stack has no owner.
pub(in crate::stack) fn orphaned(dir: &Utf8Path) -> Option<impl FnOnce() -> bool + Send + 'static> {
    let file = File::open(dir.join(OWNER_LOCK)).ok()?;
    let released = dir.join(RELEASED);
    Some(move || {
        // A lock that cannot be had at all must not leave a server behind, and neither must a folder that is gone or on its
        // way out.
        let _ = file.lock_shared();
        !released.exists()
    })
}
