//! One writer: tries transactions and writes each down before the next.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use tokio_postgres::SimpleQueryMessage;

use super::{
    render::{Draw, Values},
    tables::{self, Part},
};
use crate::{
    WorkloadError,
    capture::Images,
    common::{Shared, no_answer, now_ms, refused},
    crew::Member,
    ledger::{Change, Entry, Op, Outcome},
    store::LedgerFile,
};
use cdc_pipeline::client::{
    ClientError, limits,
    postgres::{Postgres, cause},
};

/// What one attempt came to.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) outcome: Outcome,
    /// Whether it was rolled back on purpose.
    pub(super) rolled_back: bool,
    /// Rows that it touched.
    pub(super) rows: Touched,
    /// Why it failed, when that was not planned.
    pub(super) error: Option<String>,
    /// Whether the server gave that error as its answer, so that it is one of the statements.
    pub(super) refused: bool,
}

/// Rows that a transaction touched, by two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// By the word of its statements.
    pub(super) said: u64,
    /// By the server's count of inserted, updated and deleted rows: also those of a `with` and of triggers.
    pub(super) changed: u64,
}

/// One writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) number: u32,
    /// How many writers there are.
    of: u32,
    sequence: u64,
    session: Option<Postgres>,
    ledger: LedgerFile,
    shared: Arc<Shared>,
}

impl Member for Writer {
    fn number(&self) -> u32 {
        self.number
    }

    /// Connects if there is no connection, and notices a new timeline.
    async fn connect(&mut self) -> Result<(), WorkloadError> {
        if self.session.is_none() {
            let name = format!("cdc-drill writer {}", self.number);
            let session = Postgres::connect_as_application(&self.shared.url, &name).await?;
            // A server that is still in recovery does not take writers, and has no answer to this.
            self.shared.notice(session.timeline().await?).await;
            self.session = Some(session);
        }
        Ok(())
    }
}

impl Writer {
    pub(super) fn new(number: u32, of: u32, ledger: LedgerFile, shared: Arc<Shared>) -> Writer {
        Writer { number, of, sequence: 0, session: None, ledger, shared }
    }

    /// Whether the last transaction left a connection that lives.
    pub(super) fn connected(&self) -> bool {
        self.session.is_some()
    }

    /// Leaves the connection behind: the server may have been replaced since.
    pub(super) fn hang_up(&mut self) {
        self.session = None;
    }

    /// Tries one transaction. An error is one of the harness or of the scenario; what the server does is in the attempt.
    pub(super) async fn attempt(&mut self, draw: Draw<'_>, rng: &mut ChaCha8Rng) -> Result<Attempt, WorkloadError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.epoch.read().await;
        self.sequence += 1;
        let values = Values {
            token: format!("{}-e{}-w{}-{}", shared.token_prefix, now.epoch().0, self.number, self.sequence),
            // Each writer counts in steps, so that the numbers do not depend on who is faster.
            number: (self.sequence - 1) * u64::from(self.of) + u64::from(self.number) + 1,
            writer: self.number,
        };
        let mut entry = Entry {
            token: values.token.clone(),
            writer: self.number,
            sequence: self.sequence,
            epoch: now.epoch(),
            xid: None,
            began_ms: now_ms(),
            ended_ms: 0,
            outcome: Outcome::Unknown,
            changes: Vec::new(),
        };
        let statements = draw.statements(rng, &values);
        let Some(session) = self.session.take() else {
            return Err(WorkloadError::Task(format!("writer {} has no connection", self.number)));
        };
        let done =
            tokio::time::timeout(limits::writers::TRANSACTION.now(), work(&session, &mut entry, &draw, &statements))
                .await;
        let done = done.unwrap_or_else(|_| Err(no_answer(&session, "transaction").into()));
        entry.ended_ms = now_ms();
        let (rows, error) = match done {
            Ok(rows) if !draw.rolls_back => {
                now.commits();
                return self.commit(session, entry, draw, rows).await;
            }
            Ok(rows) => (rows, None),
            Err(WorkloadError::Client(error)) => (Touched::default(), Some(error)),
            Err(error) => return Err(error),
        };
        let refused = matches!(error, Some(ClientError::Answer { .. }));
        entry.outcome = Outcome::Failed;
        self.ledger.tried(&entry).await?;
        // Beside undoing the transaction this shows whether the session still lives.
        if session.run("rollback").await.is_ok() {
            self.session = Some(session);
        }
        let error = error.map(|e| format!("transaction {}: {e}", draw.transaction.name));
        Ok(Attempt { outcome: Outcome::Failed, rolled_back: draw.rolls_back && error.is_none(), rows, error, refused })
    }

    async fn commit(
        &mut self,
        session: Postgres,
        mut entry: Entry,
        draw: Draw<'_>,
        rows: Touched,
    ) -> Result<Attempt, WorkloadError> {
        self.ledger.tried(&entry).await?;
        let committed = tokio::time::timeout(limits::writers::TRANSACTION.now(), session.batch_execute("commit")).await;
        entry.ended_ms = now_ms();
        let error = match committed {
            Ok(Ok(())) => {
                entry.outcome = Outcome::Acknowledged;
                self.session = Some(session);
                None
            }
            Ok(Err(error)) if refused(&error) => {
                entry.outcome = Outcome::Failed;
                if session.run("rollback").await.is_ok() {
                    self.session = Some(session);
                }
                Some(format!("transaction {}: commit: {}", draw.transaction.name, cause(&error)))
            }
            Ok(Err(error)) => Some(session.error("commit", &error).to_string()),
            Err(_) => Some(no_answer(&session, "commit").to_string()),
        };
        self.ledger.ended(&entry).await?;
        let refused = entry.outcome == Outcome::Failed;
        Ok(Attempt { outcome: entry.outcome, rolled_back: false, rows, error, refused })
    }
}

/// Does everything up to COMMIT or ROLLBACK and returns how many rows the statements touched. The entry has what was done, also on
/// an error.
async fn work(
    session: &Postgres,
    entry: &mut Entry,
    draw: &Draw<'_>,
    statements: &[String],
) -> Result<Touched, WorkloadError> {
    let name = &draw.transaction.name;
    session.run("begin").await?;
    let begin = bracket(session, entry, name, Part::Begin).await?;
    entry.xid = Some(begin.xid);
    let mut said_rows = 0;
    for statement in statements {
        let shown = || statement.lines().next().unwrap_or_default().trim().to_owned();
        let said = session.simple_query(statement).await.map_err(|e| session.error(&shown(), &e))?;
        let touched = |m: &SimpleQueryMessage| if let SimpleQueryMessage::CommandComplete(n) = m { *n } else { 0 };
        said_rows += said.iter().map(touched).sum::<u64>();
    }
    let end = bracket(session, entry, name, Part::End).await?;
    // A procedure that commits, for instance: what the ledger says of such a transaction would be wrong.
    if end.xid != begin.xid {
        return Err(WorkloadError::Ended { name: name.clone(), address: session.address().to_owned() });
    }
    Ok(Touched { said: said_rows, changed: end.changed.saturating_sub(begin.changed) })
}

/// Where a transaction is at one of its own rows.
struct Bracket {
    /// The transaction's id.
    xid: u64,
    /// Rows that the session has changed in other tables and not yet reported: only the difference of two within a transaction is known
    /// to be the transaction's.
    changed: u64,
}

/// Writes one of the transaction's own rows.
async fn bracket(session: &Postgres, entry: &mut Entry, name: &str, part: Part) -> Result<Bracket, WorkloadError> {
    let table = tables::transactions();
    // Token and name are of letters, digits, `_` and `-`.
    let sql = format!(
        "insert into {} (drill_token, part, name, writer) values ('{}', '{}', '{name}', {}) returning *",
        table.quoted(),
        entry.token,
        part.word(),
        entry.writer
    );
    let messages = session.simple_query(&sql).await.map_err(|e| session.error("row of the transaction", &e))?;
    if let Some(row) = Images::of(&messages).pop() {
        let key = Some(tables::key(&row));
        let table = table.clone();
        entry.changes.push(Change { table, op: Op::Insert, key, key_before: None, before: None, after: Some(row) });
    }
    let sql = format!(
        "select pg_current_xact_id()::text || ' ' || coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) \
         from pg_stat_xact_user_tables where relid <> '{}'::regclass",
        table.quoted()
    );
    let said: String = session.value(&sql).await?;
    let numbers = said.split_once(' ').and_then(|(xid, rows)| Some((xid.parse().ok()?, rows.parse().ok()?)));
    let Some((xid, changed)) = numbers else {
        return Err(ClientError::answer(
            "postgres",
            session.address(),
            "state of the transaction",
            "two numbers",
            said,
        )
        .into());
    };
    Ok(Bracket { xid, changed })
}
