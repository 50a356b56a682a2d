//! What ends a recovery.

use camino::{Utf8Path, Utf8PathBuf};

use cdc_model::units::{Exit, Failure, Hint, PointId, Timeline};
use cdc_pipeline::client::ClientError;

/// Why a recovery was not planned, not begun or not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The configuration does not tell something that is needed.
    #[error(transparent)]
    Config(#[from] cdc_pipeline::config::ConfigError),
    /// The pipeline may not be touched by this configuration.
    #[error(transparent)]
    Attach(#[from] cdc_pipeline::attach::AttachError),
    /// The plan cannot be carried out on what is there. Nothing was touched.
    #[error("{what}: expected {expected}, found {found}")]
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
    /// The recovery point to start from is damaged.
    #[error("recovery point {point} is damaged: {cause}")]
    Damaged {
        /// The point.
        point: PointId,
        /// What is wrong with it.
        cause: crate::backup::BackupError,
        /// The newest other point that is intact, as far as can be seen without reading its base backup, and reaches the target.
        other: Option<PointId>,
    },
    /// It could be done, and would lose something that nobody agreed to lose.
    #[error("refused: {what}")]
    Refused {
        /// What would be lost or destroyed.
        what: String,
        /// How to agree to it.
        hint: String,
    },
    /// Another recovery of the cluster did not end. Nothing was touched.
    #[error(
        "recovery {id}, begun {began}, did not end, and this is another request ({differs}); its record is {record}"
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
    #[error("wal of timeline {timeline} has a hole: {missing} {} missing", if *.count == 1 { "segment is" } else { "segments are" })]
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
    /// Somebody undid what an earlier step had done.
    #[error("step {step}: expected {expected}, found {found}")]
    Undone {
        /// The step that found it.
        step: String,
        /// What an earlier step had reached.
        expected: String,
        /// What was read.
        found: String,
    },
    /// A step could not look or act.
    #[error("step {step}: {cause}")]
    Step {
        /// The step.
        step: String,
        /// Why.
        cause: Box<RecoveryError>,
    },
    /// A system did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The repository.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// A file or folder.
    #[error("{what} {path}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A runbook of a scenario's own did not do its work.
    #[error("runbook: expected {expected}, found {found}")]
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

impl From<cdc_model::moment::Interrupted> for RecoveryError {
    fn from(error: cdc_model::moment::Interrupted) -> RecoveryError {
        RecoveryError::Postcondition {
            step: error.step,
            expected: "no interruption".into(),
            found: format!("one on purpose at its moment `{}`", error.moment),
        }
    }
}

impl From<cdc_pipeline::config::HookError> for RecoveryError {
    fn from(error: cdc_pipeline::config::HookError) -> RecoveryError {
        RecoveryError::Program { program: error.hook, detail: error.detail }
    }
}

impl Failure for RecoveryError {
    fn exit(&self) -> Exit {
        match self {
            RecoveryError::Config(error) => error.exit(),
            RecoveryError::Attach(error) => error.exit(),
            RecoveryError::Impossible { .. } => Exit::PlanImpossible,
            RecoveryError::Damaged { cause, .. } => cause.exit(),
            RecoveryError::Refused { .. } | RecoveryError::Unfinished { .. } => Exit::Refused,
            RecoveryError::WalGap { .. } => Exit::WalGap,
            RecoveryError::Postcondition { .. } | RecoveryError::Undone { .. } | RecoveryError::Runbook { .. } => {
                Exit::RecoveryFailed
            }
            RecoveryError::Step { cause, .. } => match cause.exit() {
                // Once a step has begun, a system that fails it is a failed recovery, not a missing answer.
                Exit::Inconclusive | Exit::TimedOut | Exit::Internal => Exit::RecoveryFailed,
                other => other,
            },
            RecoveryError::Client(error) => error.exit(),
            RecoveryError::Backup(error) => error.exit(),
            RecoveryError::Io { .. } | RecoveryError::Program { .. } => Exit::Inconclusive,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            RecoveryError::Config(error) => error.hints(),
            RecoveryError::Attach(error) => error.hints(),
            RecoveryError::Client(error) => error.hints(),
            RecoveryError::Backup(error) => error.hints(),
            RecoveryError::Step { cause, .. } => cause.hints(),
            RecoveryError::Damaged { other: Some(other), .. } => {
                vec![
                    format!("--point {other} starts from another recovery point, which reaches the same target").into(),
                ]
            }
            RecoveryError::Damaged { other: None, cause, .. } => {
                let none = "no other recovery point of this repository is intact and reaches the target: `backup list` shows them";
                cause.hints().into_iter().chain([none.into()]).collect()
            }
            RecoveryError::Impossible { hint, .. }
            | RecoveryError::Refused { hint, .. }
            | RecoveryError::Runbook { hint, .. } => vec![hint.clone().into()],
            RecoveryError::Unfinished { next, .. } => {
                vec![format!("`recover status` says how far it is, {next}").into()]
            }
            RecoveryError::WalGap { .. } => {
                vec!["choose a target before the hole, or a recovery point after it".into()]
            }
            RecoveryError::Undone { .. } => vec![
                "something else than the recovery changed it: an operator that looks after connectors and topics is kept away by the hooks of \
                 [recovery.operator]. The same command goes on"
                    .into(),
            ],
            RecoveryError::Postcondition { .. } | RecoveryError::Io { .. } | RecoveryError::Program { .. } => {
                Vec::new()
            }
        }
    }

    /// A plan does not change while somebody waits; a hook or a program may do better next time, and a postcondition may
    /// come to hold.
    fn is_transient(&self) -> bool {
        match self {
            RecoveryError::Config(error) => error.is_transient(),
            RecoveryError::Attach(error) => error.is_transient(),
            RecoveryError::Client(error) => error.is_transient(),
            RecoveryError::Backup(error) => error.is_transient(),
            RecoveryError::Step { cause, .. } => cause.is_transient(),
            RecoveryError::Postcondition { .. }
            | RecoveryError::Undone { .. }
            | RecoveryError::Io { .. }
            | RecoveryError::Program { .. } => true,
            RecoveryError::Impossible { .. }
            | RecoveryError::Damaged { .. }
            | RecoveryError::Refused { .. }
            | RecoveryError::Unfinished { .. }
            | RecoveryError::WalGap { .. }
            | RecoveryError::Runbook { .. } => false,
        }
    }
}

impl RecoveryError {
    pub(crate) fn io(what: &'static str, path: &Utf8Path, cause: std::io::Error) -> Self {
        RecoveryError::Io { what, path: path.to_owned(), cause }
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

    /// A step's postcondition that was not read back.
    pub fn unmet(step: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        RecoveryError::Postcondition { step: step.to_owned(), expected: expected.into(), found: found.into() }
    }

    /// What an earlier step had reached and holds no more.
    pub(crate) fn undone(step: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        RecoveryError::Undone { step: step.to_owned(), expected: expected.into(), found: found.into() }
    }

    /// Names the step in which the error came up.
    pub fn within(self, step: &str) -> Self {
        match self {
            named @ (RecoveryError::Postcondition { .. }
            | RecoveryError::Undone { .. }
            | RecoveryError::Step { .. }) => named,
            other => RecoveryError::Step { step: step.to_owned(), cause: Box::new(other) },
        }
    }
}
