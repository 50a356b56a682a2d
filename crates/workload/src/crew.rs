//! The writers of a workload with a ledger as a group: sent to a load, kept trying, and gathered again.

use std::{fmt::Debug, future::Future, time::Instant};

use rand_chacha::ChaCha8Rng;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{LoadSummary, WorkloadError, common::stream};
use cdc_pipeline::client::{
    limits,
    wait::{self, Poll},
};

/// One writer, as the group needs to know it.
pub(super) trait Member: Debug + Send + 'static {
    /// Its number, from 0.
    fn number(&self) -> u32;

    /// Connects if there is no connection.
    fn connect(&mut self) -> impl Future<Output = Result<(), WorkloadError>> + Send;

    /// As [`Member::connect`], and again until the server takes writers.
    fn reconnect(&mut self) -> impl Future<Output = Result<(), WorkloadError>> + Send {
        async {
            let what = format!("writer {} connected", self.number());
            let cell = Mutex::new(self);
            wait::until(&what, limits::writers::RECONNECT, || async {
                cell.lock().await.connect().await.map(|()| Poll::Ready(()))
            })
            .await?;
            Ok(())
        }
    }
}

type Tasks<W> = JoinSet<Result<(W, LoadSummary), WorkloadError>>;

/// The writers of one drill.
#[derive(Debug)]
pub(super) struct Crew<W> {
    seed: u64,
    size: usize,
    /// Those that are not under way.
    pub(super) writers: Vec<W>,
    /// Loads so far: each draws from a stream of its own.
    loads: u64,
    hammer: Option<Hammer<W>>,
}

#[derive(Debug)]
struct Hammer<W> {
    tasks: Tasks<W>,
    stop: CancellationToken,
    began: Instant,
}

impl<W: Member> Crew<W> {
    pub(super) fn new(seed: u64, writers: Vec<W>) -> Crew<W> {
        Crew { seed, size: writers.len(), writers, loads: 0, hammer: None }
    }

    /// An error when a writer is under way, or was lost with a load that ended with an error.
    pub(super) fn idle(&self) -> Result<(), WorkloadError> {
        if self.hammer.is_none() && self.writers.len() == self.size {
            return Ok(());
        }
        let why = "the writers are busy, or a load before ended with an error".to_owned();
        Err(WorkloadError::Plan { transactions: 0, why })
    }

    /// How many there are.
    pub(super) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Begins a load and returns its number.
    pub(super) fn next_load(&mut self) -> u64 {
        self.loads += 1;
        self.loads
    }

    /// Lets every writer do its task of this load, each with its own random numbers, and adds up what they did.
    pub(super) async fn work<F>(
        &mut self,
        load: u64,
        mut task: impl FnMut(W, ChaCha8Rng) -> F,
    ) -> Result<LoadSummary, WorkloadError>
    where
        F: Future<Output = Result<(W, LoadSummary), WorkloadError>> + Send + 'static,
    {
        let mut tasks = Tasks::new();
        for writer in std::mem::take(&mut self.writers) {
            let rng = stream(self.seed, load, u64::from(writer.number()));
            tasks.spawn(task(writer, rng));
        }
        self.gather(tasks).await
    }

    /// Lets every writer do its task until [`Crew::stop_hammer`].
    pub(super) fn hammer<F>(
        &mut self,
        mut task: impl FnMut(W, ChaCha8Rng, CancellationToken) -> F,
    ) -> Result<(), WorkloadError>
    where
        F: Future<Output = Result<(W, LoadSummary), WorkloadError>> + Send + 'static,
    {
        self.idle()?;
        let load = self.next_load();
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new();
        for writer in std::mem::take(&mut self.writers) {
            let rng = stream(self.seed, load, u64::from(writer.number()));
            tasks.spawn(task(writer, rng, stop.clone()));
        }
        self.hammer = Some(Hammer { tasks, stop, began: Instant::now() });
        Ok(())
    }

    /// Stops the writers after the transactions they are in; what they did. Nothing when they were not running.
    pub(super) async fn stop_hammer(&mut self) -> Result<LoadSummary, WorkloadError> {
        let Some(hammer) = self.hammer.take() else { return Ok(LoadSummary::default()) };
        hammer.stop.cancel();
        let mut summary = self.gather(hammer.tasks).await?;
        summary.seconds = hammer.began.elapsed().as_secs_f64();
        Ok(summary)
    }

    async fn gather(&mut self, mut tasks: Tasks<W>) -> Result<LoadSummary, WorkloadError> {
        let mut summary = LoadSummary::default();
        while let Some(ended) = tasks.join_next().await {
            let (writer, part) = ended.map_err(|e| WorkloadError::Task(e.to_string()))??;
            summary.add(part);
            self.writers.push(writer);
        }
        self.writers.sort_by_key(Member::number);
        Ok(summary)
    }
}
