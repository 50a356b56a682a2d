//! The old server down, so that nobody commits any more; and that it has stayed down.

use super::{Coordinated, exchange::Exchange, record::Learned};
use crate::{
    backup::{hash::sha256, is_there},
    recovery::{RecoveryError, server::control_file_in, step::Done, target::given_up},
};
use cdc_pipeline::client::postgres::{Found, Postgres};

/// Stops the old server.
pub(super) async fn fence(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    let runs = s.control.running().await?;
    if runs {
        s.control.stop().await?;
    }
    s.make_lost_folder()?;
    Ok(if runs { Done::Acted } else { Done::Nothing("the server was down already") })
}

/// Down by the hook's word and by the processes of this machine, and nobody answers at its address: a stranger there would take the
/// clients' commits.
pub(super) async fn fenced(s: &mut Coordinated) -> Result<String, RecoveryError> {
    if s.control.running().await? {
        return Err(RecoveryError::unmet("fence", "the old server down", "it runs"));
    }
    let at_rest = Some(s.control_file()?);
    if s.learned.at_rest != at_rest {
        // It ran since an earlier run of the recovery looked: what was restored then lacks what it wrote.
        s.discard().await?;
        s.learned.change(|l| *l = Learned { at_rest, ..Learned::default() })?;
    }
    let there = match Postgres::find(&s.pipeline.config.postgres.url, "cdc-drill-recovery").await {
        Found::Silence(_) => None,
        Found::Session(session) => Some(format!("a server answers at {}", session.address())),
        Found::Refuses(error) | Found::Unready(error) => Some(error.to_string()),
    };
    if let Some(there) = there {
        return Err(RecoveryError::unmet("fence", "nobody at the old server's address", there));
    }
    s.count_given_up().await?;
    let untold = s.control.untold()?.map(|why| format!("; {why}")).unwrap_or_default();
    Ok(format!("the old server does not run, and nothing answers at its address{untold}"))
}

impl Coordinated {
    /// Makes the data folder again that is gone, so that there is one to set aside.
    pub(super) fn make_lost_folder(&self) -> Result<(), RecoveryError> {
        if self.horizon.set_aside || self.horizon.exchanged || is_there(&self.pgdata)? {
            return Ok(());
        }
        self.owner.make_folder(&self.pgdata)
    }

    /// Counts what the target leaves out, now that nobody commits any more.
    pub(super) async fn count_given_up(&mut self) -> Result<(), RecoveryError> {
        let counted = async {
            let view = self.view(true)?;
            given_up(&view, self.old_timeline, &self.aim.history, self.aim.cut).await
        };
        match counted.await {
            Ok(given_up) => self.learned.change(|l| l.given_up = Some(given_up)),
            // The count from before the fence stands, and a database is not left down for a number.
            Err(error) => {
                tracing::warn!(%error, "what the target leaves out is not counted again");
                Ok(())
            }
        }
    }

    /// Requires that the old server has not run since the fence stood: whatever manages it may start it again, and what clients
    /// commit then is in no archive that was replayed.
    pub(super) async fn still_fenced(&self) -> Result<(), RecoveryError> {
        let running = self.control.running().await?;
        if !self.pipeline.course.fences() {
            return if running { self.control.stop().await } else { Ok(()) };
        }
        let unmet = |found: &str| {
            let wanted =
                format!("the old server down since the fence stood: what it commits is not in {}", self.pgdata);
            Err(RecoveryError::unmet(
                "restore",
                wanted,
                format!("{found}; keep it from starting by itself and run the recovery again"),
            ))
        };
        match (running, Some(self.control_file()?) == self.learned.at_rest) {
            (true, _) => unmet("it runs again"),
            (false, false) => unmet("it ran meanwhile: its control file has changed"),
            (false, true) => Ok(()),
        }
    }

    /// SHA-256 of the old folder's control file, which every start of a server writes; `none` where there is no such file.
    fn control_file(&self) -> Result<String, RecoveryError> {
        let folder = match &self.learned.restored {
            // Between the two renames it is set aside.
            Some(restored) if Exchange::of(&self.pgdata, restored)? == Exchange::Half => &restored.aside,
            _ => &self.pgdata,
        };
        Ok(control_file_in(folder)?.map_or_else(|| "none".to_owned(), |bytes| sha256(&bytes)))
    }
}
