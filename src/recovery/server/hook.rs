//! The control hooks of the configuration: how a server that belongs to somebody is stopped and started.

use std::{process::Stdio, time::Duration};

use crate::{
    client::{wait, wait::Poll},
    config::{Config, Hook},
    recovery::RecoveryError,
};

/// A hook returns when the server is down or was told to start. A fast shutdown waits for the archiver, and a checkpoint of
/// much dirty memory takes its time.
const HOOK_DEADLINE: Duration = Duration::from_secs(120);

/// One server's hooks.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    server: String,
    hook: Hook,
}

impl Control {
    /// The hooks of a server; a configuration without them makes the plan impossible.
    pub(crate) fn of(config: &Config, server: &str) -> Result<Control, RecoveryError> {
        match config.control.get(server) {
            Some(hook) => Ok(Control { server: server.to_owned(), hook: hook.clone() }),
            None => Err(RecoveryError::impossible(
                format!("control of {server}"),
                format!("commands to start and stop it in [control.{server}]"),
                "none",
                "the playbook must stop and start this server; name the commands in the configuration",
            )),
        }
    }

    /// Whether the server runs.
    pub(crate) async fn running(&self) -> Result<bool, RecoveryError> {
        match self.run("running", &self.hook.running).await? {
            (0, _) => Ok(true),
            (1, _) => Ok(false),
            (code, said) => Err(self.wrong("running", code, &said)),
        }
    }

    /// Stops the server and waits until it does not run.
    pub(crate) async fn stop(&self) -> Result<(), RecoveryError> {
        self.expect_success("stop", &self.hook.stop).await?;
        wait::until(&format!("{} to be down", self.server), HOOK_DEADLINE, || async {
            Ok::<_, RecoveryError>(if self.running().await? { Poll::NotYet("it runs".into()) } else { Poll::Ready(()) })
        })
        .await?;
        Ok(())
    }

    /// Tells the server to start; whether it is ready must be asked of itself.
    pub(crate) async fn start(&self) -> Result<(), RecoveryError> {
        self.expect_success("start", &self.hook.start).await
    }

    async fn expect_success(&self, verb: &str, command: &str) -> Result<(), RecoveryError> {
        match self.run(verb, command).await? {
            (0, _) => Ok(()),
            (code, said) => Err(self.wrong(verb, code, &said)),
        }
    }

    /// Output goes to files' stead into memory only in its last lines: a server that the hook leaves behind may inherit
    /// the descriptors, so waiting for their end could wait for the server's.
    async fn run(&self, verb: &str, command: &str) -> Result<(i32, String), RecoveryError> {
        let failed =
            |detail: String| RecoveryError::Program { program: format!("[control.{}] {verb}", self.server), detail };
        let said = tempfile::NamedTempFile::new().map_err(|e| failed(e.to_string()))?;
        let sink = said.reopen().map_err(|e| failed(e.to_string()))?;
        let both = sink.try_clone().map_err(|e| failed(e.to_string()))?;
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(sink)
            .stderr(both)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let status = tokio::time::timeout(HOOK_DEADLINE, child.wait())
            .await
            .map_err(|_| failed(format!("did not return within {} s", HOOK_DEADLINE.as_secs())))?
            .map_err(|e| failed(e.to_string()))?;
        let text = std::fs::read_to_string(said.path()).unwrap_or_default();
        Ok((status.code().unwrap_or(-1), text))
    }

    fn wrong(&self, verb: &str, code: i32, said: &str) -> RecoveryError {
        let last = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        RecoveryError::Program {
            program: format!("[control.{}] {verb}", self.server),
            detail: format!("exit status {code}: {last}"),
        }
    }
}
