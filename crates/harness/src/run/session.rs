//! A run with its report folder, as the command line and other people's tests start one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use super::{Emitter, Options, RunError, engine, judge::verdict_of, readable};
use crate::{
    report::{Folder, RunReport},
    scenario::{Library, Plan, Step, WorkloadPlan},
    stack::{BackendChoice, Progress, Silent},
};
use cdc_engine::backup::dated_id;
use cdc_model::{
    event::{Event, What},
    units::{Exit, Failure, RunId},
};

/// What to run, and where its reports go.
///
/// ```no_run
/// # async fn example() -> Result<(), cdc_harness::run::RunError> {
/// use cdc_harness::run::Session;
///
/// let finished = Session::new("target/drills").scenario("scenarios/mine.yaml")?.run().await?;
/// assert!(finished.passed(), "{}", finished.text());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    reports: Utf8PathBuf,
    options: Options,
    library: Library,
    seed: Option<u64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The combined exit code.
    pub exit: Exit,
    /// Everything that was found.
    pub report: RunReport,
    /// The run's folder with `report.html` and the others.
    pub folder: Utf8PathBuf,
}

impl Finished {
    /// Whether every drill is green and every control red as named.
    pub fn passed(&self) -> bool {
        self.exit == Exit::Passed
    }

    /// The verdict for a person.
    pub fn text(&self) -> String {
        format!("{}\nreports: {}/report.html", crate::report::verdict_text(&self.report), self.folder)
    }
}

impl Session {
    /// A run without scenarios yet, whose report folder is made below `reports`.
    pub fn new(reports: impl Into<Utf8PathBuf>) -> Session {
        let run = new_run_id();
        let reports = reports.into();
        let tmp = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| Utf8PathBuf::from("/tmp"));
        let options = Options {
            report: reports.join(run.as_str()),
            // Server data goes where temporary files go: reports stay small, and a crashed run's data goes away by itself.
            work: tmp.join(format!("cdc-drill-{run}")),
            keep: false,
            isolated: false,
            backend: BackendChoice::Local,
            jobs: None,
            replay: String::from("cdc-drill run"),
            interrupt: CancellationToken::new(),
            run,
        };
        Session { plan: Plan::default(), reports, options, library: Library::here(), seed: None }
    }

    /// Looks for scenarios and what they name in this folder first.
    #[must_use]
    pub fn library(mut self, root: impl Into<Utf8PathBuf>) -> Session {
        self.library = Library::new(root);
        self
    }

    /// The seed of every random choice, for the scenarios added after this.
    #[must_use]
    pub fn seed(mut self, seed: Option<u64>) -> Session {
        self.seed = seed;
        self
    }

    /// How to run.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Session {
        change(&mut self.options);
        self
    }

    /// Adds a scenario by file or id, with all variants and controls.
    pub fn scenario(self, wanted: &str) -> Result<Session, RunError> {
        self.scenarios(&[wanted.to_owned()])
    }

    /// Adds scenarios by file or id; all recovery drills when none is named.
    pub fn scenarios(mut self, wanted: &[String]) -> Result<Session, RunError> {
        for loaded in self.library.load(wanted)? {
            let plan = loaded.plan(self.seed);
            readable(&plan)?;
            self.plan.drills.extend(plan.drills);
        }
        Ok(self)
    }

    /// Leaves out what is not wanted.
    #[must_use]
    pub fn retain(mut self, keep: impl FnMut(&crate::scenario::DrillPlan) -> bool) -> Session {
        self.plan.drills.retain(keep);
        self
    }

    /// Demands of every drill, not of its controls, that a recovery takes no longer and that no more time of changes is lost. A drill of
    /// which that is not measured is refused: it would never be green.
    pub fn within(mut self, rto: Option<Duration>, rpo: Option<Duration>) -> Result<Session, RunError> {
        for drill in self.plan.drills.iter_mut().filter(|drill| drill.control.is_none()) {
            let recovers = drill.steps.iter().any(|step| matches!(step, Step::Recover(_)));
            let counts = recovers && !matches!(drill.workload, WorkloadPlan::Pgbench { .. });
            let asked = [("--max-rto", rto.is_some(), recovers), ("--max-rpo", rpo.is_some(), counts)];
            if let Some((flag, ..)) = asked.into_iter().find(|(_, wanted, measured)| *wanted && !measured) {
                return Err(RunError::Scenario {
                    scenario: drill.id.to_string(),
                    what: flag.to_owned(),
                    expected: "a drill that measures it".to_owned(),
                    found: match recovers {
                        true => "pgbench, which keeps no ledger of what was acknowledged".to_owned(),
                        false => "no `recover` step".to_owned(),
                    },
                    hint: format!("name other drills, with --only for instance, or leave {flag} out"),
                });
            }
            drill.objectives.tighten(rto, rpo);
        }
        Ok(self)
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.plan.drills.is_empty()
    }

    /// The ids of the drills that are left to run.
    pub fn drills(&self) -> impl Iterator<Item = &str> {
        self.plan.drills.iter().map(|drill| drill.id.as_str())
    }

    /// Runs, silently.
    pub async fn run(self) -> Result<Finished, RunError> {
        self.run_watched(|_| {}, &Silent).await
    }

    /// Runs, and shows every event to `watch` as it happens. [`Options::interrupt`] ends the run; its reports are written all
    /// the same.
    pub(crate) async fn run_watched(
        self,
        mut watch: impl FnMut(&Event) + Send + 'static,
        progress: &dyn Progress,
    ) -> Result<Finished, RunError> {
        std::fs::create_dir_all(&self.reports).map_err(RunError::file("create", &self.reports))?;
        let dir = self.options.report.clone();
        let folder = Arc::new(Mutex::new(Folder::create(&dir)?));
        let writer = folder.clone();
        let emit = Emitter::new(move |event: &Event| {
            if let Ok(mut folder) = writer.lock()
                && let Err(error) = folder.add(event)
            {
                tracing::error!(%error, "writing an event");
            }
            watch(event);
        });
        let outcome = tokio::select! {
            biased;
            () = self.options.interrupt.cancelled() => Err(RunError::Interrupted),
            outcome = engine::run(&self.plan, &self.options, &emit, progress) => outcome,
        };
        if let Err(error) = &outcome {
            let exit = error.exit();
            emit.emit(What::RunFinished { verdict: verdict_of(exit), exit_code: exit.code() });
        }
        let report = match folder.lock() {
            Ok(folder) => folder.finish()?,
            Err(poisoned) => poisoned.into_inner().finish()?,
        };
        let exit = combined(outcome?, report.exit_code);
        Ok(Finished { exit, report, folder: dir })
    }
}

/// What the run ends with: the worse of what its drills ended with and of what the report says, which holds them against one another.
/// Controls without their drill are green one by one, and prove nothing.
fn combined(drills: Exit, reported: u8) -> Exit {
    drills.worst(Exit::from_code(reported).unwrap_or(Exit::Internal))
}

fn new_run_id() -> RunId {
    RunId::new(dated_id(jiff::Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_whose_report_is_not_green_does_not_pass() {
        assert_eq!(combined(Exit::Passed, Exit::Passed.code()), Exit::Passed);
        assert_eq!(combined(Exit::Passed, Exit::Inconclusive.code()), Exit::Inconclusive);
        assert_eq!(combined(Exit::CheckFailed, Exit::Inconclusive.code()), Exit::CheckFailed);
    }

    #[tokio::test]
    async fn a_run_that_is_interrupted_ends_as_such_and_writes_its_reports() {
        let reports = tempfile::tempdir().unwrap();
        let reports = Utf8PathBuf::from_path_buf(reports.path().to_owned()).unwrap();
        let session = Session::new(reports.clone()).options(|options| options.interrupt.cancel());
        let folder = session.options.report.clone();
        let error = session.run().await.unwrap_err();
        assert!(matches!(error, RunError::Interrupted), "{error}");
        let report: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap();
        assert_eq!(report["exit_code"], 130);
    }
}
