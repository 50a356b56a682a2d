//! A recovery as a list of steps: what each destroys, what must hold before, and what is read back after.

use std::time::Instant;

use futures::future::BoxFuture;
use serde::Serialize;

use super::{RecoveryError, memory::Memory};
use cdc_model::{
    event::{StepReport, StepResult},
    moment::{self, HALF_WAY, Inside},
};
use cdc_pipeline::config::recorded;

pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, RecoveryError>>;

/// What a step declares of itself.
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
}

/// What an action did.
pub enum Done {
    /// It acted.
    Acted,
    /// There was nothing to do, and why.
    Nothing(&'static str),
}

/// One step over the state `C` of its playbook: data, of which a procedure is a list.
pub struct Step<C: 'static> {
    /// What it declares.
    pub info: StepInfo,
    /// What it destroys, by name.
    pub destroys: fn(&C) -> Vec<String>,
    /// Reads whether the precondition holds; the text says what was seen.
    pub before: for<'a> fn(&'a C) -> Answer<'a, String>,
    /// Where the act can be interrupted half done: what it has changed by then must be no obstacle to doing it again.
    pub inside: Inside,
    /// Acts.
    pub act: for<'a> fn(&'a mut C) -> Answer<'a, Done>,
    /// Reads the postcondition back; the text says what was seen.
    pub after: for<'a> fn(&'a mut C) -> Answer<'a, String>,
}

impl<C: 'static> Clone for Step<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: 'static> Copy for Step<C> {}

/// The act is done object by object.
pub(crate) const OF_SEVERAL: Inside = Inside::Between(&[HALF_WAY]);

/// Destroys nothing.
pub fn nothing<C>(_: &C) -> Vec<String> {
    Vec::new()
}

/// The action was done.
pub fn acted(outcome: Result<(), RecoveryError>) -> Result<Done, RecoveryError> {
    outcome.map(|()| Done::Acted)
}

/// What the steps of a list declare.
pub(super) const fn infos<C, const N: usize>(steps: &[Step<C>; N]) -> [StepInfo; N] {
    let mut infos = [steps[0].info; N];
    let mut at = 1;
    while at < N {
        infos[at] = steps[at].info;
        at += 1;
    }
    infos
}

/// A step and the moments at which it can be interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    /// The step's name.
    pub step: &'static str,
    /// The moments in their order, from `before` to `after`.
    pub moments: Vec<&'static str>,
}

/// The moments of steps in their order.
pub(super) fn moments<C>(steps: &[Step<C>]) -> Vec<Moments> {
    let of = |step: &Step<C>| {
        let inside = step.inside.moments().iter().copied();
        Moments {
            step: step.info.id,
            moments: [moment::BEFORE].into_iter().chain(inside).chain([moment::AFTER]).collect(),
        }
    };
    steps.iter().map(of).collect()
}

/// What a run knows that goes on with a recovery.
pub trait GoesOn {
    /// Why a step has nothing to do any more, whatever an earlier run left half done. What is done for ever is told by the state of
    /// the systems, not by the record alone.
    fn is_done(&self, step: &str) -> Option<&'static str>;
}

/// Takes the reports of steps as they end.
pub type OnStep<'a> = dyn FnMut(StepReport) + Send + 'a;

/// The steps as a plan: nothing is touched.
pub(super) fn planned<C: GoesOn>(steps: &[Step<C>], state: &C) -> Vec<StepReport> {
    let report = |step: &Step<C>| {
        let (destroys, result, detail) = match state.is_done(step.info.id) {
            Some(why) => (Vec::new(), StepResult::Skipped, why.to_owned()),
            None => {
                let detail = format!("{}; then: {}", step.info.does, step.info.postcondition);
                ((step.destroys)(state), StepResult::Planned, detail)
            }
        };
        StepReport {
            name: step.info.id.to_owned(),
            destroys,
            precondition: step.info.precondition.to_owned(),
            started_seconds: 0.0,
            seconds: 0.0,
            result,
            detail,
            hooks: Vec::new(),
        }
    };
    steps.iter().map(report).collect()
}

/// Runs the steps in order. Each is reported when it ends, also the one that fails; the first failure ends the recovery.
pub(super) async fn run<C: Send + GoesOn>(
    steps: &[Step<C>],
    state: &mut C,
    memory: &Memory,
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
            result: StepResult::Planned,
            detail: String::new(),
            hooks: Vec::new(),
        };
        if let Some(why) = state.is_done(step.info.id) {
            (report.result, report.detail) = (StepResult::Skipped, why.to_owned());
            report.destroys.clear();
            on(report.clone());
            reports.push(report);
            continue;
        }
        memory.begun(step.info.id, &report.destroys)?;
        let (outcome, hooks) = recorded(moment::of_step(step.info.id, perform(step, state, &mut report))).await;
        report.hooks = hooks;
        report.seconds = began.elapsed().as_secs_f64() - report.started_seconds;
        if let Err(error) = &outcome {
            report.result = StepResult::Failed;
            report.detail = error.to_string();
        }
        memory.ended(&report)?;
        tracing::info!(step = report.name, seconds = report.seconds, result = ?report.result, detail = report.detail);
        on(report.clone());
        reports.push(report);
        outcome?;
    }
    Ok(reports)
}

async fn perform<C>(step: &Step<C>, state: &mut C, report: &mut StepReport) -> Result<(), RecoveryError> {
    let id = step.info.id;
    moment::pass(moment::BEFORE).await?;
    report.precondition = (step.before)(state).await.map_err(|e| e.within(id))?;
    let done = (step.act)(state).await.map_err(|e| e.within(id))?;
    if step.inside == Inside::Atomic {
        moment::pass(moment::INSIDE).await?;
    }
    let seen = (step.after)(state).await.map_err(|e| e.within(id))?;
    (report.result, report.detail) = match done {
        Done::Acted => (StepResult::Done, seen),
        Done::Nothing(why) => (StepResult::Skipped, format!("{why}; {seen}")),
    };
    Ok(moment::pass(moment::AFTER).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::memory::tests::begun;

    /// A playbook of two steps, of which the first may be done for ever and the second may fail.
    #[derive(Default)]
    struct Two {
        done: bool,
        fails: bool,
        acted: Vec<&'static str>,
    }

    impl GoesOn for Two {
        fn is_done(&self, step: &str) -> Option<&'static str> {
            (self.done && step == "first").then_some("it is done")
        }
    }

    const fn info(id: &'static str) -> StepInfo {
        StepInfo { id, does: "acts", precondition: "none", postcondition: "acted" }
    }

    static TABLE: [Step<Two>; 2] = [
        Step {
            info: info("first"),
            destroys: |_| vec!["everything".into()],
            before: |_| Box::pin(async { Ok(String::new()) }),
            inside: Inside::Atomic,
            act: |two| {
                two.acted.push("first");
                Box::pin(async { Ok(Done::Acted) })
            },
            after: |_| Box::pin(async { Ok(String::new()) }),
        },
        Step {
            info: info("second"),
            destroys: |_| Vec::new(),
            before: |_| Box::pin(async { Ok(String::new()) }),
            inside: Inside::Atomic,
            act: |two| {
                two.acted.push("second");
                Box::pin(async { Ok(Done::Acted) })
            },
            after: |two| {
                let fails = two.fails;
                Box::pin(async move {
                    match fails {
                        true => Err(RecoveryError::unmet("second", "a", "b")),
                        false => Ok(String::new()),
                    }
                })
            },
        },
    ];

    async fn run_two(two: &mut Two, memory: &Memory) -> Result<Vec<StepReport>, RecoveryError> {
        run(&TABLE, two, memory, Instant::now(), &mut |_| {}).await
    }

    #[tokio::test]
    async fn a_step_that_is_done_for_ever_is_not_begun_again() {
        let (_folder, memory) = begun();
        let mut two = Two { done: true, ..Two::default() };
        let reports = run_two(&mut two, &memory).await.unwrap();
        assert_eq!(two.acted, ["second"]);
        assert_eq!((reports[0].result, reports[0].detail.as_str()), (StepResult::Skipped, "it is done"));
        assert_eq!((reports[0].destroys.len(), reports[1].result), (0, StepResult::Done));
        let again = Memory::open(memory.folder()).unwrap();
        assert!(!again.began_step("first") && again.ended_step("second"));
        let planned = planned(&TABLE, &two);
        assert_eq!((planned[0].result, planned[1].result), (StepResult::Skipped, StepResult::Planned));
        assert!(planned[0].destroys.is_empty(), "what is gone is not destroyed once more");
    }

    #[tokio::test]
    async fn a_step_that_fails_has_begun_and_not_ended() {
        let (_folder, memory) = begun();
        let mut two = Two { fails: true, ..Two::default() };
        assert!(run_two(&mut two, &memory).await.is_err());
        let again = Memory::open(memory.folder()).unwrap();
        assert!(again.ended_step("first") && again.began_step("second") && !again.ended_step("second"));
    }
}
