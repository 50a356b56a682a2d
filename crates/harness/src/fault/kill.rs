//! `kill -9` of the server.

use camino::Utf8Path;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{FaultError, Target};
use cdc_model::event::Landed;
use cdc_model::units::counted;
use cdc_pipeline::client::{
    ClientError, limits,
    wait::{self, Poll},
};

const FAULT: &str = "kill-postgres";

/// A killed server.
#[derive(Debug)]
pub(super) struct Killed {
    postmaster: i32,
    children: usize,
    /// The segment being written, and the last one archived, just before.
    current: String,
    archived: Option<String>,
}

impl Killed {
    pub(super) async fn inject(target: &Target) -> Result<Killed, FaultError> {
        let pgdata = &target.config.postgres.pgdata;
        let db = target.sql().await.map_err(FaultError::client(FAULT))?;
        let archived =
            db.text("select last_archived_wal from pg_stat_archiver").await.map_err(FaultError::client(FAULT))?;
        let current: String =
            db.value("select pg_walfile_name(pg_current_wal_lsn())").await.map_err(FaultError::client(FAULT))?;
        let postmaster = postmaster(pgdata)?;
        let children = children_of(postmaster);
        // The postmaster first: it would start its children again.
        for pid in std::iter::once(postmaster).chain(children.iter().copied()) {
            // Never a stranger: every process of a server works in its data folder.
            if !works_in(pid, pgdata) {
                continue;
            }
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(FaultError::file(FAULT, "kill process of", pgdata)(error.into())),
            }
        }
        let gone = wait::until("the server's processes gone", limits::faults::PROCESSES_GONE, || async {
            let left = processes_in(pgdata);
            Ok::<_, ClientError>(if left.is_empty() {
                Poll::Ready(())
            } else {
                Poll::NotYet(format!("{left:?} alive"))
            })
        });
        gone.await.map_err(FaultError::client(FAULT))?;
        Ok(Killed { postmaster, children: children.len(), current, archived })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let pgdata = &target.config.postgres.pgdata;
        let left = processes_in(pgdata);
        let answer = refusal(target).await.map_err(FaultError::client(FAULT))?;
        // Names of segments sort as their positions do, within a timeline; another timeline's prefix is passed over.
        let unarchived = self.archived.as_ref().is_none_or(|archived| archived[8..24] < self.current[8..24]);
        let evidence = format!(
            "postmaster {} and {} children killed, {} left in {pgdata}; {answer}; last archived segment {}, current {}",
            self.postmaster,
            self.children,
            counted(left.len(), "process"),
            self.archived.as_deref().unwrap_or("none"),
            self.current
        );
        let landed =
            if left.is_empty() && is_refusal(&answer) && unarchived { Landed::Confirmed } else { Landed::Mismatch };
        Ok((landed, evidence))
    }
}

/// What a client is told now. A container's port is given up a moment after its processes.
async fn refusal(target: &Target) -> Result<String, ClientError> {
    let refused = wait::until("the server's address to refuse clients", limits::faults::PROCESSES_GONE, || async {
        match target.sql().await {
            Ok(_) => Ok(Poll::Hopeless("the server answers".to_owned())),
            Err(ClientError::Unreachable { detail, .. }) if is_refusal(&detail) => Ok(Poll::Ready(detail)),
            Err(ClientError::Unreachable { detail, .. }) => Ok(Poll::NotYet(detail)),
            Err(error) => Err(error),
        }
    });
    match refused.await {
        Err(ClientError::Hopeless { why, .. }) => Ok(why),
        Err(ClientError::TimedOut { last, .. }) => Ok(last),
        other => other,
    }
}

fn is_refusal(answer: &str) -> bool {
    answer.contains("refused") || answer.contains("No such file")
}

/// Of the processes that work in the data folder, the one that no other of them has started. Not what `postmaster.pid`
/// says: in a container that is the number that the process has there.
fn postmaster(pgdata: &Utf8Path) -> Result<i32, FaultError> {
    let all = processes_in(pgdata);
    let first = all.iter().find(|pid| parent_of(**pid).is_none_or(|parent| !all.contains(&parent)));
    first.copied().ok_or_else(|| {
        let hint = "is this the server's data folder, and does the server run on this machine?";
        FaultError::unfit(FAULT, pgdata.to_owned(), "a process that works in it", "none", hint)
    })
}

fn works_in(pid: i32, folder: &Utf8Path) -> bool {
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
    cwd.is_ok_and(|cwd| folder.canonicalize().is_ok_and(|folder| folder == cwd))
}

fn all_processes() -> Vec<i32> {
    let listing = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes that work in a folder; one that has ended and waits for its parent works nowhere.
fn processes_in(folder: &Utf8Path) -> Vec<i32> {
    all_processes().into_iter().filter(|pid| works_in(*pid, folder)).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything; the parent is the second field after it.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

fn children_of(parent: i32) -> Vec<i32> {
    all_processes().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}
