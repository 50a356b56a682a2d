//! The control hooks of the configuration: how a server that belongs to somebody is stopped and started.

use crate::{
    client::{wait, wait::Poll},
    config::{Config, Hook, Verb},
    recovery::RecoveryError,
};

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
        Ok(self.hook.runs(&self.server).await?)
    }

    /// Stops the server and waits until it does not run.
    pub(crate) async fn stop(&self) -> Result<(), RecoveryError> {
        self.hook.expect(&self.server, Verb::Stop).await?;
        wait::until(&format!("{} to be down", self.server), self.hook.timeout.of(Verb::Stop), || async {
            Ok::<_, RecoveryError>(if self.running().await? { Poll::NotYet("it runs".into()) } else { Poll::Ready(()) })
        })
        .await?;
        Ok(())
    }

    /// Tells the server to start; whether it is ready must be asked of itself.
    pub(crate) async fn start(&self) -> Result<(), RecoveryError> {
        self.hook.expect(&self.server, Verb::Start).await?;
        Ok(())
    }
}
