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
    event::{KindCounts, KindError},
    units::{Epoch, Secret, counted},
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
    /// Places in [`SqlSpec::transactions`] that no load has tried yet: the next one begins with them.
    untried: Vec<usize>,
}

impl SqlWorkload {
    /// Opens the ledger and connects the writers to a database that [`super::lay`] has prepared.
    pub async fn start(url: &Secret, spec: SqlSpec, epoch: Epoch) -> Result<SqlWorkload, WorkloadError> {
        let weight: u64 = spec.transactions.iter().map(|t| u64::from(t.weight)).sum();
        if spec.writers == 0 || weight == 0 {
            let why = format!(
                "expected writers and transactions with a weight, found {} and a weight of {weight}",
                counted(spec.writers, "writer")
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
        let untried = (0..spec.transactions.len()).collect();
        let mut workload = SqlWorkload { spec: Arc::new(spec), shared, crew, untried };
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

    /// Tries exactly this many transactions, first one of each kind that no load has tried: a drill of some length exercises all of
    /// them, whatever their weights. Statements that fail are counted; a load of which nothing commits is an error, because a drill
    /// would prove nothing with it.
    pub async fn load(&mut self, load: SqlLoad) -> Result<LoadSummary, WorkloadError> {
        self.crew.idle()?;
        self.reconnect().await?;
        let began = Instant::now();
        let number_of_load = self.crew.next_load();
        let count = self.crew.size();
        let task = |mut writer: Writer, mut rng: ChaCha8Rng| {
            let number = u64::from(writer.number);
            let transactions = load.transactions / count + u64::from(number < load.transactions % count);
            let (spec, untried) = (Arc::clone(&self.spec), self.untried.clone());
            async move {
                let mut summary = uncounted(&spec);
                for at in 0..transactions {
                    if !writer.connected() {
                        writer.reconnect().await?;
                    }
                    let Some(mut draw) = Draw::by_weight(&mut rng, &spec.transactions) else { break };
                    let rolls_back = load.must_roll_back && number == 0 && at == 0;
                    // The writers take turns; the first one of all may have to be rolled back.
                    let turn = at * count + number;
                    let first = turn.checked_sub(u64::from(load.must_roll_back)).and_then(|n| untried.get(n as usize));
                    draw.rolls_back |= rolls_back;
                    if let Some(transaction) = first.and_then(|place| spec.transactions.get(*place)) {
                        draw = Draw { transaction, rolls_back: false };
                    }
                    let attempt = writer.attempt(draw, &mut rng).await?;
                    count_in(&mut summary, draw.transaction, &attempt);
                }
                Ok((writer, summary))
            }
        };
        let mut summary = self.crew.work(number_of_load, task).await?;
        let tried = |name: &str| summary.kinds.iter().any(|k| k.name == name && k.attempted > k.rolled_back);
        self.untried.retain(|place| !tried(&self.spec.transactions[*place].name));
        summary.seconds = began.elapsed().as_secs_f64();
        if load.must_roll_back && !summary.seen.contains(&Must::RollBack) {
            summary.missing.push(Must::RollBack);
        }
        summary.committed(load.transactions)
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
    let mut summary = uncounted(&spec);
    while !stop.is_cancelled() {
        if let Err(error) = writer.connect().await {
            tracing::debug!(writer = writer.number, %error, "no connection");
            summary.refused += 1;
            wait::pause_for(pacing::WRITER_RETRY).await;
            continue;
        }
        let Some(draw) = Draw::by_weight(&mut rng, &spec.transactions) else { break };
        let attempt = writer.attempt(draw, &mut rng).await?;
        count_in(&mut summary, draw.transaction, &attempt);
        wait::pause_for(pacing::WRITER_THINK).await;
    }
    Ok((writer, summary))
}

/// A load of which nothing was tried: with each kind, so that one that is never drawn is in the counts.
fn uncounted(spec: &SqlSpec) -> LoadSummary {
    let kinds = spec.transactions.iter().map(|transaction| KindCounts::of(&transaction.name)).collect();
    LoadSummary { kinds, ..LoadSummary::default() }
}

fn count_in(summary: &mut LoadSummary, transaction: &Transaction, attempt: &Attempt) {
    let mut kind = KindCounts { attempted: 1, ..KindCounts::of(&transaction.name) };
    kind.rows = transaction.counts_rows().then_some(0);
    summary.attempted += 1;
    match attempt.outcome {
        Outcome::Acknowledged => {
            summary.acknowledged += 1;
            summary.rows += attempt.rows.said;
            kind.acknowledged = 1;
            kind.rows = kind.rows.map(|_| attempt.rows.said.max(attempt.rows.changed));
        }
        Outcome::Failed if attempt.rolled_back => {
            summary.rolled_back += 1;
            summary.seen.insert(Must::RollBack);
            kind.rolled_back = 1;
        }
        Outcome::Failed => (summary.failed, kind.failed) = (summary.failed + 1, 1),
        Outcome::Unknown => (summary.unknown, kind.unknown) = (summary.unknown + 1, 1),
    }
    let error = attempt.error.as_deref().map(|e| e.lines().next().unwrap_or_default().to_owned());
    if summary.first_error.is_none() {
        summary.first_error.clone_from(&error);
    }
    kind.last_error = error.map(|error| {
        let named = format!("transaction {}: ", transaction.name);
        let message = error.strip_prefix(&named).unwrap_or(&error).to_owned();
        KindError { refused: attempt.refused, message }
    });
    summary.kinds = KindCounts::together([&*summary.kinds, &[kind]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::writer::Touched;

    fn attempt(outcome: Outcome, rolled_back: bool, error: Option<&str>) -> Attempt {
        let refused = outcome == Outcome::Failed && error.is_some();
        Attempt {
            outcome,
            rolled_back,
            rows: Touched { said: 3, changed: 4 },
            error: error.map(str::to_owned),
            refused,
        }
    }

    fn kind(name: &str) -> Transaction {
        let statement = vec![cdc_model::units::Piece::Text("update visits set state = 'seen'".into())];
        Transaction { name: name.to_owned(), weight: 1, statements: vec![statement] }
    }

    #[test]
    fn each_outcome_is_counted_as_what_it_is() {
        let mut summary = LoadSummary::default();
        for tried in [
            attempt(Outcome::Acknowledged, false, None),
            attempt(Outcome::Failed, true, None),
            attempt(Outcome::Failed, false, Some("transaction book: duplicate key\ndetail")),
            attempt(Outcome::Unknown, false, Some("commit: no answer")),
        ] {
            count_in(&mut summary, &kind("book"), &tried);
        }
        assert_eq!((summary.attempted, summary.acknowledged, summary.rows), (4, 1, 3));
        assert_eq!((summary.rolled_back, summary.failed, summary.unknown), (1, 1, 1));
        assert_eq!(summary.first_error.as_deref(), Some("transaction book: duplicate key"));
        let [book] = summary.kinds.as_slice() else { panic!("{:?}", summary.kinds) };
        assert_eq!((book.attempted, book.acknowledged, book.rows), (4, 1, Some(4)));
        assert_eq!((book.rolled_back, book.failed, book.unknown), (1, 1, 1));
        // A connection that was lost afterwards does not hide what the server said of the statements.
        let last = book.last_error.as_ref().map(|error| error.message.as_str());
        assert_eq!(last, Some("duplicate key"));
    }

    #[test]
    fn each_kind_is_counted_apart_and_one_that_was_not_drawn_is_there() {
        let spec = SqlSpec {
            seed: 1,
            writers: 1,
            token_prefix: "t".into(),
            ledger_dir: "/nowhere".into(),
            transactions: vec![kind("book"), kind("move"), kind("cancel")],
        };
        let (mut one, mut other) = (uncounted(&spec), uncounted(&spec));
        count_in(&mut one, &spec.transactions[0], &attempt(Outcome::Acknowledged, false, None));
        count_in(&mut other, &spec.transactions[1], &attempt(Outcome::Failed, false, Some("no such column")));
        one.add(other);
        let told: Vec<_> = one.kinds.iter().map(|k| (k.name.as_str(), k.attempted, k.acknowledged, k.failed)).collect();
        assert_eq!(told, [("book", 1, 1, 0), ("move", 1, 0, 1), ("cancel", 0, 0, 0)]);
    }
}
