//! Runs the drills of a plan: shared servers, a few drills at a time, one verdict.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use futures::{StreamExt, stream};

use super::{Emitter, RunError, drill, shared::Servers};
use crate::{
    client::wait,
    event::{FORMAT, What},
    scenario::{DrillPlan, Plan},
    stack::{Account, Programs, Progress, local::Folder},
    units::{Exit, RunId, Verdict},
};

/// How a run is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The run's name; also the name of its report folder.
    pub run: RunId,
    /// The run's report folder: server logs are put there.
    pub report: Utf8PathBuf,
    /// Where the servers' data goes; removed in the end unless something is not green or `keep` is set.
    pub work: Utf8PathBuf,
    /// Keeps the data folders in any case.
    pub keep: bool,
    /// Each drill with servers of its own.
    pub isolated: bool,
    /// How many drills run at the same time.
    pub jobs: usize,
    /// The command line that replays the run.
    pub replay: String,
}

/// On two cores, three drills at a time keep both busy while one of them waits; more only make each slower.
pub const JOBS_DEFAULT: usize = 3;
/// Often enough to see the peak of a snapshot, rarely enough to cost nothing.
const MEMORY_EVERY: Duration = Duration::from_millis(1000);

/// What all drills of a run have in common.
#[derive(Clone, Debug)]
pub struct Context {
    /// The run.
    pub run: RunId,
    /// Where drills put their data.
    pub work: Utf8PathBuf,
    /// Where drills put their servers' logs.
    pub logs: Utf8PathBuf,
    /// The components.
    pub programs: Programs,
    /// The shared servers; none when isolated.
    pub servers: Option<Arc<Servers>>,
    /// Every stack there is, for measuring memory.
    pub census: Census,
}

/// The stacks that are alive.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Mutex<Vec<Folder>>>);

impl Census {
    /// Counts a stack from now on.
    pub fn add(&self, folder: &Folder) {
        if let Ok(mut all) = self.0.lock() {
            all.push(folder.clone());
        }
    }

    /// Counts it no more.
    pub fn remove(&self, dir: &Utf8Path) {
        if let Ok(mut all) = self.0.lock() {
            all.retain(|f| f.dir() != dir);
        }
    }

    fn pss_bytes(&self) -> u64 {
        let all = self.0.lock().map(|a| a.clone()).unwrap_or_default();
        all.iter().map(Folder::pss_bytes).sum()
    }
}

/// Runs all drills and returns the combined exit code. Every outcome, also an error of the harness, is an event first.
pub async fn run(plan: &Plan, options: &Options, emit: &Emitter, progress: &dyn Progress) -> Result<Exit, RunError> {
    emit.emit(What::RunStarted {
        format: FORMAT,
        run: options.run.clone(),
        seed: plan.drills.first().map_or(0, |d| d.seed),
        replay: options.replay.clone(),
        machine: machine(),
    });
    let programs = tokio::task::block_in_place(|| Programs::ensure(progress))?;
    Account::choose()?.folder(&options.work)?;
    let census = Census::default();
    let servers = match options.isolated {
        true => None,
        false => {
            Some(Arc::new(Servers::start(&options.work.join("shared"), &programs, progress, emit, &census).await?))
        }
    };
    let context = Context {
        run: options.run.clone(),
        work: options.work.clone(),
        logs: options.report.join("logs"),
        programs,
        servers: servers.clone(),
        census: census.clone(),
    };
    let peak = Arc::new(AtomicU64::new(0));
    let sampler = tokio::spawn(sample_memory(census, peak.clone()));
    let jobs = if options.isolated { 1 } else { options.jobs.max(1) };
    let exits: Vec<Exit> = stream::iter(plan.drills.iter().enumerate())
        .map(|(index, drill)| one(drill, index, &context, emit))
        .buffered(jobs)
        .collect()
        .await;
    sampler.abort();
    emit.emit(What::Memory { peak_pss_bytes: peak.load(Ordering::Relaxed) });
    if let Some(servers) = servers {
        servers.stop().await?;
        keep_logs(&servers.logs(), &context.logs.join("shared"))?;
    }
    let exit = exits.into_iter().fold(Exit::Passed, Exit::worst);
    emit.emit(What::RunFinished { verdict: verdict_of(exit), exit_code: exit.code() });
    if exit == Exit::Passed && !options.keep {
        std::fs::remove_dir_all(&options.work).map_err(RunError::file("remove", &options.work))?;
    } else {
        progress.line(&format!("data folders are kept in {}", options.work));
    }
    Ok(exit)
}

async fn one(plan: &DrillPlan, index: usize, context: &Context, emit: &Emitter) -> Exit {
    let emit = emit.for_drill(&plan.id);
    drill::run(plan, index, context, &emit).await
}

/// The verdict that belongs to an exit code.
pub(super) fn verdict_of(exit: Exit) -> Verdict {
    match exit {
        Exit::Passed => Verdict::Passed,
        Exit::CheckFailed | Exit::RecoveryFailed | Exit::ObjectiveMissed => Verdict::Failed,
        _ => Verdict::Inconclusive,
    }
}

async fn sample_memory(census: Census, peak: Arc<AtomicU64>) {
    loop {
        let census = census.clone();
        let now = tokio::task::spawn_blocking(move || census.pss_bytes()).await.unwrap_or_default();
        peak.fetch_max(now, Ordering::Relaxed);
        wait::pause_for(MEMORY_EVERY).await;
    }
}

/// Cores, memory and kernel, for reports: a duration means nothing without its machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 =
        memory.lines().next().and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {} GiB, Linux {}", (kib + (1 << 19)) >> 20, kernel.trim())
}

/// Copies a stack's logs into the report.
pub(super) fn keep_logs(from: &Utf8Path, to: &Utf8Path) -> Result<(), RunError> {
    std::fs::create_dir_all(to).map_err(RunError::file("create", to))?;
    for entry in from.read_dir_utf8().map_err(RunError::file("read", from))? {
        let entry = entry.map_err(RunError::file("read", from))?;
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(RunError::file("copy", entry.path()))?;
        }
    }
    Ok(())
}
