//! The process above each container: it starts it, and removes it when it has ended, when it is told to, and when the
//! harness is gone.

use std::fs::File;

use camino::Utf8Path;
use nix::sys::signal::{SigSet, Signal};
use testcontainers_modules::testcontainers::bollard::Docker;
use tokio::sync::oneshot;

use super::engine::{ended, engine, follow_log, process_of, remove, signal};
use crate::stack::{
    StackError,
    folder::{Supervised, orphaned},
    plan::{ContainerPlan, ServerPlan, parse_signal},
};
use cdc_pipeline::client::limits::servers;

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It, or somebody who stopped it, wanted so.
    Itself,
    /// The stack's owner has died.
    Orphaned,
}

/// Runs the container until it ends, or until the stack's owner dies. `signals` are blocked in every thread.
pub(in crate::stack) fn supervise(
    dir: &Utf8Path,
    plan: &ServerPlan,
    container: &ContainerPlan,
    signals: SigSet,
    supervised: &Supervised,
) -> Result<(), StackError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| StackError::io("start a runtime for", dir, e))?;
    runtime.block_on(async {
        let docker = engine().await?;
        let log = File::options().create(true).append(true).open(&plan.log);
        let log = log.map_err(|e| StackError::io("open", &plan.log, e))?;
        container.network.ensure(&docker).await?;
        // One that was left behind under this name is in the way.
        remove(&docker, &container.name).await?;
        let kept = match container.start(plan).await {
            Ok(running) => {
                let words = tokio::spawn(follow_log(docker.clone(), container.name.clone(), log));
                let kept = keep(&docker, dir, plan, container, signals, supervised).await;
                let _ = tokio::time::timeout(servers::LAST_LINES.now(), words).await;
                // Removed below; dropped here, it would want a runtime of its own to do that.
                let _ = running.rm().await;
                kept
            }
            Err(error) => Err(error),
        };
        if !plan.account.drop
            && let Err(error) = container.open_folders().await
        {
            tracing::warn!(%error, "files of the container's own account may be left behind");
        }
        // One that was made and did not start is still there.
        let removed = remove(&docker, &container.name).await;
        let orphaned = matches!(kept, Ok(Ended::Orphaned));
        container.network.leave(&docker, orphaned).await;
        kept.and(removed)
    })
}

async fn keep(
    docker: &Docker,
    dir: &Utf8Path,
    plan: &ServerPlan,
    container: &ContainerPlan,
    signals: SigSet,
    supervised: &Supervised,
) -> Result<Ended, StackError> {
    let server = process_of(docker, &container.name).await?;
    supervised.started(server)?;
    let told = in_a_thread(move || signals.wait().is_ok());
    let orphaned = orphaned(dir).map(in_a_thread);
    let over = ended(docker, &container.name);
    tokio::pin!(over);
    let (how, grace, why) = tokio::select! {
        () = &mut over => return Ok(Ended::Itself),
        () = yes(Some(told)) => (&plan.stop_signal, servers::SUPERVISED_STOP.now(), Ended::Itself),
        () = yes(orphaned) => (&plan.end_signal, servers::ORPHANED.now(), Ended::Orphaned),
    };
    signal(&container.name, parse_signal(how).unwrap_or(Signal::SIGTERM)).await?;
    // What does not end in time is removed by force.
    let _ = tokio::time::timeout(grace, over).await;
    Ok(why)
}

/// An answer that a thread waits for.
fn in_a_thread(wait: impl FnOnce() -> bool + Send + 'static) -> oneshot::Receiver<bool> {
    let (tell, answer) = oneshot::channel();
    std::thread::spawn(move || tell.send(wait()));
    answer
}

/// Returns when the answer is yes, and never when it is no or nobody is asked.
async fn yes(answer: Option<oneshot::Receiver<bool>>) {
    if let Some(answer) = answer
        && answer.await == Ok(true)
    {
        return;
    }
    std::future::pending::<()>().await;
}
