//! One drill: prepare a pipeline, take its steps, look at what is left, judge.

use std::{collections::BTreeMap, sync::Arc};

use camino::Utf8PathBuf;

use super::{
    Context, Emitter, RunError, assess, engine::verdict_of, judge, pipeline::Pipeline, shared::Servers, steps,
    writers::Writers,
};
use crate::{
    client::{ClientError, limits, postgres::Slot, wait},
    event::{Downtime, FaultReport, Rpo, What},
    fault::{Fault, FaultGuard},
    recovery::{Recovered, RecoveryError},
    scenario::{Absence, ControlRun, DowntimeObjective, DrillPlan, Expect},
    stack::Silent,
    units::{Epoch, Exit, Lsn, PointId, Verdict},
    verify::{PointView, RegistryView},
    workload::ledger::Tables,
};

/// A place in the WAL that a step named.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// The restore point's name.
    pub restore_point: String,
    /// Its position.
    pub lsn: Lsn,
    /// The server's clock then.
    pub time: jiff::Timestamp,
    /// The epoch it was set in.
    pub epoch: Epoch,
    /// The tables then, where no ledger knows them.
    pub tables: Option<Tables>,
}

/// How an epoch of the drill ended.
#[derive(Clone, Debug)]
pub(super) enum EpochEnd {
    /// Everything committed in it survives.
    Kept,
    /// What was committed up to this mark survives; later epochs before this recovery are abandoned as a whole.
    Mark(Mark),
}

/// One recovery that the drill went through, or left out.
#[derive(Debug)]
pub(super) struct Passed {
    /// What it was to keep.
    pub end: EpochEnd,
    /// The epoch that was running when it began.
    pub epoch: Epoch,
    /// The tables that no ledger knows, as they stood when it had ended, or why they could not be read; none where nothing
    /// was captured at its mark, or writers went on.
    pub restored: Option<Result<Tables, String>>,
    /// What it did; none when it was left out or a naive procedure was followed that hands nothing back.
    pub recovered: Option<Recovered>,
    /// Seconds it took.
    pub seconds: f64,
    /// The recovery point it was based on.
    pub point: Option<PointId>,
    /// Whether a command of the scenario's own did it.
    pub by_command: bool,
    /// Whether such a command put another data folder in the place of the server's: the epochs before it are on other WAL,
    /// whatever their timelines are called.
    pub replaced: bool,
}

/// A drill under way.
pub(super) struct Drill<'a> {
    pub plan: &'a DrillPlan,
    pub context: &'a Context,
    pub emit: &'a Emitter,
    pub pipeline: Pipeline,
    pub writers: Writers,
    pub epoch: Epoch,
    pub marks: BTreeMap<String, Mark>,
    pub points: BTreeMap<String, PointId>,
    /// The last backup that a command of the scenario's own took, and the pipeline as it was then; none when a recovery
    /// point was taken since.
    pub command_backup: Option<String>,
    pub looked: Option<PointView>,
    pub guards: Vec<FaultGuard>,
    /// Each with the name of the connector that it was aimed at.
    pub faults: Vec<(String, Fault)>,
    pub recoveries: Vec<Passed>,
    /// The timeline on which each epoch ran, and data folders that were set aside with WAL in them.
    pub timelines: BTreeMap<Epoch, u32>,
    pub aside: Vec<Utf8PathBuf>,
    /// Folders with the WAL of the servers that commands of the scenario's own restored over, by the last epoch of each.
    pub kept_wal: BTreeMap<Epoch, Utf8PathBuf>,
    /// What stood in the schema-history topic when a coordinated recovery began, by topic.
    pub histories: BTreeMap<String, Vec<String>>,
    /// The registry as it was before each fault: what records were written under.
    pub registry_before_faults: Vec<RegistryView>,
    /// Why a control's drill went no further than its recovery.
    pub refusal: Option<RecoveryError>,
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
    // A person who gives a command so much time wants it to have that.
    let (exit, reason) = match carried_out(plan, index, context, emit).await {
        Ok((exit, reason)) => (exit, reason),
        Err(error) => cut_short(plan, emit, &error),
    };
    emit.emit(What::DrillFinished { verdict: verdict_of(exit), exit_code: exit.code(), reason });
    exit
}

/// An error ends a drill; a control with an error is inconclusive, and says so.
fn cut_short(plan: &DrillPlan, emit: &Emitter, error: &RunError) -> (Exit, String) {
    let Some(control) = &plan.control else { return (error.exit(), error.to_string()) };
    let shown = judge::Shown {
        cut_short: Some(error.to_string()),
        refusal: None,
        checks: &[],
        status: String::new(),
        running: false,
        confirmed: None,
    };
    let report = judge::red(&control.told(), &shown);
    let reason = report.reason.clone();
    emit.emit(What::Control(report));
    (Exit::Inconclusive.worst(error.exit()), reason)
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

async fn carried_out(
    plan: &DrillPlan,
    index: usize,
    context: &Context,
    emit: &Emitter,
) -> Result<(Exit, String), RunError> {
    let name = name(context, index);
    let mut drill = emit.step("prepare", prepare(plan, &name, context, emit)).await?;
    let deadline = limits::drills::WHOLE.now() + plan.granted();
    let outcome = match tokio::time::timeout(deadline, drill.go_on_to_verdict()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            drill.heal().await;
            Err(RunError::TooLong { seconds: deadline.as_secs(), step: "see the last step".into() })
        }
    };
    stop(&drill.pipeline, context).await;
    outcome
}

async fn prepare<'a>(
    plan: &'a DrillPlan,
    name: &str,
    context: &'a Context,
    emit: &'a Emitter,
) -> Result<(Drill<'a>, String), RunError> {
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
        Ok::<_, RunError>((writers, filled, pipeline.sql().await?.timeline().await?))
    };
    let (writers, filled, timeline) = match begun.await {
        Ok(begun) => begun,
        Err(error) => {
            stop(&pipeline, context).await;
            return Err(error);
        }
    };
    let drill = Drill {
        plan,
        context,
        emit,
        pipeline,
        writers,
        epoch: Epoch(0),
        marks: BTreeMap::new(),
        points: BTreeMap::new(),
        command_backup: None,
        looked: None,
        guards: Vec::new(),
        faults: Vec::new(),
        recoveries: Vec::new(),
        timelines: BTreeMap::from([(Epoch(0), timeline)]),
        aside: Vec::new(),
        kept_wal: BTreeMap::new(),
        histories: BTreeMap::new(),
        registry_before_faults: Vec::new(),
        refusal: None,
    };
    // The first marker also makes the markers' topic and subjects: the recovery point shall have them.
    match assess::quiesce(&drill).await {
        Ok(quiet) => Ok((drill, format!("{filled}; {quiet}"))),
        Err(error) => {
            stop(&drill.pipeline, context).await;
            Err(error)
        }
    }
}

/// Stops a pipeline. What fails in that is told and changes no verdict.
async fn stop(pipeline: &Pipeline, context: &Context) {
    if let Err(error) = pipeline.stop(context).await {
        tracing::warn!(pipeline = pipeline.name, %error, "cleaning up");
    }
}

impl Drill<'_> {
    async fn go_on_to_verdict(&mut self) -> Result<(Exit, String), RunError> {
        let plan = self.plan;
        for step in &plan.steps {
            let word = step.word().to_owned();
            let emit = self.emit.clone();
            let stepped = emit.step(word, steps::take(self, step)).await;
            if let Err(error) = stepped {
                self.heal().await;
                return Err(error);
            }
            if self.refusal.is_some() {
                break;
            }
        }
        self.heal().await;
        if let Some(error) = self.refusal.take() {
            return self.refused(&error);
        }
        let assessed = assess::assess(self).await?;
        for check in &assessed.checks {
            self.emit.emit(What::Check(check.clone()));
        }
        if let Some(rpo) = assessed.rpo {
            self.emit.emit(What::Rpo(rpo));
        }
        Ok(match &self.plan.control {
            None => self.judged(&assessed),
            Some(control) => self.judged_control(control, &assessed).await,
        })
    }

    /// Undoes the means of the faults, in reverse order, on every way out.
    async fn heal(&mut self) {
        while let Some(guard) = self.guards.pop() {
            if let Err(error) = guard.heal().await {
                tracing::warn!(drill = %self.plan.id, %error, "healing a fault");
            }
        }
        if let Err(error) = self.writers.stop_hammer().await {
            tracing::warn!(drill = %self.plan.id, %error, "stopping the writers");
        }
    }

    /// The recovery went no further.
    fn refused(&self, error: &RecoveryError) -> Result<(Exit, String), RunError> {
        let exit = error.exit();
        let Some(control) = &self.plan.control else {
            return Ok((exit.worst(Exit::RecoveryFailed), error.to_string()));
        };
        let shown = judge::Shown {
            cut_short: None,
            refusal: Some(exit.code()),
            checks: &[],
            status: String::new(),
            running: false,
            confirmed: None,
        };
        Ok(self.control_judged(control, &shown))
    }

    fn judged(&self, assessed: &assess::Assessed) -> (Exit, String) {
        let mut exit = Exit::Passed;
        let mut reasons = Vec::new();
        for check in &assessed.checks {
            match check.verdict {
                Verdict::Passed => {}
                Verdict::Failed => {
                    exit = exit.worst(Exit::CheckFailed);
                    reasons.push(format!("{} has {} findings", check.id, check.findings_total));
                }
                Verdict::Inconclusive => {
                    exit = exit.worst(Exit::Inconclusive);
                    reasons.push(format!("{} {}", check.id, check.why_inconclusive()));
                }
            }
        }
        let seconds = self.recoveries.iter().map(|r| r.seconds).fold(0.0, f64::max);
        if let Some(limit) = self.plan.objectives.rto.filter(|limit| seconds > limit.as_secs_f64()) {
            exit = exit.worst(Exit::ObjectiveMissed);
            reasons.push(format!("recovery took {seconds:.1} s, the objective is {:.0} s", limit.as_secs_f64()));
        }
        if let Some(limits) = self.plan.objectives.downtime {
            let measured = self.recoveries.iter().filter_map(|r| r.recovered.as_ref()?.outcome.downtime);
            let (missed, told) = downtime_missed(limits.limits(), measured.fold(Downtime::default(), Downtime::max));
            exit = exit.worst(missed);
            reasons.extend(told);
        }
        if let Some(limit) = self.plan.objectives.rpo_transactions
            && let Some((missed, reason)) = rpo_missed(limit, assessed.rpo)
        {
            exit = exit.worst(missed);
            reasons.push(reason);
        }
        (exit, reasons.join("; "))
    }

    async fn judged_control(&self, control: &ControlRun, assessed: &assess::Assessed) -> (Exit, String) {
        let plan = control.told();
        let named = judge::named_findings(&plan, &assessed.checks);
        let confirmed = assess::confirmed(self, &plan, &named, assessed).await;
        let shown = judge::Shown {
            cut_short: None,
            refusal: None,
            checks: &assessed.checks,
            status: assessed.status.clone(),
            running: assessed.running,
            confirmed,
        };
        self.control_judged(control, &shown)
    }

    fn control_judged(&self, control: &ControlRun, shown: &judge::Shown<'_>) -> (Exit, String) {
        let plan = control.told();
        let report = match control.expect {
            Expect::Red(_) => judge::red(&plan, shown),
            Expect::Refusal(code) => judge::refusal(&plan, code, shown),
        };
        let exit = report.verdict.exit();
        let reason = if exit == Exit::Passed { String::new() } else { report.reason.clone() };
        self.emit.emit(What::Control(report));
        (exit, reason)
    }

    /// Reports a fault; one that did not land ends the drill as inconclusive.
    pub(super) fn fault_seen(&self, report: FaultReport) -> Result<(), RunError> {
        let landed = report.landed;
        let error = RunError::NotLanded { fault: report.fault.clone(), evidence: report.evidence.clone() };
        self.emit.emit(What::Fault(report));
        if landed == crate::event::Landed::Confirmed { Ok(()) } else { Err(error) }
    }

    /// What a control does to the recovery.
    pub(super) fn omission(&self) -> Option<&Absence> {
        self.plan.control.as_ref().and_then(|c| c.without.as_ref())
    }

    /// Waits until each of the drill's connectors streams or its task has failed; says which.
    pub(super) async fn settled(&self) -> Result<String, RunError> {
        let mut said = Vec::new();
        for name in self.pipeline.connectors() {
            said.push(self.connector_settled(&name).await);
        }
        Ok(said.join("; "))
    }

    async fn connector_settled(&self, name: &str) -> String {
        let connect = self.pipeline.connect();
        let db = self.pipeline.sql().await.ok();
        let slot = async || match &db {
            Some(db) => Ok(db.slots().await?.into_iter().find(|s| s.name.as_str() == name)),
            None => Ok::<_, ClientError>(None),
        };
        // On an invalidated slot it neither streams nor fails: it asks 900 times, two seconds apart, whether there is another.
        let asks_for_a_lost_slot = async |slot: Option<&Slot>| match (&db, slot) {
            (Some(db), Some(slot)) if slot.invalidated().is_some() => {
                Ok(db.text(ASKS_FOR_A_SLOT).await?.as_deref() == Some("t"))
            }
            _ => Ok(false),
        };
        let said = wait::until(&format!("connector {name} to stream or fail"), limits::connectors::SETTLED, || async {
            let status = connect.status(name).await?;
            if let Some(failure) = status.failure() {
                return Ok(wait::Poll::Ready(failure));
            }
            let slot = slot().await?;
            let streams = status.all_running() && slot.as_ref().is_some_and(|s| s.active);
            if streams {
                return Ok(wait::Poll::Ready(status.summary()));
            }
            let asks = status.connector.state == "RUNNING" && asks_for_a_lost_slot(slot.as_ref()).await?;
            Ok::<_, ClientError>(match asks {
                true => wait::Poll::Ready(format!(
                    "{}; it asks again and again for its slot, which is lost",
                    status.summary()
                )),
                false => wait::Poll::NotYet(status.summary()),
            })
        })
        .await;
        // A connector that neither streams nor fails is a state of its own, which the signals will tell.
        said.unwrap_or_else(|error| error.to_string())
    }
}

/// Whether a connector's session has asked for a slot and waits to ask again.
const ASKS_FOR_A_SLOT: &str = "select exists (select from pg_stat_activity where application_name like 'Debezium%' \
                               and state like 'idle%' and query like '%pg_replication_slots%')";

/// What speaks against an objective for lost transactions: more of them, or that nobody counted.
/// Objectives that were missed or that nobody measured.
fn downtime_missed(limits: Downtime, measured: Downtime) -> (Exit, Vec<String>) {
    let mut exit = Exit::Passed;
    let mut reasons = Vec::new();
    for (part, seconds, limit) in measured.longer_than(limits) {
        exit = exit.worst(Exit::ObjectiveMissed);
        reasons.push(format!("{part}: down for {seconds:.1} s, the objective is {limit:.0} s"));
    }
    for (part, limit) in limits.parts().filter(|(part, _)| measured.parts().all(|(known, _)| known != *part)) {
        exit = exit.worst(Exit::Inconclusive);
        reasons.push(format!("{part}: how long it was down is not known, the objective is {limit:.0} s"));
    }
    (exit, reasons)
}

fn rpo_missed(limit: u64, measured: Option<Rpo>) -> Option<(Exit, String)> {
    let Some(rpo) = measured else {
        let reason = "the lost transactions were not counted: the workload keeps no ledger of what was acknowledged";
        return Some((Exit::Inconclusive, format!("{reason}; the objective is {limit}")));
    };
    let lost = rpo.lost.transactions;
    let reason = || format!("{lost} acknowledged transactions are lost, the objective is {limit}");
    (lost > limit).then(|| (Exit::ObjectiveMissed, reason()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downtime_that_is_longer_than_its_objective_or_was_not_measured_is_told() {
        let of = |database, connectors| Downtime { database_seconds: database, connectors_seconds: connectors };
        let limits = of(Some(2.0), Some(5.0));
        assert_eq!(downtime_missed(limits, of(Some(2.0), Some(5.0))), (Exit::Passed, Vec::new()));
        let (exit, reasons) = downtime_missed(limits, of(Some(2.1), Some(4.0)));
        assert_eq!(exit, Exit::ObjectiveMissed);
        assert_eq!(reasons, ["database: down for 2.1 s, the objective is 2 s"]);
        let (exit, reasons) = downtime_missed(limits, of(None, Some(4.0)));
        assert_eq!(exit, Exit::Inconclusive);
        assert_eq!(reasons, ["database: how long it was down is not known, the objective is 2 s"]);
        assert_eq!(downtime_missed(limits, of(Some(9.0), None)).0, Exit::ObjectiveMissed, "the worst one");
        assert_eq!(downtime_missed(of(None, Some(5.0)), of(Some(9.0), Some(1.0))).0, Exit::Passed, "no objective");
    }

    #[test]
    fn an_objective_that_nobody_measured_is_not_met() {
        let lost = |transactions| {
            let mut rpo = Rpo::default();
            rpo.lost.transactions = transactions;
            Some(rpo)
        };
        let exit = |measured| rpo_missed(2, measured).map(|(exit, _)| exit);
        assert_eq!(exit(lost(2)), None);
        assert_eq!(exit(lost(3)), Some(Exit::ObjectiveMissed));
        let (exit, reason) = rpo_missed(0, None).unwrap();
        assert_eq!(exit, Exit::Inconclusive);
        assert!(reason.contains("keeps no ledger"), "{reason}");
    }
}
