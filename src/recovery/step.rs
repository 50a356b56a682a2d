//! A recovery as a list of steps: what each destroys, what must hold before, and what is read back after.

use std::time::Instant;

use futures::future::BoxFuture;
use serde::Serialize;

use super::{Options, RecoveryError, journal::Journal};
use crate::{
    config::recorded,
    event::{StepReport, StepResult},
};

pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, RecoveryError>>;

/// The drill and the check that come out red when a step is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NoticedBy {
    /// `<scenario>/<variant>`.
    pub variant: &'static str,
    /// The check's id, or `refused` where the recovery itself goes no further (exit 11).
    pub check: &'static str,
}

/// What a step declares of itself, for `scenario list` and the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StepInfo {
    /// The step's name.
    pub id: &'static str,
    /// What it does, in a sentence.
    pub does: &'static str,
    /// What must hold before.
    pub precondition: &'static str,
    /// What is read back after.
    pub postcondition: &'static str,
    /// How its absence is noticed.
    pub noticed_by: NoticedBy,
}

/// What an action did.
pub(super) enum Done {
    /// It acted.
    Acted,
    /// There was nothing to do, and why.
    Nothing(&'static str),
}

/// One step over the state `C` of its playbook.
pub(super) struct Step<C: 'static> {
    /// What it declares.
    pub(super) info: StepInfo,
    /// What it destroys, by name.
    pub(super) destroys: fn(&C) -> Vec<String>,
    /// Reads whether the precondition holds; the text says what was seen.
    pub(super) before: for<'a> fn(&'a C) -> Answer<'a, String>,
    /// Acts.
    pub(super) act: for<'a> fn(&'a mut C) -> Answer<'a, Done>,
    /// Reads the postcondition back; the text says what was seen.
    pub(super) after: for<'a> fn(&'a mut C) -> Answer<'a, String>,
}

/// Takes the reports of steps as they end.
pub type OnStep<'a> = dyn FnMut(StepReport) + Send + 'a;

/// The steps as a plan: nothing is touched.
pub(super) fn planned<C>(steps: &[Step<C>], state: &C, options: &Options) -> Vec<StepReport> {
    let report = |step: &Step<C>| StepReport {
        name: step.info.id.to_owned(),
        destroys: (step.destroys)(state),
        precondition: step.info.precondition.to_owned(),
        started_seconds: 0.0,
        seconds: 0.0,
        result: if options.omits(step.info.id) { StepResult::Omitted } else { StepResult::Planned },
        detail: format!("{}; then: {}", step.info.does, step.info.postcondition),
        hooks: Vec::new(),
    };
    steps.iter().map(report).collect()
}

/// Runs the steps in order. Each is reported when it ends, also the one that fails; the first failure ends the recovery.
pub(super) async fn run<C: Send>(
    steps: &[Step<C>],
    state: &mut C,
    options: &Options,
    journal: &Journal,
    began: Instant,
    on: &mut OnStep<'_>,
) -> Result<Vec<StepReport>, RecoveryError> {
    let mut reports = Vec::new();
    for step in steps {
        let mut report = StepReport {
            name: step.info.id.to_owned(),
            destroys: (step.destroys)(state),
            precondition: step.info.precondition.to_owned(),
            started_seconds: began.elapsed().as_secs_f64(),
            seconds: 0.0,
            result: StepResult::Omitted,
            detail: "left out on purpose".to_owned(),
            hooks: Vec::new(),
        };
        let outcome = if options.omits(step.info.id) {
            Ok(())
        } else {
            journal.begun(step.info.id, &report.destroys)?;
            let (outcome, hooks) = recorded(perform(step, state, &mut report)).await;
            report.hooks = hooks;
            outcome
        };
        report.seconds = began.elapsed().as_secs_f64() - report.started_seconds;
        if let Err(error) = &outcome {
            report.result = StepResult::Failed;
            report.detail = error.to_string();
        }
        journal.ended(&report)?;
        tracing::info!(step = report.name, seconds = report.seconds, result = ?report.result, detail = report.detail);
        on(report.clone());
        reports.push(report);
        outcome?;
    }
    Ok(reports)
}

async fn perform<C>(step: &Step<C>, state: &mut C, report: &mut StepReport) -> Result<(), RecoveryError> {
    let id = step.info.id;
    report.precondition = (step.before)(state).await.map_err(|e| e.within(id))?;
    let done = (step.act)(state).await.map_err(|e| e.within(id))?;
    let seen = (step.after)(state).await.map_err(|e| e.within(id))?;
    (report.result, report.detail) = match done {
        Done::Acted => (StepResult::Done, seen),
        Done::Nothing(why) => (StepResult::Skipped, format!("{why}; {seen}")),
    };
    Ok(())
}
