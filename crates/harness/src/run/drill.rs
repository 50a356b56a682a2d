//! One drill: prepare a pipeline, take its steps, look at what is left, judge.

use std::{io::Write, os::unix::fs::OpenOptionsExt, sync::Arc, time::Duration};

use camino::Utf8PathBuf;
use tokio::time::{Instant, timeout_at};

use super::{
    Emitter, Known, RunError,
    chronicle::{Chronicle, Terms},
    confirm,
    judge::{
        Checked, Ending, Evidence, Failure, Outcome, Record, checked, named_findings, outcome, outcome_of, verdict_of,
    },
    look,
    rig::{Context, Pipeline, Rig, Servers, Writers, quiesce},
    steps,
};
use crate::{
    scenario::{ConnectorPlan, ControlRun, DowntimeObjective, DrillPlan},
    stack::Silent,
};
use cdc_model::{
    event::{CheckReport, StepOutcome, What},
    units::{Exit, Failure as _, Hint},
};
use cdc_pipeline::client::limits;

/// A drill under way: its plan, what lives, and what is known.
struct Drill<'a> {
    plan: &'a DrillPlan,
    rig: Rig,
    /// Shared with the thread that judges.
    chronicle: Arc<Chronicle>,
}

/// What a drill is judged from, and how it ends.
struct Judged {
    /// None where a recovery refused: then the chronicle says so.
    evidence: Option<Evidence>,
    checks: Vec<CheckReport>,
    outcome: Outcome,
}

/// Runs one drill to its verdict, emits everything, and returns its share in the exit code.
pub(super) async fn run(plan: &DrillPlan, index: usize, context: &Context, emit: &Emitter) -> Exit {
    emit.emit(What::DrillStarted {
        scenario: plan.scenario.clone(),
        variant: plan.variant.clone(),
        title: plan.title.clone(),
        control: plan.control.as_ref().map(ControlRun::told),
    });
    emit.emit(What::Objectives {
        rto_seconds: plan.objectives.rto.map(|limit| limit.as_secs_f64()),
        rto_reference_seconds: plan.objectives.reference_rto.map(|limit| limit.as_secs_f64()),
        downtime: plan.objectives.downtime.map(DowntimeObjective::limits),
        downtime_reference: plan.objectives.reference_downtime.map(DowntimeObjective::limits),
        rpo_transactions: plan.objectives.rpo_transactions,
    });
    let (Outcome { exit, reason, control, objectives }, hints) = match carried_out(plan, index, context, emit).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let why = error.to_string();
            (outcome(&Terms::from(plan), &Ending::CutShort { exit: error.exit(), why: &why }), error.hints())
        }
    };
    if let Some(report) = control {
        emit.emit(What::Control(report));
    }
    for objective in objectives {
        emit.emit(What::Objective(objective));
    }
    emit.emit(What::DrillFinished { verdict: verdict_of(exit), exit_code: exit.code(), reason, hints });
    exit
}

/// The drill's name, from its place in the plan: everything that it makes is called after it.
fn name(context: &Context, index: usize) -> String {
    format!("drill_{}_{index:02}", context.run.as_str().rsplit('-').next().unwrap_or_default())
}

/// Where a drill that shares nothing has its broker, worker and registry.
fn own_servers(context: &Context, name: &str) -> Utf8PathBuf {
    context.work.join(format!("{name}_servers"))
}

/// The folders of a drill's data; not all of them need to be there.
pub(super) fn folders(context: &Context, index: usize) -> [Utf8PathBuf; 2] {
    let name = name(context, index);
    [context.work.join(&name), own_servers(context, &name)]
}

/// How the drill ends, with hints where an error ended it.
async fn carried_out(
    plan: &DrillPlan,
    index: usize,
    context: &Context,
    emit: &Emitter,
) -> Result<(Outcome, Vec<Hint>), RunError> {
    let name = name(context, index);
    let mut drill = emit.step("prepare", prepare(plan, &name, context, emit)).await?;
    // A person who gives a command so much time wants it to have that.
    let limit = limits::drills::WHOLE.now() + plan.granted();
    let (judged, failure, hints) = match drill.go_on_to_verdict(limit).await {
        Ok(judged) => (judged, None, Vec::new()),
        Err(error) => {
            let failure = Failure { exit: error.exit(), why: error.to_string() };
            let ending = Ending::CutShort { exit: failure.exit, why: &failure.why };
            let outcome = outcome_of(&drill.chronicle, &ending);
            (Judged { evidence: None, checks: Vec::new(), outcome }, Some(failure), error.hints())
        }
    };
    let Judged { evidence, checks, outcome } = judged;
    if outcome.exit != Exit::Passed || context.keep {
        let chronicle = Arc::unwrap_or_clone(drill.chronicle);
        let record = Record::new(plan.id.clone(), chronicle, evidence, failure, checks, outcome.clone());
        keep(record, context.chronicle_of(&plan.id)).await;
    }
    emit.watched("clean up", stop(&drill.rig.pipeline, context)).await;
    Ok((outcome, hints))
}

/// Writes what a drill was judged from. What fails in that is logged and changes no verdict.
async fn keep(record: Record, path: Utf8PathBuf) {
    let written = tokio::task::spawn_blocking(move || {
        let json = record.into_json().map_err(|error| error.to_string())?;
        let written = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            // The drill's rows are in it.
            let mut file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(json.as_bytes())
        };
        written().map_err(|e: std::io::Error| format!("{path}: {e}"))
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error, "keeping a drill's chronicle"),
        Err(error) => tracing::warn!(%error, "keeping a drill's chronicle"),
    }
}

async fn prepare<'a>(
    plan: &'a DrillPlan,
    name: &str,
    context: &Context,
    emit: &Emitter,
) -> Result<(Drill<'a>, StepOutcome), RunError> {
    for note in plan.pipeline.connectors.iter().flat_map(ConnectorPlan::notes) {
        emit.emit(What::Note { text: note });
    }
    let isolated = context.servers.is_none();
    let servers = match &context.servers {
        Some(servers) => servers.clone(),
        None => {
            let dir = own_servers(context, name);
            Arc::new(Servers::start(&dir, &*context.backend, &Silent, emit, &context.census).await?)
        }
    };
    let pipeline = Pipeline::start(plan, name, context, servers, isolated).await?;
    let token_prefix = format!("{}-{name}", context.run);
    let ledger = pipeline.dir.join("ledger");
    let begun = async {
        let mut writers = Writers::start(plan, &pipeline.config, &token_prefix, &ledger).await?;
        let filled = writers.fill(plan, &pipeline.config).await?;
        pipeline.start_connectors(plan).await?;
        let timeline = pipeline.sql().await?.timeline().await?;
        // The first marker also makes the markers' topic and subjects: the recovery point shall have them.
        let quiet = quiesce(&pipeline, &context.run).await?;
        Ok::<_, RunError>((writers, format!("{filled}; {quiet}"), timeline))
    };
    match begun.await {
        Ok((writers, words, timeline)) => {
            let chronicle = Chronicle::new(Terms::from(plan), pipeline.layout.clone(), timeline);
            let rig = Rig { run: context.run.clone(), pipeline, writers, guards: Vec::new(), emit: emit.clone() };
            Ok((Drill { plan, rig, chronicle: Arc::new(chronicle) }, words.into()))
        }
        Err(error) => {
            stop(&pipeline, context).await;
            Err(error)
        }
    }
}

/// Stops a pipeline. What fails in that is told and changes no verdict.
async fn stop(pipeline: &Pipeline, context: &Context) {
    if let Err(error) = pipeline.stop(context).await {
        tracing::warn!(pipeline = pipeline.layout.name, %error, "cleaning up");
    }
}

impl Drill<'_> {
    /// Takes the steps and judges what they left; a drill that takes longer than the limit has no verdict. The means of faults are
    /// undone and the writers stopped once the steps have ended, in whichever way they did.
    async fn go_on_to_verdict(&mut self, limit: Duration) -> Result<Judged, RunError> {
        let deadline = Instant::now() + limit;
        let too_long = |_| RunError::TooLong { seconds: limit.as_secs(), step: "see the last step".into() };
        let taken = timeout_at(deadline, self.take_steps()).await;
        self.rig.heal(&self.plan.id).await;
        taken.map_err(too_long)??;
        let emit = self.rig.emit.clone();
        emit.watched("verify", timeout_at(deadline, self.judge())).await.map_err(too_long)?
    }

    /// Takes the steps, as far as the recovery does not refuse.
    async fn take_steps(&mut self) -> Result<(), RunError> {
        let plan = self.plan;
        for step in &plan.steps {
            let emit = self.rig.emit.clone();
            let known = Known { plan, chronicle: &self.chronicle };
            let taken = async { steps::take(&mut self.rig, known, step).await.map(|done| (done.facts, done.outcome)) };
            let facts = emit.step(step.word(), taken).await?;
            Arc::make_mut(&mut self.chronicle).extend(facts);
            if self.chronicle.refusal().is_some() {
                break;
            }
        }
        Ok(())
    }

    async fn judge(&mut self) -> Result<Judged, RunError> {
        if let Some((exit, why)) = self.chronicle.refusal() {
            let outcome = outcome_of(&self.chronicle, &Ending::Refused { exit, why });
            return Ok(Judged { evidence: None, checks: Vec::new(), outcome });
        }
        let (mut evidence, checked) = self.look().await?;
        for check in &checked.checks {
            self.rig.emit.emit(What::Check(check.clone()));
        }
        if let Some(rpo) = checked.rpo {
            self.rig.emit.emit(What::Rpo(rpo));
        }
        if let Some(control) = &self.chronicle.terms.control {
            let named = named_findings(&control.plan, &checked.checks);
            evidence.confirmed = confirm::confirmed(&self.rig.pipeline, &self.chronicle, &control.plan, &named).await;
        }
        let ending = Ending::checked(&self.chronicle, &checked, evidence.confirmed.clone());
        let outcome = outcome_of(&self.chronicle, &ending);
        Ok(Judged { evidence: Some(evidence), checks: checked.checks, outcome })
    }

    /// Looks at what the steps left, and lets the checks judge it.
    async fn look(&mut self) -> Result<(Evidence, Checked), RunError> {
        let known = Known { plan: self.plan, chronicle: &self.chronicle };
        let seen = look::observed(&self.rig, known).await?;
        let ledger = look::ledger(&self.rig, &self.chronicle).await?;
        let basis = look::basis(&self.rig.pipeline, &self.chronicle)?;
        Arc::make_mut(&mut self.chronicle).extend(basis);
        // Pure computation, which must not keep the other drills' tasks from running.
        let chronicle = self.chronicle.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let checked = checked(&chronicle, &seen, ledger.as_ref());
            (Evidence { seen, ledger, confirmed: None }, checked)
        });
        Ok(judged.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }
}
