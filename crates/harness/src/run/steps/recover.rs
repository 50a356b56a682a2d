//! Recovering, or what a control does instead.

use std::time::Instant;

use super::{Done, load, replay, request::request, runbook};
use crate::{
    run::{
        Emitter, Known, RunError,
        chronicle::{EpochEnd, Fact, Mark, Means, Recovery},
        controls::Composition,
        rig::{Pipeline, Rig},
    },
    scenario::{Absence, Recover, Target, TargetBy, WhileRecovering},
};
use cdc_engine::recovery::{self, RecoveryError, compose::run_composed};
use cdc_model::{
    event::{Downtime, Loaded, StepOutcome, StepReport, What, WriterCounts},
    units::{Epoch, Failure, Timeline, Verdict, counted},
    vocabulary::Instead,
};
use cdc_workload as workload;
use cdc_workload::ledger::Tables;

/// Recovers, and begins a new epoch. A recovery that goes no further is a fact too: the drill ends with it.
pub(super) async fn take(rig: &mut Rig, known: Known<'_>, wanted: &Recover) -> Result<Done, RunError> {
    let continues = wanted.writers() == WhileRecovering::Continue;
    let end = epoch_end(known, wanted)?;
    let mut facts = histories_before(rig, known, wanted).await?;
    if continues {
        rig.writers.hammer()?;
    }
    let began = Instant::now();
    let outcome = recovered(rig, known, wanted, &end).await?;
    let seconds = began.elapsed().as_secs_f64();
    let loaded = if continues { rig.writers.stop_hammer().await? } else { None };
    facts.extend(loaded.iter().flat_map(load::kinds));
    let mut downtime = None;
    let (means, words) = match outcome {
        Outcome::LeftOut => (Means::LeftOut, "left out on purpose".to_owned()),
        Outcome::Playbook(done) => {
            downtime = done.outcome.downtime;
            let found = done.outcome.findings.join("; ");
            finished(&rig.emit, known, wanted, (seconds, downtime), Ok(found));
            let words = format!("{}, {seconds:.1} s", counted(done.outcome.steps.len(), "step"));
            (Means::Playbook { point: done.outcome.point, cut: done.epoch_cut, aside: done.aside }, words)
        }
        Outcome::Replay(steps, notes) => {
            finished(&rig.emit, known, wanted, (seconds, None), Ok(notes.join("; ")));
            let words = format!("{}, {seconds:.1} s", counted(steps, "step"));
            (Means::Playbook { point: None, cut: Vec::new(), aside: None }, words)
        }
        Outcome::Command(means) => {
            finished(&rig.emit, known, wanted, (seconds, None), Ok(String::new()));
            (means, format!("a command, {seconds:.1} s"))
        }
        Outcome::Failed(error) => {
            finished(&rig.emit, known, wanted, (seconds, None), Err(&error));
            facts.push(Fact::Refused { exit: error.exit(), why: error.to_string() });
            return Ok(Done { facts, outcome: StepOutcome { detail: format!("refused: {error}"), loaded } });
        }
    };
    if let Some(Loaded::Writers(WriterCounts { acknowledged: 0, attempted, refused, first_error, .. })) = &loaded {
        let error = first_error.as_ref().map(|error| format!("; first error: {error}")).unwrap_or_default();
        let (attempted, refused) = (counted(*attempted, "transaction"), counted(*refused, "connection"));
        let seen = format!("none of {attempted} committed, {refused} refused{error}");
        return Err(RunError::Condition { condition: "writers: continue".to_owned(), seen });
    }
    // Now, because later loads change these tables and nobody writes down how.
    let restored = if continues { None } else { captured_again(&rig.pipeline, &end).await };
    let epoch = known.chronicle.epoch();
    rig.writers.set_epoch(Epoch(epoch.0 + 1)).await;
    let timeline = rig.pipeline.sql().await?.timeline().await?;
    let recovery = Recovery { restored, seconds, downtime, ..Recovery::asked(wanted, end, epoch, timeline, means) };
    facts.push(Fact::Recovered(recovery));
    Ok(Done { facts, outcome: StepOutcome { detail: words, loaded } })
}

/// What the recovery is to keep.
fn epoch_end(known: Known<'_>, wanted: &Recover) -> Result<EpochEnd, RunError> {
    let timeline = match wanted {
        Recover::Coordinated(coordinated) => coordinated.timeline.and_then(Timeline::new),
        Recover::Slot(_) | Recover::Schema(_) | Recover::Replay(_) | Recover::Exec(_) => None,
    };
    let (mark, by) = match (wanted.target(), timeline) {
        (Target::Latest, None) => return Ok(EpochEnd::Kept),
        (Target::Latest, Some(timeline)) => return Ok(EpochEnd::End { timeline }),
        (Target::Mark { mark, by }, _) => (known.mark(mark)?, by),
    };
    let own = known.chronicle.timelines().get(&mark.epoch).copied();
    if let (TargetBy::Time, Some(timeline), Some(own)) = (by, timeline, own)
        && timeline != own
    {
        return Err(RunError::Scenario {
            scenario: known.plan.id.to_string(),
            what: format!("time of mark {} on timeline {timeline}", mark.name),
            expected: format!("timeline {own}, on which the mark was set"),
            found: timeline.to_string(),
            hint: "the mark's LSN can be meant on another timeline (`lsn:MARK`); what was committed there at its time is not known"
                .into(),
        });
    }
    Ok(EpochEnd::Mark { mark: mark.clone(), timeline })
}

/// What stands in the schema-history topics that a coordinated recovery has to clear.
async fn histories_before(rig: &Rig, known: Known<'_>, wanted: &Recover) -> Result<Vec<Fact>, RunError> {
    let mut facts = Vec::new();
    if matches!(wanted, Recover::Coordinated(_)) {
        for topic in known.layout().schema_histories() {
            let records = rig.pipeline.history(&topic).await?.unwrap_or_default();
            facts.push(Fact::HistoryBefore { topic, records });
        }
    }
    Ok(facts)
}

/// The tables that were captured at the mark, as they are now, or why they cannot be read; none where none were.
async fn captured_again(pipeline: &Pipeline, end: &EpochEnd) -> Option<Result<Tables, String>> {
    let EpochEnd::Mark { mark: Mark { tables: Some(tables), .. }, .. } = end else { return None };
    let captured: Vec<_> = tables.keys().cloned().collect();
    if captured.is_empty() {
        return None;
    }
    Some(workload::capture(&pipeline.config.postgres.url, &captured).await.map_err(|error| error.to_string()))
}

/// How a recovery, or what a control does instead, ended.
enum Outcome {
    /// It was left out.
    LeftOut,
    /// A playbook reached its end.
    Playbook(Box<recovery::Recovered>),
    /// Archives of topics were replayed, in so many steps; what a person should know.
    Replay(usize, Vec<String>),
    /// A command of the scenario's own reached its end.
    Command(Means),
    /// It went no further.
    Failed(Box<RecoveryError>),
}

async fn recovered(rig: &Rig, known: Known<'_>, wanted: &Recover, end: &EpochEnd) -> Result<Outcome, RunError> {
    if let Some(Absence::Recovery) = known.absence() {
        return Ok(Outcome::LeftOut);
    }
    if let Some(command) = known.plan.recovery_command(wanted) {
        let mark = match end {
            EpochEnd::Mark { mark, .. } => Some(mark),
            EpochEnd::Kept | EpochEnd::End { .. } => None,
        };
        return Ok(match runbook::recover(rig, known, wanted, command, mark).await? {
            Ok(means) => Outcome::Command(means),
            Err(error) => Outcome::Failed(Box::new(error)),
        });
    }
    let restarts = known.plan.instead().is_some_and(|instead| matches!(instead, Instead::RestartOnly));
    if matches!(wanted, Recover::Replay(_)) && !restarts {
        return Ok(match replay::recover(rig, known).await {
            Ok((steps, notes)) => Outcome::Replay(steps, notes),
            Err(error) => Outcome::Failed(Box::new(error)),
        });
    }
    let request = request(known, wanted)?;
    Ok(match playbook(rig, known, &request).await {
        Ok(recovered) => Outcome::Playbook(Box::new(recovered)),
        Err(error) => Outcome::Failed(Box::new(error)),
    })
}

async fn playbook(
    rig: &Rig,
    known: Known<'_>,
    request: &recovery::Request,
) -> Result<recovery::Recovered, RecoveryError> {
    let emit = rig.emit.clone();
    let mut shown = |step: StepReport| emit.emit(What::RecoveryStep(step));
    let composition = Composition::of(known);
    let mut reports = composition.reporting(&mut shown);
    let watch = recovery::Watch::default();
    let mut on = |step: StepReport| reports.step(step);
    let recovered = run_composed(&rig.pipeline.config, request, &composition, &mut on, &watch).await?;
    reports.end();
    // The drill's own checks say what it was worth.
    recovery::conclude(&recovered)?;
    Ok(recovered)
}

fn finished(
    emit: &Emitter,
    known: Known<'_>,
    wanted: &Recover,
    (rto_seconds, downtime): (f64, Option<Downtime>),
    outcome: Result<String, &RecoveryError>,
) {
    let (verdict, detail, hints) = match outcome {
        Ok(found) => (Verdict::Passed, found, Vec::new()),
        Err(error) => (Verdict::Failed, error.to_string(), error.hints()),
    };
    let playbook = match known.plan.recovery_command(wanted) {
        Some(_) => "exec".to_owned(),
        None => wanted.playbook().to_owned(),
    };
    emit.emit(What::RecoveryFinished { playbook, rto_seconds, downtime, verdict, detail, hints });
}
