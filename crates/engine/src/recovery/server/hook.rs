//! The control hooks of the configuration: how a server that belongs to somebody is stopped and started.

use camino::Utf8PathBuf;

use super::postmaster::{Occupant, occupant};
use crate::recovery::RecoveryError;
use cdc_pipeline::{
    client::{limits, wait, wait::Poll},
    config::{Config, Hook, Verb},
};

/// One server's hooks.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    server: String,
    hook: Hook,
    /// The data folder that the server works in, of a PostgreSQL server: the hook's word is held against it.
    data: Option<Utf8PathBuf>,
}

impl Control {
    /// The hooks of a server; a configuration without them makes the plan impossible.
    pub(crate) fn of(config: &Config, server: &str) -> Result<Control, RecoveryError> {
        let data = Some(&config.postgres.pgdata).filter(|data| server == "postgres" && !data.as_str().is_empty());
        match config.control.get(server) {
            Some(hook) => Ok(Control { server: server.to_owned(), hook: hook.clone(), data: data.cloned() }),
            None => Err(RecoveryError::impossible(
                format!("control of {server}"),
                format!("commands to start and stop it in [control.{server}]"),
                "none",
                "the playbook must stop and start this server; name the commands in the configuration",
            )),
        }
    }

    /// Whether the server runs. An error where the hook says that it does not, and processes say that it does.
    pub(crate) async fn running(&self) -> Result<bool, RecoveryError> {
        if self.hook.runs(&self.server).await? {
            return Ok(true);
        }
        match self.occupant()? {
            Occupant::Server(pid) => Err(self.contradicted(&format!("process {pid}, a server that works in it"))),
            Occupant::Orphans(_) => self.deserted().await.map(|()| false),
            Occupant::Nobody | Occupant::Unknown(_) => Ok(false),
        }
    }

    /// What cannot be told of the processes that may work in the data folder.
    pub(crate) fn untold(&self) -> Result<Option<String>, RecoveryError> {
        match self.occupant()? {
            Occupant::Unknown(why) => Ok(Some(why)),
            Occupant::Nobody | Occupant::Server(_) | Occupant::Orphans(_) => Ok(None),
        }
    }

    fn occupant(&self) -> Result<Occupant, RecoveryError> {
        self.data.as_ref().map_or(Ok(Occupant::Nobody), |data| occupant(data))
    }

    /// Waits until the processes have ended that a dead server left.
    async fn deserted(&self) -> Result<(), RecoveryError> {
        let what = format!("the processes of a {} that has ended to end", self.server);
        wait::until(&what, limits::postgres::STOP, || async {
            Ok::<_, RecoveryError>(match self.occupant()? {
                Occupant::Nobody | Occupant::Unknown(_) => Poll::Ready(()),
                Occupant::Server(pid) => Poll::Hopeless(format!("process {pid} is a server")),
                Occupant::Orphans(pids) => Poll::NotYet(format!("processes {pids:?} run")),
            })
        })
        .await
        .map_err(|error| self.contradicted(&error.to_string()))
    }

    fn contradicted(&self, found: &str) -> RecoveryError {
        let data = self.data.as_ref().map_or("the data folder", |data| data.as_str());
        RecoveryError::impossible(
            format!("[control.{}] running", self.server),
            format!("that the server runs, or a data folder {data} in which nobody works"),
            format!("that it does not run, and {found}"),
            "does the hook ask about the server of this data folder? it must exit 1 only where the server is down",
        )
    }

    /// Stops the server and waits until it does not run.
    pub(crate) async fn stop(&self) -> Result<(), RecoveryError> {
        self.hook.expect(&self.server, Verb::Stop).await?;
        wait::until(&format!("{} to be down", self.server), self.hook.timeout.of(Verb::Stop), || async {
            let runs = self.hook.runs(&self.server).await?;
            Ok::<_, RecoveryError>(match (runs, self.occupant()?) {
                (true, _) => Poll::NotYet("it runs".into()),
                (false, Occupant::Server(pid)) => Poll::NotYet(format!("process {pid} works in its data folder")),
                (false, Occupant::Orphans(pids)) => Poll::NotYet(format!("processes {pids:?} work in its data folder")),
                (false, Occupant::Nobody | Occupant::Unknown(_)) => Poll::Ready(()),
            })
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
