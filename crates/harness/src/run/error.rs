//! Why a run, or one drill of it, could not be carried out.

use crate::{fault::FaultError, stack::StackError};
use cdc_engine::{backup::BackupError, recovery::RecoveryError};
use cdc_model::units::{Exit, Failure, Hint};
use cdc_pipeline::{client::ClientError, config::ConfigError};
use cdc_verify::VerifyError;
use cdc_workload::WorkloadError;

/// A failure of the harness. What is wrong with the pipeline is a finding, never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The pipeline may not be drilled.
    #[error(transparent)]
    Attach(#[from] cdc_pipeline::attach::AttachError),
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
    #[error("scenario {scenario}: {cause}")]
    Connector {
        /// The scenario.
        scenario: String,
        /// What is not read, with the connector's file.
        cause: Box<VerifyError>,
    },
    /// A configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was committed did not arrive before the drill went on.
    #[error("the pipeline did not come to rest: {seen}")]
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
    #[error("scenario {scenario}: {what}: expected {expected}, found {found}")]
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
    #[error("{action} {path}: {cause}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: camino::Utf8PathBuf,
        /// Why not.
        cause: std::io::Error,
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
    #[error("{what}: expected exit status 0, found {found}")]
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

impl Failure for RunError {
    fn exit(&self) -> Exit {
        match self {
            RunError::Attach(error) => error.exit(),
            RunError::Stack(error) => error.exit(),
            RunError::Client(error) => error.exit(),
            RunError::Workload(error) => error.exit(),
            RunError::Fault(error) => error.exit(),
            RunError::Backup(error) => error.exit(),
            RunError::Recovery(error) => error.exit(),
            RunError::Verify(error) => error.exit(),
            RunError::Connector { cause, .. } => cause.exit(),
            RunError::Unusable(error) => error.exit(),
            RunError::Report(error) => error.exit(),
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

    fn hints(&self) -> Vec<Hint> {
        match self {
            RunError::Attach(error) => error.hints(),
            RunError::Stack(error) => error.hints(),
            RunError::Client(error) => error.hints(),
            RunError::Workload(error) => error.hints(),
            RunError::Fault(error) => error.hints(),
            RunError::Backup(error) => error.hints(),
            RunError::Recovery(error) => error.hints(),
            RunError::Verify(error) => error.hints(),
            RunError::Connector { cause, .. } => cause.hints(),
            RunError::Unusable(error) => error.hints(),
            RunError::Report(error) => error.hints(),
            RunError::Config(error) => error.hints(),
            RunError::NotQuiet { .. } => vec![
                "a task that FAILED gives its reason above; otherwise the connector does not stream, or the machine is \
                 too busy"
                    .into(),
            ],
            RunError::Scenario { hint, .. } | RunError::Command { hint, .. } => vec![hint.clone().into()],
            RunError::Condition { .. }
            | RunError::File { .. }
            | RunError::TooLong { .. }
            | RunError::NotLanded { .. }
            | RunError::Interrupted => Vec::new(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            RunError::Attach(error) => error.is_transient(),
            RunError::Stack(error) => error.is_transient(),
            RunError::Client(error) => error.is_transient(),
            RunError::Workload(error) => error.is_transient(),
            RunError::Fault(error) => error.is_transient(),
            RunError::Backup(error) => error.is_transient(),
            RunError::Recovery(error) => error.is_transient(),
            RunError::Verify(error) => error.is_transient(),
            RunError::Connector { cause, .. } => cause.is_transient(),
            RunError::Unusable(error) => error.is_transient(),
            RunError::Report(error) => error.is_transient(),
            RunError::Config(error) => error.is_transient(),
            RunError::NotQuiet { .. } | RunError::Condition { .. } | RunError::NotLanded { .. } => true,
            RunError::Scenario { .. }
            | RunError::Command { .. }
            | RunError::File { .. }
            | RunError::TooLong { .. }
            | RunError::Interrupted => false,
        }
    }
}

impl RunError {
    pub(super) fn file(action: &'static str, path: &camino::Utf8Path) -> impl FnOnce(std::io::Error) -> RunError {
        let path = path.to_owned();
        move |cause| RunError::File { action, path, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::chain;
    use cdc_pipeline::attach::AttachError;

    #[test]
    fn a_wrapping_error_says_its_cause_once_and_hands_on_what_it_knows() {
        let silent = || ClientError::unreachable("postgres", "db:5432", "connection refused");
        let file = |name: &str| std::io::Error::other(format!("{name} is broken"));
        let wrapping: Vec<(RunError, &str, bool)> = vec![
            (silent().into(), "connection refused", true),
            (FaultError::Client { fault: "slot-dropped", cause: silent() }.into(), "connection refused", true),
            (RecoveryError::Client(silent()).within("start-database").into(), "connection refused", true),
            (BackupError::from(silent()).into(), "connection refused", true),
            (AttachError::Lost { pgdata: "/pgdata".into(), cause: silent() }.into(), "connection refused", false),
            (BackupError::io("open", "/repository".into())(file("disk")).into(), "disk is broken", true),
            (RunError::file("create", "/reports".into())(file("disk")), "disk is broken", false),
        ];
        for (error, cause, is_transient) in wrapping {
            let said = chain(&error);
            assert_eq!(said.matches(cause).count(), 1, "{said}");
            assert_eq!(error.is_transient(), is_transient, "{said}");
            let hinted = cause == "connection refused";
            assert_eq!(
                error.hints().iter().filter(|hint| hint.to_string().starts_with("is it running?")).count() == 1,
                hinted,
                "{said}"
            );
        }
    }
}
