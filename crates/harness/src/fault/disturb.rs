//! A server that is frozen, off its network, or short of memory: its data is sound, and nobody gets at it.

use super::{FaultError, Target};
use cdc_model::event::Landed;
use cdc_pipeline::{
    client::{
        ClientError, limits,
        wait::{self, Poll},
    },
    config::{Hook, Means, Verb},
};

const SERVER: &str = "postgres";
/// Sorts half a gigabyte in memory.
const HUNGRY: &str = "set work_mem = '1GB'; \
    select count(*) from (select repeat(md5(g::text), 8) as x from generate_series(1, 2000000) g order by 1 offset 1) s";

/// A disturbed server.
#[derive(Debug)]
pub(super) struct Disturbed {
    fault: &'static str,
    means: Means,
    /// How the session ended that wanted memory.
    broken: Option<String>,
}

fn hook<'t>(fault: &'static str, target: &'t Target) -> Result<&'t Hook, FaultError> {
    let hook = target.config.control.get(SERVER).filter(|hook| hook.disturb.is_some());
    hook.ok_or_else(|| {
        let hint = "name commands for it in [control.postgres] disturb and settle";
        FaultError::unfit(fault, format!("server {SERVER}"), "a command that disturbs it", "none", hint)
    })
}

impl Disturbed {
    pub(super) async fn inject(fault: &'static str, target: &Target, means: Means) -> Result<Disturbed, FaultError> {
        let hook = hook(fault, target)?;
        let told = hook.disturb(SERVER, means).await;
        told.map_err(|e| {
            let hint = "a native process has no network and no memory limit of its own: `--backend docker`";
            FaultError::unfit(fault, format!("server {SERVER}"), format!("success of `{means}`"), e.to_string(), hint)
        })?;
        let broken = match means {
            Means::Memory(_) => Some(starve(target).await.map_err(FaultError::client(fault))?),
            Means::Pause | Means::Disconnect => None,
        };
        Ok(Disturbed { fault, means, broken })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        if let Some(broken) = &self.broken {
            return Ok((Landed::Confirmed, format!("with {}: {broken}", self.means)));
        }
        let runs = hook(self.fault, target)?.runs(SERVER).await.map_err(|e| {
            let hint = "whether the server's process runs is part of the proof";
            FaultError::unfit(self.fault, format!("server {SERVER}"), "an answer of its hook", e.to_string(), hint)
        })?;
        let answer = match tokio::time::timeout(limits::faults::SILENCE.now(), target.sql()).await {
            Err(_) => format!("no session within {} s", limits::faults::SILENCE.now().as_secs()),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(_)) => return Ok((Landed::Mismatch, "a session was opened as ever".to_owned())),
        };
        let landed = if runs { Landed::Confirmed } else { Landed::Mismatch };
        let state = if runs { "runs" } else { "does not run" };
        Ok((landed, format!("{}: its process {state}; {answer}", self.means)))
    }

    pub(super) async fn heal(&self, target: &Target) -> Result<(), FaultError> {
        let hook = hook(self.fault, target)?;
        let settled = hook.expect(SERVER, Verb::Settle).await;
        settled.map(drop).map_err(|e| {
            let hint = "the server may still be disturbed";
            FaultError::unfit(self.fault, format!("server {SERVER}"), "success of its hook", e.to_string(), hint)
        })
    }
}

/// Wants memory until the kernel ends the one that wants it, or the whole server; how that session ended.
async fn starve(target: &Target) -> Result<String, ClientError> {
    wait::until("a session ended for lack of memory", limits::faults::STARVED, || async {
        let ended = match target.sql().await {
            Ok(db) => db.run(HUNGRY).await,
            // The server has not even the memory for a session.
            Err(error) => Err(error),
        };
        Ok::<_, ClientError>(match ended {
            Ok(()) => Poll::NotYet("it had enough".to_owned()),
            Err(error @ ClientError::Unreachable { .. }) => Poll::Ready(error.to_string()),
            Err(error) => Poll::NotYet(error.to_string()),
        })
    })
    .await
}
