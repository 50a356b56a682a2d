//! Runs the drills of a plan: shared servers, a few drills at a time, one verdict.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use super::{
    Emitter, RunError, drill,
    judge::combined,
    rig::{Census, Context, Servers, keep_logs, needs_own_registry},
    room::{self, Room},
};
use crate::{
    scenario::{DrillPlan, Plan, WorkloadPlan},
    stack::{Account, BackendChoice, Progress},
};
use cdc_model::{
    event::{FORMAT, What},
    units::{Exit, RunId, counted},
};
use cdc_pipeline::client::{limits, pace, wait};

/// How a run is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The run's name; also the name of its report folder.
    pub run: RunId,
    /// The run's report folder: server logs are put there.
    pub report: Utf8PathBuf,
    /// Where the servers' data goes: a folder for each drill, removed when the drill is green, and what is left in the end
    /// unless something is not green. With `keep` all of it stays.
    pub work: Utf8PathBuf,
    /// Keeps the data folders in any case.
    pub keep: bool,
    /// Each drill with servers of its own.
    pub isolated: bool,
    /// Where servers run.
    pub backend: BackendChoice,
    /// How many drills run at the same time; none: as many as the machine has room for.
    pub jobs: Option<usize>,
    /// The command line that replays the run.
    pub replay: String,
    /// Ends the run when it is cancelled: no drill goes on, the reports are written, and the run's result is
    /// [`RunError::Interrupted`]. Signals are the caller's: `cdc-drill run` cancels it at Ctrl-C.
    pub interrupt: CancellationToken,
}

/// The weight of the drills that run at the same time: all servers and the harness stay below 2 GiB.
const WEIGHT_AT_ONCE: usize = 2;

/// Runs all drills and returns the combined exit code. Every outcome, also an error of the harness, is an event first.
pub async fn run(plan: &Plan, options: &Options, emit: &Emitter, progress: &dyn Progress) -> Result<Exit, RunError> {
    // Before anything else runs: it is the machine that is measured, not the run.
    let speed = pace::watch();
    emit.emit(What::RunStarted {
        format: FORMAT,
        run: options.run.clone(),
        seed: plan.drills.first().map_or(0, |d| d.seed),
        replay: options.replay.clone(),
        machine: machine(),
        drills: plan.drills.iter().map(|d| d.id.clone()).collect(),
    });
    let room = match (options.isolated, options.jobs) {
        (true, _) => Room::isolated(),
        (false, Some(jobs)) => Room::asked(jobs),
        (false, None) => Room::of(&speed, room::free_memory()),
    };
    emit.emit(What::Speed { speed, jobs: room.jobs, limited_by: room.limited_by });
    let backend = options.backend.open(options.run.as_str(), progress).await?;
    Account::choose()?.folder(&options.work)?;
    let census = Census::default();
    let servers = match (backend.existing(), options.isolated) {
        (Some(config), _) => Some(Arc::new(Servers::attached(config, emit).await?)),
        (None, true) => None,
        (None, false) => {
            Some(Arc::new(Servers::start(&options.work.join("shared"), &*backend, progress, emit, &census).await?))
        }
    };
    let context = Context {
        run: options.run.clone(),
        work: options.work.clone(),
        report: options.report.clone(),
        keep: options.keep,
        backend,
        servers: servers.clone(),
        census: census.clone(),
    };
    let peak = Arc::new(AtomicU64::new(0));
    let sampler = tokio::spawn(sample_memory(census, peak.clone()));
    let queue = Queue::new(plan);
    let workers = (0..room.jobs).map(|_| worker(plan, &queue, &context, emit));
    let exits = futures::future::join_all(workers).await.into_iter().flatten();
    sampler.abort();
    emit.emit(What::Memory { peak_pss_bytes: peak.load(Ordering::Relaxed), slowest: pace::slowest_seen() });
    if let Some(servers) = servers {
        servers.stop().await?;
        if let Some(logs) = servers.logs() {
            keep_logs(&logs, &context.logs().join("shared"))?;
        }
    }
    let (verdict, exit) = combined(exits);
    emit.emit(What::RunFinished { verdict, exit_code: exit.code() });
    if exit == Exit::Passed && !options.keep {
        std::fs::remove_dir_all(&options.work).map_err(RunError::file("remove", &options.work))?;
    } else {
        progress.line(&format!("data folders are kept in {}", options.work));
    }
    Ok(exit)
}

/// Takes one drill after the other until none is left.
async fn worker(plan: &Plan, queue: &Queue, context: &Context, emit: &Emitter) -> Vec<Exit> {
    let mut exits = Vec::new();
    while let Some(next) = queue.next() {
        let drill = &plan.drills[next.index];
        let exit = drill::run(drill, next.index, context, &emit.for_drill(&drill.id)).await;
        if exit == Exit::Passed && !context.keep {
            remove(drill::folders(context, next.index)).await;
        }
        exits.push(exit);
        queue.done(&next);
    }
    exits
}

/// Data that nobody will look at: gone before it is written out, and beside drills that wait. What fails in that is tried
/// again in the end.
async fn remove(folders: [Utf8PathBuf; 2]) {
    let removed = tokio::task::spawn_blocking(move || {
        for folder in folders.iter().filter(|folder| folder.exists()) {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                tracing::warn!(%folder, %error, "removing a drill's data");
            }
        }
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "removing a drill's data");
    }
}

/// The drills that have not begun. Those that need much memory begin first, so that they are not left to the end, and few
/// of them run at the same time; those that are left over when all others have begun are for the workers that run such
/// drills already. The others begin in turns of their scenarios: some scenarios wait most of the time and some keep a core
/// busy, and side by side they take the time of one of them.
#[derive(Debug)]
struct Queue(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// Drills by their place in the plan, each with its weight.
    heavy: VecDeque<(usize, usize)>,
    light: VecDeque<usize>,
    /// How much weight may be added to what runs.
    spare: usize,
}

/// A drill that is to run now, by its place in the plan.
#[derive(Debug)]
struct Next {
    index: usize,
    weight: usize,
}

/// In units of 200 MiB beyond what every drill needs: a registry or a worker of its own, or the tables of pgbench, of which the harness
/// keeps what they held at each mark.
fn weight(plan: &DrillPlan) -> usize {
    match &plan.workload {
        WorkloadPlan::Pgbench { .. } => WEIGHT_AT_ONCE,
        _ if !plan.stack.plugins.is_empty() => WEIGHT_AT_ONCE,
        _ if needs_own_registry(plan) => 1,
        _ => 0,
    }
}

impl Queue {
    fn new(plan: &Plan) -> Queue {
        Queue::of(plan.drills.iter().map(|drill| (drill.scenario.as_str(), weight(drill))))
    }

    /// From each drill's scenario and weight.
    fn of<'a>(drills: impl IntoIterator<Item = (&'a str, usize)>) -> Queue {
        let mut heavy = VecDeque::new();
        let mut light: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, (scenario, weight)) in drills.into_iter().enumerate() {
            if weight > 0 {
                heavy.push_back((index, weight));
            } else {
                light.entry(scenario).or_default().push(index);
            }
        }
        let light = spread(light.into_values().collect());
        Queue(Mutex::new(Waiting { heavy, light, spare: WEIGHT_AT_ONCE }))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Next> {
        let mut waiting = self.lock();
        let spare = waiting.spare;
        if let Some(place) = waiting.heavy.iter().position(|(_, weight)| *weight <= spare)
            && let Some((index, weight)) = waiting.heavy.remove(place)
        {
            waiting.spare -= weight;
            return Some(Next { index, weight });
        }
        waiting.light.pop_front().map(|index| Next { index, weight: 0 })
    }

    fn done(&self, next: &Next) {
        self.lock().spare += next.weight;
    }
}

/// All groups in one line, each spread evenly over its whole length and in its own order.
fn spread(groups: Vec<Vec<usize>>) -> VecDeque<usize> {
    let placed = groups.into_iter().flat_map(|group| {
        let count = group.len() as f64;
        group.into_iter().enumerate().map(move |(place, index)| ((place as f64 + 0.5) / count, index))
    });
    let mut placed: Vec<(f64, usize)> = placed.collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    placed.into_iter().map(|(_, index)| index).collect()
}

async fn sample_memory(census: Census, peak: Arc<AtomicU64>) {
    loop {
        let census = census.clone();
        let now = tokio::task::spawn_blocking(move || census.pss_bytes()).await.unwrap_or_default();
        peak.fetch_max(now, Ordering::Relaxed);
        wait::pause_for(limits::pacing::MEMORY_LOOK).await;
    }
}

/// Cores, memory and kernel, for reports: a duration means nothing without its machine.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 =
        memory.lines().next().and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores}, {} GiB, Linux {}", (kib + (1 << 19)) >> 20, kernel.trim(), cores = counted(cores, "core"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_drills_begin_first_and_few_at_a_time() {
        let queue = Queue::of([0, 1, 1, 1, 0].map(|weight| ("one", weight)));
        let began: Vec<Next> = (0..4).filter_map(|_| queue.next()).collect();
        assert_eq!(began.iter().map(|n| n.index).collect::<Vec<_>>(), [1, 2, 0, 4]);
        assert!(queue.next().is_none(), "the last one waits for a worker that runs its like");
        queue.done(&began[0]);
        assert_eq!(queue.next().map(|n| n.index), Some(3));
    }

    #[test]
    fn light_drills_begin_in_turns_of_their_scenarios() {
        let queue = Queue::of([("busy", 0), ("busy", 0), ("busy", 0), ("busy", 0), ("waits", 0), ("waits", 0)]);
        let began: Vec<usize> = std::iter::from_fn(|| queue.next()).map(|n| n.index).collect();
        assert_eq!(began, [0, 4, 1, 2, 5, 3]);
    }

    #[test]
    fn one_that_does_not_fit_lets_a_smaller_one_pass() {
        let queue = Queue::of([1, 2, 1, 2].map(|weight| ("one", weight)));
        let first = queue.next().unwrap();
        let second = queue.next().unwrap();
        assert_eq!((first.index, second.index), (0, 2));
        assert!(queue.next().is_none());
        queue.done(&first);
        assert!(queue.next().is_none(), "half the weight is free");
        queue.done(&second);
        assert_eq!(queue.next().map(|n| n.index), Some(1));
        assert!(queue.next().is_none());
    }
}
