//! One writer: tries transactions and writes each down before the next.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::{
    perform::Performer,
    plan::{Ending, Plan},
    pool::Pool,
    session::{Session, Transaction},
};
use crate::{
    WorkloadError,
    common::{Shared, no_answer, now_ms, refused},
    crew::Member,
    ledger::{Change, Entry, Outcome},
    store::LedgerFile,
};
use cdc_model::units::Epoch;
use cdc_pipeline::client::{ClientError, limits};

/// What one attempt came to.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) outcome: Outcome,
    pub(super) ending: Ending,
    pub(super) changes: Vec<Change>,
    /// Why it failed, when that was not planned.
    pub(super) error: Option<String>,
}

/// One writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) number: u32,
    sequence: u64,
    pub(super) pool: Pool,
    pub(super) session: Option<Session>,
    ledger: LedgerFile,
    shared: Arc<Shared>,
}

/// What a transaction does between BEGIN and its end.
pub(super) enum Body<'p> {
    /// A planned transaction of the load.
    Plan(&'p Plan),
    /// A share of the first rows.
    Seed(&'p super::seed::Share),
}

impl Member for Writer {
    fn number(&self) -> u32 {
        self.number
    }

    /// Connects if there is no connection, notices a new timeline, and reads what the writer owns. Rows that cannot be
    /// read, in a damaged table for instance, leave the writer with what it knew.
    async fn connect(&mut self) -> Result<(), WorkloadError> {
        if let Some(session) = &mut self.session
            && session.refresh().await.is_err()
        {
            self.session = None;
        }
        if self.session.is_none() {
            let session = Session::open(&self.shared.url, self.number).await?;
            self.shared.notice(session.timeline).await;
            self.session = Some(session);
        }
        let Some(session) = &self.session else { return Ok(()) };
        match Pool::read(&session.pg, self.number, self.pool.named()).await {
            Ok(pool) => self.pool = pool,
            Err(ClientError::Answer { what, found, .. }) if !self.pool.is_empty() => {
                tracing::warn!(writer = self.number, %what, %found, "rows cannot be read, going on with those known");
            }
            Err(error) => {
                self.session = None;
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Writer {
    pub(super) fn new(number: u32, ledger: LedgerFile, shared: Arc<Shared>) -> Writer {
        Writer { number, sequence: 0, pool: Pool::default(), session: None, ledger, shared }
    }

    /// Tries one transaction. An error is one of the harness; what the server does is in the attempt.
    pub(super) async fn attempt(&mut self, body: Body<'_>, rng: &mut ChaCha8Rng) -> Result<Attempt, WorkloadError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.epoch.read().await;
        self.sequence += 1;
        let token = format!("{}-e{}-w{}-{}", shared.token_prefix, now.epoch().0, self.number, self.sequence);
        let mut entry = Entry {
            token,
            writer: self.number,
            sequence: self.sequence,
            epoch: now.epoch(),
            xid: None,
            began_ms: now_ms(),
            ended_ms: 0,
            outcome: Outcome::Unknown,
            changes: Vec::new(),
        };
        let ending = match body {
            Body::Plan(plan) => plan.ending,
            Body::Seed(_) => Ending::Commit,
        };
        let Some(session) = self.session.take() else {
            return Err(WorkloadError::Task(format!("writer {} has no connection", self.number)));
        };
        let mut draft = self.pool.clone();
        let done =
            tokio::time::timeout(limits::writers::TRANSACTION.now(), work(&session, &mut entry, &mut draft, body, rng))
                .await;
        let done = done.unwrap_or_else(|_| Err(no_answer(&session.pg, "transaction")));
        entry.ended_ms = now_ms();
        let error = match done {
            Ok(()) if ending == Ending::Rollback => None,
            Ok(()) => {
                now.commits();
                return self.commit(session, entry, draft, ending).await;
            }
            Err(error) => Some(error),
        };
        entry.outcome = Outcome::Failed;
        self.ledger.tried(&entry).await?;
        // After a planned rollback this does nothing; after an error it shows whether the session still lives.
        if session.pg.run("rollback").await.is_ok() {
            self.session = Some(session);
        }
        Ok(Attempt { outcome: Outcome::Failed, ending, changes: entry.changes, error: error.map(|e| e.to_string()) })
    }

    async fn commit(
        &mut self,
        session: Session,
        mut entry: Entry,
        draft: Pool,
        ending: Ending,
    ) -> Result<Attempt, WorkloadError> {
        self.ledger.tried(&entry).await?;
        let committed =
            tokio::time::timeout(limits::writers::TRANSACTION.now(), session.pg.batch_execute("commit")).await;
        entry.ended_ms = now_ms();
        let error = match committed {
            Ok(Ok(())) => {
                entry.outcome = Outcome::Acknowledged;
                self.pool = draft;
                self.session = Some(session);
                None
            }
            Ok(Err(error)) if refused(&error) => {
                entry.outcome = Outcome::Failed;
                if session.pg.run("rollback").await.is_ok() {
                    self.session = Some(session);
                }
                Some(session_error(&self.session, &error))
            }
            Ok(Err(error)) => Some(session.pg.error("commit", &error).to_string()),
            Err(_) => Some(no_answer(&session.pg, "commit").to_string()),
        };
        self.ledger.ended(&entry).await?;
        Ok(Attempt { outcome: entry.outcome, ending, changes: entry.changes, error })
    }
}

/// Does the body of a transaction and all of its ending but the COMMIT. The entry has what was done, also on an error.
async fn work(
    session: &Session,
    entry: &mut Entry,
    draft: &mut Pool,
    body: Body<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<(), ClientError> {
    let mut txn = Transaction::begin(session, entry.token.clone()).await?;
    entry.xid = Some(txn.xid);
    let epoch = entry.epoch;
    let done = match body {
        Body::Plan(plan) => planned(&mut txn, draft, plan, rng, epoch).await,
        Body::Seed(share) => super::seed::fill(&mut txn, share, rng).await,
    };
    entry.changes = txn.changes;
    done
}

async fn planned(
    txn: &mut Transaction<'_>,
    pool: &mut Pool,
    plan: &Plan,
    rng: &mut ChaCha8Rng,
    epoch: Epoch,
) -> Result<(), ClientError> {
    let writer = pool.writer();
    let mut performer = Performer { txn, pool, rng, epoch, products: Default::default() };
    for kind in &plan.first {
        performer.perform(*kind).await?;
    }
    if matches!(plan.ending, Ending::PartialRollback | Ending::Release) {
        performer.txn.run("savepoint part").await?;
        let (pool, products, changes) =
            (performer.pool.clone(), performer.products.clone(), performer.txn.changes.len());
        for kind in &plan.second {
            performer.perform(*kind).await?;
        }
        if plan.ending == Ending::PartialRollback {
            performer.txn.run("rollback to savepoint part").await?;
            *performer.pool = pool;
            performer.products = products;
            performer.txn.changes.truncate(changes);
        } else {
            performer.txn.run("release savepoint part").await?;
        }
    }
    performer.finish(writer).await?;
    if plan.ending == Ending::Rollback {
        performer.txn.run("rollback").await?;
    }
    Ok(())
}

fn session_error(session: &Option<Session>, error: &tokio_postgres::Error) -> String {
    match session {
        Some(session) => session.pg.error("commit", error).to_string(),
        None => cdc_pipeline::client::postgres::cause(error),
    }
}
