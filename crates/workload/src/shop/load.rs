//! Loads, counted in transactions, and writers that keep trying while the pipeline is being recovered.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::{
    plan::{Allowed, Ending, Plan},
    pool::WRITERS_MAX,
    seed,
    shape::TABLES,
    writer::{Attempt, Body, Writer},
};
use crate::{
    LoadSpec, LoadSummary, WorkloadError,
    common::{Shared, stream},
    crew::{Crew, Member},
    ledger::{Ledger, Op, Outcome},
    store::LedgerFile,
};
use cdc_model::{
    units::{Epoch, Secret, TableName, counted},
    vocabulary::Must,
};
use cdc_pipeline::client::{limits::pacing, wait};

/// What a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Every random choice comes from it.
    pub seed: u64,
    /// Connections that write at the same time, at most 64.
    pub writers: u32,
    /// Unique over runs and drills: every token begins with it.
    pub token_prefix: String,
    /// Where the ledger is written.
    pub ledger_dir: Utf8PathBuf,
}

/// The seeded writers of one drill.
#[derive(Debug)]
pub struct Workload {
    spec: WorkloadSpec,
    shared: Arc<Shared>,
    crew: Crew<Writer>,
}

impl Workload {
    /// Opens the ledger and connects the writers to a database that has the shop's schema.
    pub async fn start(url: &Secret, spec: WorkloadSpec, epoch: Epoch) -> Result<Workload, WorkloadError> {
        if spec.writers == 0 || i64::from(spec.writers) > WRITERS_MAX {
            let why = format!(
                "expected 1 to {WRITERS_MAX}, found {}",
                spec.writers,
                WRITERS_MAX = counted(WRITERS_MAX, "writer")
            );
            return Err(WorkloadError::Plan { transactions: 0, why });
        }
        let shared = Arc::new(Shared::new(url, &spec.token_prefix, epoch));
        let mut writers = Vec::new();
        for number in 0..spec.writers {
            writers.push(Writer::new(number, LedgerFile::open(&spec.ledger_dir, number)?, Arc::clone(&shared)));
        }
        let crew = Crew::new(spec.seed, writers);
        let mut workload = Workload { spec, shared, crew };
        workload.resync().await?;
        Ok(workload)
    }

    /// Where the ledger is.
    pub fn ledger_dir(&self) -> &Utf8Path {
        &self.spec.ledger_dir
    }

    /// Reads the ledger as it is now.
    pub fn ledger(&self) -> Result<Ledger, WorkloadError> {
        Ledger::load(&self.spec.ledger_dir)
    }

    /// The epoch that transactions are tried in now.
    pub async fn epoch(&self) -> Epoch {
        self.shared.epoch.read().await.epoch()
    }

    /// Begins an epoch, once no transaction of the one before is open. Epochs never go back: writers that meet a restored
    /// server begin one by themselves.
    pub async fn set_epoch(&self, epoch: Epoch) {
        self.shared.epoch.write().await.begin(epoch);
    }

    /// Connects all writers and reads again what they own. Every load does this first.
    pub(crate) async fn resync(&mut self) -> Result<(), WorkloadError> {
        for writer in &mut self.crew.writers {
            writer.reconnect().await?;
        }
        Ok(())
    }

    /// Inserts `rows` rows (at least 50) over all tables.
    pub async fn seed_rows(&mut self, rows: u64) -> Result<LoadSummary, WorkloadError> {
        self.crew.idle()?;
        let began = Instant::now();
        let (first, lists) = seed::shares(rows, self.spec.writers);
        let load = self.crew.next_load();
        let mut summary = LoadSummary::default();
        if let Some(writer) = self.crew.writers.first_mut() {
            let mut rng = stream(self.spec.seed, load, u64::from(u32::MAX));
            add_attempt(&mut summary, &writer.attempt(Body::Seed(&first), &mut rng).await?);
        }
        let mut lists = lists.into_iter();
        let task = |mut writer: Writer, mut rng: ChaCha8Rng| {
            let list = lists.next().unwrap_or_default();
            async move {
                let mut summary = LoadSummary::default();
                for share in &list {
                    if writer.session.is_none() {
                        writer.reconnect().await?;
                    }
                    add_attempt(&mut summary, &writer.attempt(Body::Seed(share), &mut rng).await?);
                }
                Ok((writer, summary))
            }
        };
        summary.add(self.crew.work(load, task).await?);
        self.resync().await?;
        summary.seconds = began.elapsed().as_secs_f64();
        match &summary.first_error {
            Some(why) => Err(WorkloadError::Plan { transactions: summary.attempted, why: why.clone() }),
            None => Ok(summary),
        }
    }

    /// Tries exactly this many transactions. What must occur is done first, on rows that existed before. A load of which nothing commits
    /// is an error, because a drill would prove nothing with it.
    pub async fn load(&mut self, spec: LoadSpec) -> Result<LoadSummary, WorkloadError> {
        self.crew.idle()?;
        let allowed = allowed(&spec)?;
        self.resync().await?;
        let began = Instant::now();
        let load = self.crew.next_load();
        let count = self.crew.size();
        let task = |mut writer: Writer, mut rng: ChaCha8Rng| {
            let number = u64::from(writer.number);
            let transactions = spec.transactions / count + u64::from(number < spec.transactions % count);
            let must: Vec<Must> = spec.must.iter().copied().skip(number as usize).step_by(count as usize).collect();
            let allowed = allowed.clone();
            async move {
                let mut summary = LoadSummary::default();
                for at in 0..transactions {
                    if writer.session.is_none() {
                        writer.reconnect().await?;
                    }
                    let plan = Plan::draw(&mut rng, &writer.pool, &allowed, must.get(at as usize).copied());
                    add_attempt(&mut summary, &writer.attempt(Body::Plan(&plan), &mut rng).await?);
                }
                Ok((writer, summary))
            }
        };
        let mut summary = self.crew.work(load, task).await?;
        summary.missing = spec.must.iter().copied().filter(|must| !summary.seen.contains(must)).collect();
        summary.seconds = began.elapsed().as_secs_f64();
        summary.committed(spec.transactions)
    }

    /// Lets the writers keep trying, whatever the server does, until [`Workload::stop_hammer`].
    pub fn hammer(&mut self) -> Result<(), WorkloadError> {
        self.crew.hammer(keep_trying)
    }

    /// Stops the writers after the transactions they are in; what they did. Nothing when they were not running.
    pub async fn stop_hammer(&mut self) -> Result<LoadSummary, WorkloadError> {
        self.crew.stop_hammer().await
    }
}

async fn keep_trying(
    mut writer: Writer,
    mut rng: ChaCha8Rng,
    stop: CancellationToken,
) -> Result<(Writer, LoadSummary), WorkloadError> {
    let mut summary = LoadSummary::default();
    while !stop.is_cancelled() {
        if writer.session.is_none()
            && let Err(error) = writer.connect().await
        {
            tracing::debug!(writer = writer.number, %error, "no connection");
            summary.refused += 1;
            wait::pause_for(pacing::WRITER_RETRY).await;
            continue;
        }
        let plan = Plan::draw(&mut rng, &writer.pool, &Allowed::default(), None);
        add_attempt(&mut summary, &writer.attempt(Body::Plan(&plan), &mut rng).await?);
        wait::pause_for(pacing::WRITER_THINK).await;
    }
    Ok((writer, summary))
}

fn allowed(spec: &LoadSpec) -> Result<Allowed, WorkloadError> {
    let wrong = |why: String| WorkloadError::Plan { transactions: spec.transactions, why };
    if (spec.must.len() as u64) > spec.transactions {
        return Err(wrong(format!(
            "{} must occur, each in a transaction of its own",
            counted(spec.must.len(), "thing")
        )));
    }
    let Some(tables) = &spec.tables else { return Ok(Allowed::default()) };
    if let Some(unknown) = tables.iter().find(|t| t.schema != "public" || !TABLES.contains(&t.name.as_str())) {
        return Err(wrong(format!(
            "the shop workload does not write {unknown}; it writes public.{{{}}}",
            TABLES.join(",")
        )));
    }
    Ok(Allowed(Some(tables.iter().map(|t| t.name.clone()).collect())))
}

/// Adds what came of an attempt.
fn add_attempt(summary: &mut LoadSummary, attempt: &Attempt) {
    summary.attempted += 1;
    match attempt.outcome {
        Outcome::Acknowledged => {
            summary.acknowledged += 1;
            summary.rows += attempt.changes.len() as u64;
            see(summary, attempt);
        }
        Outcome::Failed if attempt.ending == Ending::Rollback && attempt.error.is_none() => {
            summary.rolled_back += 1;
            summary.seen.insert(Must::RollBack);
        }
        Outcome::Failed => summary.failed += 1,
        Outcome::Unknown => summary.unknown += 1,
    }
    if summary.first_error.is_none() {
        summary.first_error = attempt.error.as_deref().and_then(|e| e.lines().next()).map(str::to_owned);
    }
}

fn see(summary: &mut LoadSummary, attempt: &Attempt) {
    for change in attempt.changes.iter().filter(|c| c.key.is_some()) {
        summary.seen.insert(match change.op {
            Op::Insert => Must::InsertNewKeys,
            Op::Update => Must::Update,
            Op::KeyChange => Must::ChangeKey,
            Op::Delete => Must::Delete,
        });
    }
    let tables: BTreeSet<&TableName> = attempt.changes.iter().filter(|c| c.key.is_some()).map(|c| &c.table).collect();
    if tables.len() > 1 {
        summary.seen.insert(Must::MultiTable);
    }
    if attempt.ending == Ending::PartialRollback {
        summary.seen.insert(Must::Savepoint);
    }
}
