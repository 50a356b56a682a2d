//! Loads, counted in transactions, and writers that keep trying while the pipeline is being recovered.

use std::{sync::Arc, time::Instant};

use camino::Utf8PathBuf;
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::{
    render::{Draw, Transaction},
    writer::{Attempt, Writer},
};
use crate::{
    LoadSummary, WorkloadError,
    common::Shared,
    crew::{Crew, Member},
    ledger::{Ledger, Outcome},
    store::LedgerFile,
};
use cdc_model::{
    units::{Epoch, Secret},
    vocabulary::Must,
};
use cdc_pipeline::client::{limits::pacing, wait};

/// What a workload of SQL is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlSpec {
    /// Every random choice comes from it.
    pub seed: u64,
    /// Connections that write at the same time; at least 1.
    pub writers: u32,
    /// Unique over runs and drills, of letters, digits, `_` and `-`: every token begins with it.
    pub token_prefix: String,
    /// Where the ledger is written.
    pub ledger_dir: Utf8PathBuf,
    /// The transactions to draw from; at least one with a weight.
    pub transactions: Vec<Transaction>,
}

/// What a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqlLoad {
    /// How many transactions are tried, over all writers.
    pub transactions: u64,
    /// Whether the first of them must be rolled back on purpose.
    pub must_roll_back: bool,
}

/// The seeded writers of one drill.
#[derive(Debug)]
pub struct SqlWorkload {
    spec: Arc<SqlSpec>,
    shared: Arc<Shared>,
    crew: Crew<Writer>,
}

impl SqlWorkload {
    /// Opens the ledger and connects the writers to a database that [`super::lay`] has prepared.
    pub async fn start(url: &Secret, spec: SqlSpec, epoch: Epoch) -> Result<SqlWorkload, WorkloadError> {
        let weight: u64 = spec.transactions.iter().map(|t| u64::from(t.weight)).sum();
        if spec.writers == 0 || weight == 0 {
            let why = format!(
                "expected writers and transactions with a weight, found {} writers and a weight of {weight}",
                spec.writers
            );
            return Err(WorkloadError::Plan { transactions: 0, why });
        }
        let shared = Arc::new(Shared::new(url, &spec.token_prefix, epoch));
        let mut writers = Vec::new();
        for number in 0..spec.writers {
            let ledger = LedgerFile::open(&spec.ledger_dir, number)?;
            writers.push(Writer::new(number, spec.writers, ledger, Arc::clone(&shared)));
        }
        let crew = Crew::new(spec.seed, writers);
        let mut workload = SqlWorkload { spec: Arc::new(spec), shared, crew };
        workload.reconnect().await?;
        Ok(workload)
    }

    /// Reads the ledger as it is now.
    pub fn ledger(&self) -> Result<Ledger, WorkloadError> {
        Ledger::load(&self.spec.ledger_dir)
    }

    /// Begins an epoch, once no transaction of the one before is open. Epochs never go back.
    pub async fn set_epoch(&self, epoch: Epoch) {
        self.shared.epoch.write().await.begin(epoch);
    }

    /// Tries exactly this many transactions. Statements that fail are counted; a load of which nothing commits is an
    /// error, because a drill would prove nothing with it.
    pub async fn load(&mut self, load: SqlLoad) -> Result<LoadSummary, WorkloadError> {
        self.crew.idle()?;
        self.reconnect().await?;
        let began = Instant::now();
        let number_of_load = self.crew.next_load();
        let count = self.crew.size();
        let task = |mut writer: Writer, mut rng: ChaCha8Rng| {
            let number = u64::from(writer.number);
            let transactions = load.transactions / count + u64::from(number < load.transactions % count);
            let spec = Arc::clone(&self.spec);
            async move {
                let mut summary = LoadSummary::default();
                for at in 0..transactions {
                    if !writer.connected() {
                        writer.reconnect().await?;
                    }
                    let Some(mut draw) = Draw::by_weight(&mut rng, &spec.transactions) else { break };
                    draw.rolls_back |= load.must_roll_back && number == 0 && at == 0;
                    count_in(&mut summary, &writer.attempt(draw, &mut rng).await?);
                }
                Ok((writer, summary))
            }
        };
        let mut summary = self.crew.work(number_of_load, task).await?;
        summary.seconds = began.elapsed().as_secs_f64();
        if load.must_roll_back && !summary.seen.contains(&Must::RollBack) {
            summary.missing.push(Must::RollBack);
        }
        if summary.acknowledged == 0 && summary.failed + summary.unknown > 0 {
            let error = summary.first_error.unwrap_or_default();
            let why = format!("expected some to commit, found none; first error: {error}");
            return Err(WorkloadError::Plan { transactions: load.transactions, why });
        }
        Ok(summary)
    }

    /// Lets the writers keep trying, whatever the server does, until [`SqlWorkload::stop_hammer`].
    pub fn hammer(&mut self) -> Result<(), WorkloadError> {
        let spec = &self.spec;
        self.crew.hammer(|writer, rng, stop| keep_trying(writer, rng, Arc::clone(spec), stop))
    }

    /// Stops the writers after the transactions they are in; what they did. Nothing when they were not running.
    pub async fn stop_hammer(&mut self) -> Result<LoadSummary, WorkloadError> {
        self.crew.stop_hammer().await
    }

    /// Connects all writers anew: between two loads the server may have been replaced.
    async fn reconnect(&mut self) -> Result<(), WorkloadError> {
        for writer in &mut self.crew.writers {
            writer.hang_up();
            writer.reconnect().await?;
        }
        Ok(())
    }
}

async fn keep_trying(
    mut writer: Writer,
    mut rng: ChaCha8Rng,
    spec: Arc<SqlSpec>,
    stop: CancellationToken,
) -> Result<(Writer, LoadSummary), WorkloadError> {
    let mut summary = LoadSummary::default();
    while !stop.is_cancelled() {
        if let Err(error) = writer.connect().await {
            tracing::debug!(writer = writer.number, %error, "no connection");
            summary.refused += 1;
            wait::pause_for(pacing::WRITER_RETRY).await;
            continue;
        }
        let Some(draw) = Draw::by_weight(&mut rng, &spec.transactions) else { break };
        count_in(&mut summary, &writer.attempt(draw, &mut rng).await?);
        wait::pause_for(pacing::WRITER_THINK).await;
    }
    Ok((writer, summary))
}

fn count_in(summary: &mut LoadSummary, attempt: &Attempt) {
    summary.attempted += 1;
    match attempt.outcome {
        Outcome::Acknowledged => {
            summary.acknowledged += 1;
            summary.rows += attempt.rows;
        }
        Outcome::Failed if attempt.rolled_back => {
            summary.rolled_back += 1;
            summary.seen.insert(Must::RollBack);
        }
        Outcome::Failed => summary.failed += 1,
        Outcome::Unknown => summary.unknown += 1,
    }
    if summary.first_error.is_none() {
        summary.first_error = attempt.error.as_deref().map(|e| e.lines().next().unwrap_or_default().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_as_what_it_is() {
        let attempt = |outcome, rolled_back, error: Option<&str>| Attempt {
            outcome,
            rolled_back,
            rows: 3,
            error: error.map(str::to_owned),
        };
        let mut summary = LoadSummary::default();
        for tried in [
            attempt(Outcome::Acknowledged, false, None),
            attempt(Outcome::Failed, true, None),
            attempt(Outcome::Failed, false, Some("transaction book: duplicate key\ndetail")),
            attempt(Outcome::Unknown, false, Some("commit: no answer")),
        ] {
            count_in(&mut summary, &tried);
        }
        assert_eq!((summary.attempted, summary.acknowledged, summary.rows), (4, 1, 3));
        assert_eq!((summary.rolled_back, summary.failed, summary.unknown), (1, 1, 1));
        assert_eq!(summary.first_error.as_deref(), Some("transaction book: duplicate key"));
    }
}
