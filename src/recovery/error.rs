//! What ends a recovery.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{client::ClientError, units::Exit, units::Timeline};

/// Why a recovery was not planned, not begun or not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The configuration does not tell something that is needed.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The pipeline may not be touched by this configuration.
    #[error(transparent)]
    Attach(#[from] crate::attach::AttachError),
    /// The plan cannot be carried out on what is there. Nothing was touched.
    #[error("{what}: expected {expected}, found {found}\nhint: {hint}")]
    Impossible {
        /// The object.
        what: String,
        /// What the playbook needs.
        expected: String,
        /// What is there.
        found: String,
        /// What to do.
        hint: String,
    },
    /// It could be done, and would lose something that nobody agreed to lose.
    #[error("refused: {what}\nhint: {hint}")]
    Refused {
        /// What would be lost or destroyed.
        what: String,
        /// How to agree to it.
        hint: String,
    },
    /// Another recovery of the cluster did not end. Nothing was touched.
    #[error(
        "recovery {id}, begun {began}, did not end, and this is another request ({differs}); its record is {record}\nhint: `recover status` says how far it is, {next}"
    )]
    Unfinished {
        /// The recovery.
        id: String,
        /// When it began, RFC 3339.
        began: String,
        /// In what the requests differ.
        differs: String,
        /// The folder of its record.
        record: Utf8PathBuf,
        /// What comes next for it.
        next: &'static str,
    },
    /// The archive lacks WAL that the target needs. Nothing was touched.
    #[error("wal of timeline {timeline} has a hole: {missing} {} missing\nhint: choose a target before the hole, or a recovery point after it", if *.count == 1 { "segment is" } else { "segments are" })]
    WalGap {
        /// The timeline.
        timeline: Timeline,
        /// The first and last missing segment.
        missing: String,
        /// How many.
        count: u64,
    },
    /// A step did not reach its postcondition.
    #[error("step {step}: expected {expected}, found {found}")]
    Postcondition {
        /// The step.
        step: String,
        /// What must hold after it.
        expected: String,
        /// What was read back.
        found: String,
    },
    /// A step could not look or act.
    #[error("step {step}: {source}")]
    Step {
        /// The step.
        step: String,
        /// Why.
        source: Box<RecoveryError>,
    },
    /// A system did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The repository.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// A file or folder.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A runbook of a scenario's own did not do its work.
    #[error("runbook: expected {expected}, found {found}\nhint: {hint}")]
    Runbook {
        /// What it must do.
        expected: String,
        /// How it ended, and the last lines it wrote.
        found: String,
        /// What to do.
        hint: String,
    },
    /// A program of the PostgreSQL installation, or a control command.
    #[error("{program}: {detail}")]
    Program {
        /// The program or command.
        program: String,
        /// How it ended and the last lines it wrote.
        detail: String,
    },
}

impl From<crate::moment::Interrupted> for RecoveryError {
    fn from(error: crate::moment::Interrupted) -> RecoveryError {
        RecoveryError::Postcondition {
            step: error.step,
            expected: "no interruption".into(),
            found: format!("one on purpose at its moment `{}`", error.moment),
        }
    }
}

impl From<crate::config::HookError> for RecoveryError {
    fn from(error: crate::config::HookError) -> RecoveryError {
        RecoveryError::Program { program: error.hook, detail: error.detail }
    }
}

impl crate::client::wait::Look for RecoveryError {
    fn is_lasting(&self) -> bool {
        match self {
            RecoveryError::Client(error) => error.is_lasting(),
            RecoveryError::Step { source, .. } => source.is_lasting(),
            // A configuration, a repository and a plan do not change while somebody waits; a hook or a program may do
            // better next time, and a postcondition may come to hold.
            RecoveryError::Config(_)
            | RecoveryError::Attach(_)
            | RecoveryError::Impossible { .. }
            | RecoveryError::Refused { .. }
            | RecoveryError::Unfinished { .. }
            | RecoveryError::WalGap { .. } => true,
            _ => false,
        }
    }
}

impl RecoveryError {
    /// The exit code for a command that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            RecoveryError::Config(error) => error.exit(),
            RecoveryError::Attach(error) => error.exit(),
            RecoveryError::Impossible { .. } => Exit::PlanImpossible,
            RecoveryError::Refused { .. } | RecoveryError::Unfinished { .. } => Exit::Refused,
            RecoveryError::WalGap { .. } => Exit::WalGap,
            RecoveryError::Postcondition { .. } | RecoveryError::Runbook { .. } => Exit::RecoveryFailed,
            RecoveryError::Step { source, .. } => match source.exit() {
                // Once a step has begun, a system that fails it is a failed recovery, not a missing answer.
                Exit::Inconclusive | Exit::TimedOut | Exit::Internal => Exit::RecoveryFailed,
                other => other,
            },
            RecoveryError::Client(error) => error.exit(),
            RecoveryError::Backup(error) => error.exit(),
            RecoveryError::Io { .. } | RecoveryError::Program { .. } => Exit::Inconclusive,
        }
    }

    pub(crate) fn io(what: &'static str, path: &Utf8Path, source: std::io::Error) -> Self {
        RecoveryError::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn impossible(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        RecoveryError::Impossible {
            what: what.into(),
            expected: expected.into(),
            found: found.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn unmet(step: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        RecoveryError::Postcondition { step: step.to_owned(), expected: expected.into(), found: found.into() }
    }

    /// Names the step in which the error came up.
    pub(crate) fn within(self, step: &str) -> Self {
        match self {
            named @ (RecoveryError::Postcondition { .. } | RecoveryError::Step { .. }) => named,
            other => RecoveryError::Step { step: step.to_owned(), source: Box::new(other) },
        }
    }
}
