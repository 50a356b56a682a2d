//! Events become a report: a pure fold. What was not seen to its end is inconclusive, never green.

use super::{
    model::{
        ControlResult, DrillReport, FORMAT, FaultSummary, RecoveryReport, RpoReport, RunReport, ServerStart,
        SignalReport, SpeedReport, StackReport, StepTime,
    },
    words,
};
use cdc_model::{
    event::{
        ControlPlan, ControlReport, Downtime, Event, FaultReport, KindCounts, Landed, Loaded, ObjectiveReport, Signal,
        StepReport, What,
    },
    units::{DrillId, Exit, Hint, REFERENCE_MACHINE, Verdict, counted},
};

/// Folds events that are all there.
pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> RunReport {
    let mut fold = Fold::default();
    for event in events {
        fold.add(event);
    }
    fold.report()
}

/// A fold that can be looked at after every event.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    first_ms: Option<i64>,
    last_ms: i64,
    started: Option<Started>,
    stack: StackReport,
    peak_pss_bytes: Option<u64>,
    speed: Option<SpeedReport>,
    notes: Vec<String>,
    finished: Option<(Verdict, u8)>,
    drills: Vec<Drill>,
}

#[derive(Clone, Debug)]
struct Started {
    run: String,
    seed: u64,
    replay: String,
    machine: String,
}

/// What was seen of one drill, control or not.
#[derive(Clone, Debug)]
struct Drill {
    id: DrillId,
    scenario: String,
    variant: String,
    title: String,
    control: Option<ControlPlan>,
    judged: Option<ControlReport>,
    began_ms: i64,
    last_ms: i64,
    rto_objective_seconds: Option<f64>,
    rto_reference_seconds: Option<f64>,
    downtime_objective: Option<Downtime>,
    downtime_reference: Option<Downtime>,
    rpo_objective: Option<u64>,
    steps: Vec<StepTime>,
    faults: Vec<FaultReport>,
    signals: Vec<Signal>,
    open_recovery: Vec<StepReport>,
    recoveries: Vec<RecoveryReport>,
    rpo: Option<cdc_model::event::Rpo>,
    objectives: Vec<ObjectiveReport>,
    checks: Vec<cdc_model::event::CheckReport>,
    notes: Vec<String>,
    finished: Option<(Verdict, u8, String)>,
    hints: Vec<Hint>,
}

impl Drill {
    fn new(id: &DrillId, at_ms: i64) -> Drill {
        // A drill whose start was not seen is still told by its id.
        let (name, _) = split_control(id);
        let (scenario, variant) = name.split_once('/').unwrap_or((name, ""));
        Drill {
            id: id.clone(),
            scenario: scenario.to_owned(),
            variant: variant.to_owned(),
            title: String::new(),
            control: None,
            judged: None,
            began_ms: at_ms,
            last_ms: at_ms,
            rto_objective_seconds: None,
            rto_reference_seconds: None,
            downtime_objective: None,
            downtime_reference: None,
            rpo_objective: None,
            steps: Vec::new(),
            faults: Vec::new(),
            signals: Vec::new(),
            open_recovery: Vec::new(),
            recoveries: Vec::new(),
            rpo: None,
            objectives: Vec::new(),
            checks: Vec::new(),
            notes: Vec::new(),
            finished: None,
            hints: Vec::new(),
        }
    }

    fn seconds(&self) -> f64 {
        (self.last_ms - self.began_ms) as f64 / 1000.0
    }

    fn is_control(&self) -> bool {
        self.control.is_some() || split_control(&self.id).1.is_some()
    }
}

/// A drill's id without and with its control.
fn split_control(id: &DrillId) -> (&str, Option<&str>) {
    match id.as_str().split_once('+') {
        Some((main, control)) => (main, Some(control)),
        None => (id.as_str(), None),
    }
}

impl Fold {
    /// Takes one more event.
    pub fn add(&mut self, event: &Event) {
        self.first_ms.get_or_insert(event.at_ms);
        self.last_ms = self.last_ms.max(event.at_ms);
        match &event.drill {
            Some(id) => self.of_drill(id, event),
            None => self.of_run(&event.what, event.at_ms),
        }
    }

    fn of_run(&mut self, what: &What, at_ms: i64) {
        match what {
            What::RunStarted { run, seed, replay, machine, drills, .. } => {
                self.drills.extend(drills.iter().map(|id| Drill::new(id, at_ms)));
                self.started = Some(Started {
                    run: run.to_string(),
                    seed: *seed,
                    replay: replay.clone(),
                    machine: machine.clone(),
                });
            }
            What::StackReady { seconds, servers } => {
                let server = |(name, seconds): &(String, f64)| ServerStart { name: name.clone(), seconds: *seconds };
                self.stack =
                    StackReport { ready_seconds: Some(*seconds), servers: servers.iter().map(server).collect() };
            }
            What::Speed { speed, jobs, limited_by } => {
                self.speed = Some(SpeedReport {
                    measured: *speed,
                    scale: speed.scale(),
                    reference: REFERENCE_MACHINE.to_owned(),
                    slowest: None,
                    jobs: *jobs,
                    limited_by: limited_by.clone(),
                });
            }
            What::Memory { peak_pss_bytes, slowest } => {
                if let Some(speed) = &mut self.speed {
                    speed.slowest = *slowest;
                }
                self.peak_pss_bytes = Some(self.peak_pss_bytes.unwrap_or(0).max(*peak_pss_bytes));
            }
            What::RunFinished { verdict, exit_code } => self.finished = Some((*verdict, *exit_code)),
            What::Note { text } => self.notes.push(text.clone()),
            // A run-wide step has no place in a drill's report; its end is kept as a note.
            What::StepFinished { step, seconds, detail, loaded } => {
                self.notes.push(format!("{step}: {} ({seconds:.1} s)", words::outcome(detail, loaded.as_ref())));
            }
            _ => {}
        }
    }

    fn of_drill(&mut self, id: &DrillId, event: &Event) {
        let index = self.drills.iter().position(|d| d.id == *id).unwrap_or_else(|| {
            self.drills.push(Drill::new(id, event.at_ms));
            self.drills.len() - 1
        });
        let drill = &mut self.drills[index];
        if matches!(event.what, What::DrillStarted { .. }) {
            drill.began_ms = event.at_ms;
        }
        drill.last_ms = drill.last_ms.max(event.at_ms);
        drill.take(&event.what);
    }

    /// The report as far as events were seen.
    pub fn report(&self) -> RunReport {
        let drills: Vec<DrillReport> = self.mains().into_iter().map(|main| self.drill_report(main)).collect();
        let mut verdict = drills.iter().fold(Verdict::Passed, |v, d| v.and(d.verdict));
        let mut exit = drills.iter().fold(Exit::Passed, |e, d| e.worst(known_exit(d.exit_code)));
        let mut reason = String::new();
        if drills.is_empty() {
            (verdict, exit) = (verdict.and(Verdict::Inconclusive), exit.worst(Exit::Inconclusive));
            reason = "no drill ran".into();
        }
        match self.finished {
            Some((told, code)) => {
                verdict = verdict.and(told);
                exit = exit.worst(known_exit(code));
            }
            None => {
                (verdict, exit) = (verdict.and(Verdict::Inconclusive), exit.worst(Exit::Inconclusive));
                reason = "the run was cut short: its end is not in the events".into();
            }
        }
        let bad: Vec<String> = drills
            .iter()
            .filter(|d| d.verdict != Verdict::Passed)
            .map(|d| format!("{} {}", d.name(), d.verdict))
            .collect();
        if reason.is_empty() && !bad.is_empty() {
            reason = bad.join(", ");
        }
        if reason.is_empty() && verdict != Verdict::Passed {
            reason =
                self.notes.last().cloned().unwrap_or_else(|| format!("the run ended with exit code {}", exit.code()));
        }
        let started = self.started.clone().unwrap_or(Started {
            run: String::new(),
            seed: 0,
            replay: String::new(),
            machine: String::new(),
        });
        RunReport {
            format: FORMAT,
            run: started.run,
            seed: started.seed,
            verdict,
            exit_code: exit.code(),
            reason,
            replay: started.replay,
            machine: started.machine,
            speed: self.speed.clone(),
            started: self
                .first_ms
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
                .map(|t| t.to_string())
                .unwrap_or_default(),
            seconds: self.first_ms.map_or(0.0, |first| (self.last_ms - first) as f64 / 1000.0),
            complete: self.finished.is_some(),
            peak_pss_bytes: self.peak_pss_bytes,
            stack: self.stack.clone(),
            notes: self.notes.clone(),
            drills,
        }
    }

    /// One drill for each variant; where only a control of it was seen, an empty one that was never finished.
    fn mains(&self) -> Vec<Drill> {
        let mut mains: Vec<Drill> = Vec::new();
        for drill in &self.drills {
            let (name, _) = split_control(&drill.id);
            if mains.iter().any(|m| m.id.as_str() == name) {
                continue;
            }
            match self.drills.iter().find(|d| d.id.as_str() == name) {
                Some(main) => mains.push(main.clone()),
                None => {
                    let mut absent = Drill::new(&DrillId::new(name), drill.began_ms);
                    absent.title = drill.title.clone();
                    mains.push(absent);
                }
            }
        }
        mains
    }

    fn drill_report(&self, main: Drill) -> DrillReport {
        let of_main = |d: &&Drill| d.is_control() && split_control(&d.id).0 == main.id.as_str();
        let controls: Vec<ControlResult> = self.drills.iter().filter(of_main).map(control_result).collect();
        let (mut verdict, mut exit, mut reason) = main.outcome();
        for control in &controls {
            verdict = verdict.and(control.verdict);
            exit = exit.worst(control.verdict.exit());
            if control.verdict != Verdict::Passed && reason.is_empty() {
                reason = format!("control {}: {}", control.id, control.reason);
            }
        }
        let mut recoveries = main.recoveries.clone();
        if !main.open_recovery.is_empty() {
            recoveries.push(RecoveryReport {
                steps: main.open_recovery.clone(),
                detail: "it was not seen to its end".into(),
                ..Default::default()
            });
        }
        let mut recovery = recoveries.pop().unwrap_or_default();
        recovery.rto_objective_seconds = main.rto_objective_seconds;
        recovery.rto_reference_seconds = main.rto_reference_seconds;
        recovery.downtime_objective = main.downtime_objective;
        recovery.downtime_reference = main.downtime_reference;
        let rpo = main.rpo.unwrap_or_default();
        DrillReport {
            scenario: main.scenario.clone(),
            variant: main.variant.clone(),
            title: main.title.clone(),
            verdict,
            exit_code: exit.code(),
            reason,
            hints: main.hints.clone(),
            seconds: main.seconds(),
            fault: fault_summary(&main.faults),
            lied: lies(&main.signals),
            signals: main.signals.iter().map(signal).collect(),
            recovery,
            earlier_recoveries: recoveries,
            rpo: RpoReport {
                lost: rpo.lost,
                given_up: rpo.given_up,
                objective_transactions: main.rpo_objective,
                measured: main.rpo.is_some(),
            },
            kinds: main.kinds(),
            objectives: main.objectives,
            checks: main.checks,
            controls,
            steps: main.steps,
            notes: main.notes,
            faults: main.faults,
        }
    }
}

impl Drill {
    /// What became of each kind of transaction that the scenario names.
    fn kinds(&self) -> Vec<KindCounts> {
        KindCounts::together(self.steps.iter().filter_map(|step| match &step.loaded {
            Some(Loaded::Writers(counts)) => Some(counts.kinds.as_slice()),
            Some(Loaded::Pgbench { .. } | Loaded::Command { .. }) | None => None,
        }))
    }

    fn take(&mut self, what: &What) {
        match what {
            What::DrillStarted { scenario, variant, title, control } => {
                self.scenario.clone_from(scenario);
                self.variant.clone_from(variant);
                self.title.clone_from(title);
                self.control.clone_from(control);
            }
            What::Objectives { rto_seconds, rto_reference_seconds, downtime, downtime_reference, rpo_transactions } => {
                self.downtime_objective = *downtime;
                self.downtime_reference = *downtime_reference;
                self.rto_objective_seconds = *rto_seconds;
                self.rto_reference_seconds = *rto_reference_seconds;
                self.rpo_objective = *rpo_transactions;
            }
            What::StepStarted { step } => {
                self.steps.push(StepTime { step: step.clone(), seconds: None, detail: String::new(), loaded: None });
            }
            What::StepFinished { step, seconds, detail, loaded } => {
                let (seconds, detail, loaded) = (Some(*seconds), detail.clone(), loaded.clone());
                self.step_finished(StepTime { step: step.clone(), seconds, detail, loaded });
            }
            What::Fault(fault) => self.faults.push(fault.clone()),
            What::Signal(signal) => self.signals.push(signal.clone()),
            What::RecoveryStep(step) => self.open_recovery.push(step.clone()),
            What::RecoveryFinished { playbook, rto_seconds, downtime, verdict, detail, hints } => {
                self.recoveries.push(RecoveryReport {
                    playbook: Some(playbook.clone()),
                    rto_seconds: (*verdict == Verdict::Passed).then_some(*rto_seconds),
                    rto_objective_seconds: self.rto_objective_seconds,
                    rto_reference_seconds: self.rto_reference_seconds,
                    downtime: *downtime,
                    downtime_objective: self.downtime_objective,
                    downtime_reference: self.downtime_reference,
                    verdict: Some(*verdict),
                    detail: detail.clone(),
                    hints: hints.clone(),
                    steps: std::mem::take(&mut self.open_recovery),
                })
            }
            What::Objective(objective) => self.objectives.push(objective.clone()),
            What::Rpo(rpo) => self.rpo = Some(*rpo),
            What::Check(check) => self.checks.push(check.clone()),
            What::Control(report) => self.judged = Some(report.clone()),
            What::Note { text } => self.notes.push(text.clone()),
            What::DrillFinished { verdict, exit_code, reason, hints } => {
                self.finished = Some((*verdict, *exit_code, reason.clone()));
                self.hints.clone_from(hints);
            }
            What::Progress { .. }
            | What::RunStarted { .. }
            | What::StackReady { .. }
            | What::Speed { .. }
            | What::Memory { .. }
            | What::RunFinished { .. } => {}
        }
    }

    fn step_finished(&mut self, ended: StepTime) {
        match self.steps.iter_mut().rev().find(|s| s.step == ended.step && s.seconds.is_none()) {
            Some(open) => *open = ended,
            None => self.steps.push(ended),
        }
    }

    /// What the drill came to without its controls. Its own word is not enough: a red check, a fault that did not land or
    /// no check at all are never green.
    fn outcome(&self) -> (Verdict, Exit, String) {
        let Some((told, code, why)) = &self.finished else {
            return (
                Verdict::Inconclusive,
                Exit::Inconclusive,
                "it was cut short: its end is not in the events".into(),
            );
        };
        let (mut verdict, mut exit, mut reason) = (*told, known_exit(*code), why.clone());
        let mut also = |bad: Verdict, code: Exit, text: String| {
            verdict = verdict.and(bad);
            exit = exit.worst(code);
            if reason.is_empty() {
                reason = text;
            }
        };
        for check in self.checks.iter().filter(|c| c.verdict != Verdict::Passed) {
            let code = if check.verdict == Verdict::Failed { Exit::CheckFailed } else { Exit::Inconclusive };
            also(check.verdict, code, format!("check {}: {}", check.id, counted(check.findings_total, "finding")));
        }
        for objective in self.objectives.iter().filter(|o| o.verdict != Verdict::Passed) {
            also(objective.verdict, objective.exit(), objective.to_string());
        }
        if self.faults.iter().any(|f| f.landed != Landed::Confirmed) {
            also(Verdict::Inconclusive, Exit::Inconclusive, "a fault did not land".into());
        }
        if *told == Verdict::Passed {
            for why in self.kinds().iter().filter_map(KindCounts::not_exercised) {
                also(Verdict::Inconclusive, Exit::Invalid, why);
            }
        }
        if *told == Verdict::Passed && self.checks.is_empty() {
            also(Verdict::Inconclusive, Exit::Inconclusive, "no check ran".into());
        }
        if *told != Verdict::Passed && exit == Exit::Passed {
            exit = Exit::Inconclusive;
        }
        (verdict, exit, reason)
    }
}

/// A code that is none of ours is a defect of the writer.
fn known_exit(code: u8) -> Exit {
    Exit::from_code(code).unwrap_or(Exit::Internal)
}

fn fault_summary(faults: &[FaultReport]) -> FaultSummary {
    let landed = match faults.iter().map(|f| f.landed).find(|l| *l != Landed::Confirmed) {
        Some(other) => other,
        None if faults.is_empty() => Landed::Inconclusive,
        None => Landed::Confirmed,
    };
    let told: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.fault, f.evidence)).collect();
    FaultSummary { landed, evidence: told.join("; ") }
}

fn signal(signal: &Signal) -> SignalReport {
    SignalReport { source: signal.source.clone(), said: signal.said.clone() }
}

fn lies(signals: &[Signal]) -> Vec<SignalReport> {
    signals.iter().filter(|s| s.lied).map(signal).collect()
}

/// A control as it was judged; one that was never judged is inconclusive.
fn control_result(drill: &Drill) -> ControlResult {
    let unjudged = || {
        let plan = drill.control.clone().unwrap_or_else(|| ControlPlan {
            id: split_control(&drill.id).1.unwrap_or_default().to_owned(),
            without: String::new(),
            instead: None,
            check: String::new(),
            kind: cdc_model::event::FindingKind::Lost,
            silent: false,
        });
        let why = match &drill.finished {
            Some((_, _, why)) if !why.is_empty() => why.clone(),
            _ => "it was cut short before it was judged".into(),
        };
        ControlReport {
            plan,
            verdict: Verdict::Inconclusive,
            red: false,
            findings_total: 0,
            confirmation: None,
            reason: why,
        }
    };
    let judged = drill.judged.clone().unwrap_or_else(unjudged);
    ControlResult {
        id: judged.plan.id,
        without: judged.plan.without,
        instead: judged.plan.instead,
        red: judged.red,
        check: judged.plan.check,
        kind: judged.plan.kind,
        verdict: judged.verdict,
        silent: judged.plan.silent,
        findings_total: judged.findings_total,
        confirmation: judged.confirmation,
        reason: judged.reason,
        seconds: drill.seconds(),
        lied: lies(&drill.signals),
        checks: drill.checks.clone(),
    }
}
