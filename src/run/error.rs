//! Why a run, or one drill of it, could not be carried out.

use crate::{
    backup::BackupError, client::ClientError, config::ConfigError, fault::FaultError, recovery::RecoveryError,
    stack::StackError, units::Exit, verify::VerifyError, workload::WorkloadError,
};

/// A failure of the harness. What is wrong with the pipeline is a finding, never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The pipeline may not be drilled.
    #[error(transparent)]
    Attach(#[from] crate::attach::AttachError),
    /// The stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A system did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A fault could not be injected.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A recovery.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Verification could not look.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A scenario.
    #[error(transparent)]
    Unusable(#[from] crate::scenario::ScenarioError),
    /// The report folder.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// The records of a scenario's connector are none that the checks read.
    #[error("scenario {scenario}: {source}")]
    Connector {
        /// The scenario.
        scenario: String,
        /// What is not read, with the connector's file.
        source: Box<VerifyError>,
    },
    /// A configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was committed did not arrive before the drill went on.
    #[error(
        "the pipeline did not come to rest: {seen}\nhint: a task that FAILED gives its reason above; otherwise the connector does not stream, or the machine is too busy"
    )]
    NotQuiet {
        /// What was seen last.
        seen: String,
    },
    /// A condition on which the drill depends did not come about: it would prove nothing.
    #[error("condition {condition} did not come about: {seen}")]
    Condition {
        /// The proof's word, and what it is about.
        condition: String,
        /// What was seen instead.
        seen: String,
    },
    /// The scenario asks for something that this pipeline does not have.
    #[error("scenario {scenario}: {what}: expected {expected}, found {found}\nhint: {hint}")]
    Scenario {
        /// The drill.
        scenario: String,
        /// What is asked for.
        what: String,
        /// What it needs.
        expected: String,
        /// What there is.
        found: String,
        /// What to do.
        hint: String,
    },
    /// A file of the run.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: camino::Utf8PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The drill took longer than any drill should.
    #[error("the drill did not end within {seconds} s; it was at: {step}")]
    TooLong {
        /// The limit.
        seconds: u64,
        /// What it was doing.
        step: String,
    },
    /// A fault whose effect was not seen: the drill proves nothing.
    #[error("fault {fault} did not land: {evidence}")]
    NotLanded {
        /// The fault.
        fault: String,
        /// What was seen instead.
        evidence: String,
    },
    /// A command of the scenario's own, other than a runbook, did not do its work.
    #[error("{what}: expected exit status 0, found {found}\nhint: {hint}")]
    Command {
        /// What it was for.
        what: String,
        /// How it ended, and the last lines it wrote.
        found: String,
        /// What to do.
        hint: String,
        /// What that means for the drill.
        exit: Exit,
    },
    /// The caller ended the run.
    #[error("interrupted")]
    Interrupted,
}

impl RunError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Attach(e) => e.exit(),
            RunError::Stack(e) => e.exit(),
            RunError::Client(e) => e.exit(),
            RunError::Workload(e) => e.exit(),
            RunError::Fault(e) => e.exit(),
            RunError::Backup(e) => e.exit(),
            RunError::Recovery(e) => e.exit(),
            RunError::Verify(e) => e.exit(),
            RunError::Connector { source, .. } => source.exit(),
            RunError::Unusable(e) => e.exit(),
            RunError::Report(e) => e.exit(),
            RunError::Config(_) | RunError::Scenario { .. } => Exit::Invalid,
            RunError::File { .. }
            | RunError::NotLanded { .. }
            | RunError::NotQuiet { .. }
            | RunError::Condition { .. } => Exit::Inconclusive,
            RunError::TooLong { .. } => Exit::TimedOut,
            RunError::Command { exit, .. } => *exit,
            RunError::Interrupted => Exit::Interrupted,
        }
    }

    pub(super) fn file(action: &'static str, path: &camino::Utf8Path) -> impl FnOnce(std::io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::File { action, path, source }
    }
}
