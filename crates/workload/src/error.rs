//! What can go wrong with the workload.

use camino::Utf8PathBuf;

use cdc_model::units::{Exit, Failure, Hint, TableName, counted};
use cdc_pipeline::client::ClientError;

/// A workload that cannot write, or a record of it that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// A server did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file of the ledger, or of the WAL, cannot be read or written.
    #[error("{what} {path}: {cause}")]
    File {
        /// What was tried: `read ledger`.
        what: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A line of the ledger is not one.
    #[error("ledger {path}, line {line}: {message}")]
    Line {
        /// The file.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The database is not the one the workload knows.
    #[error("table {table} at {address}: expected the shop workload's schema, found {found}")]
    Schema {
        /// The table.
        table: TableName,
        /// The server, without secrets.
        address: String,
        /// What was found instead.
        found: String,
    },
    /// A table of a name that the drill needs for itself is another one.
    #[error("table {table} at {address}: expected {expected}, found {found}")]
    Taken {
        /// The table.
        table: TableName,
        /// The server, without secrets.
        address: String,
        /// What a drill's own table has.
        expected: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A transaction's own statements ended it.
    #[error(
        "transaction {name} at {address}: expected one transaction from its first statement to its last, found two"
    )]
    Ended {
        /// The transaction's name.
        name: String,
        /// The server, without secrets.
        address: String,
    },
    /// A transaction of a command's whose two rows are not two, or not of one transaction.
    #[error(
        "transaction {token} in public.drill_transactions at {address}: expected a row `begin` and a row `end` of one transaction, found {found}"
    )]
    Rows {
        /// The transaction's token.
        token: String,
        /// The server, without secrets.
        address: String,
        /// What is there.
        found: String,
    },
    /// A load that cannot be what it must be.
    #[error("load of {}: {why}", counted(*transactions, "transaction"))]
    Plan {
        /// How many were asked for.
        transactions: u64,
        /// Why not.
        why: String,
    },
    /// A program of the PostgreSQL distribution failed.
    #[error("{program} {what}: expected {expected}, found {found}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it worked on.
        what: String,
        /// What was expected of it.
        expected: String,
        /// What it said.
        found: String,
    },
    /// A writer's task ended by a panic: a defect in this program.
    #[error("writer task: {0}")]
    Task(String),
}

impl Failure for WorkloadError {
    fn exit(&self) -> Exit {
        match self {
            WorkloadError::Client(error) => error.exit(),
            WorkloadError::Plan { .. }
            | WorkloadError::Taken { .. }
            | WorkloadError::Ended { .. }
            | WorkloadError::Rows { .. } => Exit::Invalid,
            WorkloadError::Task(_) => Exit::Internal,
            WorkloadError::File { .. }
            | WorkloadError::Line { .. }
            | WorkloadError::Schema { .. }
            | WorkloadError::Program { .. } => Exit::Inconclusive,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            WorkloadError::Client(error) => return error.hints(),
            WorkloadError::Schema { .. } => "fixtures/sql/shop.sql makes it",
            WorkloadError::Taken { .. } => "a drill keeps rows of its own in this table; give yours another name",
            WorkloadError::Ended { .. } => {
                "a statement of it commits or rolls back, as a procedure can; the writers do that themselves"
            }
            WorkloadError::Rows { .. } => {
                "write the first before, the second behind everything else that the transaction does"
            }
            WorkloadError::File { .. }
            | WorkloadError::Line { .. }
            | WorkloadError::Plan { .. }
            | WorkloadError::Program { .. }
            | WorkloadError::Task(_) => return Vec::new(),
        };
        vec![hint.into()]
    }

    fn is_transient(&self) -> bool {
        match self {
            WorkloadError::Client(error) => error.is_transient(),
            WorkloadError::File { .. } | WorkloadError::Program { .. } => true,
            WorkloadError::Line { .. }
            | WorkloadError::Schema { .. }
            | WorkloadError::Taken { .. }
            | WorkloadError::Ended { .. }
            | WorkloadError::Rows { .. }
            | WorkloadError::Plan { .. }
            | WorkloadError::Task(_) => false,
        }
    }
}

impl WorkloadError {
    pub(crate) fn file(what: &'static str, path: impl Into<Utf8PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| WorkloadError::File { what, path, cause }
    }
}
