//! What a person sees: lines or spinners while a run goes on, and a verdict at its end. All of it goes to stderr.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    model::{DrillReport, RunReport},
    words::{compared, findings, lost, one_line, outcome, regained},
};
use cdc_model::{
    event::{CheckReport, Downtime, Event, FindingKind, Landed, StepResult, What},
    units::{Verdict, counted},
};

/// How often a spinner turns: alive, and no load.
const TICK: Duration = Duration::from_millis(120);

/// Shows events as they come. Bars only where stderr is a terminal and `NO_COLOR` is not set; plain lines otherwise.
pub struct Terminal {
    out: Out,
    began_ms: Option<i64>,
}

enum Out {
    Lines(Box<dyn Write + Send>),
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
}

impl Terminal {
    /// On stderr, as it is.
    pub fn stderr() -> Terminal {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let out = match std::io::stderr().is_terminal() && !no_color {
            true => Out::Bars { all: MultiProgress::new(), bars: BTreeMap::new() },
            false => Out::Lines(Box::new(std::io::stderr())),
        };
        Terminal { out, began_ms: None }
    }

    /// Plain lines to any place.
    pub fn lines(out: Box<dyn Write + Send>) -> Terminal {
        Terminal { out: Out::Lines(out), began_ms: None }
    }

    /// Shows one event.
    pub fn add(&mut self, event: &Event) {
        let began = *self.began_ms.get_or_insert(event.at_ms);
        let seconds = (event.at_ms - began) as f64 / 1000.0;
        let drill = event.drill.as_ref().map_or("run", |d| d.as_str()).to_owned();
        let text = line(&event.what);
        match &mut self.out {
            Out::Lines(out) => {
                if let Some(text) = text {
                    let _ = writeln!(out, "{seconds:>7.1} s  {drill}: {text}");
                }
            }
            Out::Bars { all, bars } => show_bar(all, bars, &drill, &event.what, text, seconds),
        }
    }

    /// Takes the bars away and shows the verdict.
    pub fn finish(&mut self, report: &RunReport) {
        let text = verdict_text(report);
        match &mut self.out {
            Out::Lines(out) => _ = writeln!(out, "\n{text}"),
            Out::Bars { all, bars } => {
                for bar in bars.values() {
                    bar.finish_and_clear();
                }
                bars.clear();
                let _ = all.println(format!("\n{text}"));
            }
        }
    }
}

fn show_bar(
    all: &MultiProgress,
    bars: &mut BTreeMap<String, ProgressBar>,
    drill: &str,
    what: &What,
    text: Option<String>,
    seconds: f64,
) {
    match what {
        What::DrillFinished { .. } | What::RunFinished { .. } => {
            if let Some(bar) = bars.remove(drill) {
                bar.finish_and_clear();
            }
            if let Some(text) = text {
                let _ = all.println(format!("{seconds:>7.1} s  {drill}: {text}"));
            }
        }
        What::Note { .. } | What::Control(_) => {
            if let Some(text) = text {
                let _ = all.println(format!("{seconds:>7.1} s  {drill}: {text}"));
            }
        }
        _ => {
            let bar = bars.entry(drill.to_owned()).or_insert_with(|| {
                let bar = all.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_prefix(drill.to_owned());
                bar.enable_steady_tick(TICK);
                bar
            });
            if let Some(text) = text {
                bar.set_message(text);
            }
        }
    }
}

/// One event in a few words; none for what only reports need.
fn line(what: &What) -> Option<String> {
    Some(match what {
        What::RunStarted { run, seed, machine, .. } => format!("{run}, seed {seed}, on {machine}"),
        What::Speed { speed, jobs, limited_by } => {
            let why = if limited_by.is_empty() { String::new() } else { format!(" ({limited_by})") };
            format!(
                "{} doing {:.2} of the reference machine's work; times are scaled by {:.1}; {} at a time{why}",
                counted(speed.cores, "core"),
                speed.capacity,
                speed.scale(),
                counted(*jobs, "drill")
            )
        }
        What::StackReady { seconds, servers } => {
            let each: Vec<String> = servers.iter().map(|(name, s)| format!("{name} {s:.1} s")).collect();
            format!("servers ready after {seconds:.1} s ({})", each.join(", "))
        }
        What::DrillStarted { title, control: None, .. } => title.clone(),
        What::DrillStarted { control: Some(c), .. } if c.kind == FindingKind::RecoveryRefused => {
            format!("control {}: the recovery must refuse", c.difference())
        }
        What::DrillStarted { control: Some(c), .. } => {
            format!("control {}: {} must find {}", c.difference(), c.check, c.kind.word())
        }
        What::StepStarted { step } => format!("{step} ..."),
        What::StepFinished { step, seconds, detail, loaded } => {
            format!("{step}: {} ({seconds:.1} s)", outcome(detail, loaded.as_ref()))
        }
        What::Progress { step, seconds, waiting } => format!("{step}: for {seconds:.0} s: {waiting}"),
        What::Note { text } => text.clone(),
        What::Fault(f) => match f.landed {
            Landed::Confirmed => format!("fault {} landed: {}", f.fault, f.evidence),
            Landed::Mismatch => format!("fault {}: something else was seen: {}", f.fault, f.evidence),
            Landed::Inconclusive => format!("fault {}: not seen to land: {}", f.fault, f.evidence),
        },
        What::Signal(s) if s.lied => format!("{} says {}, which is a lie", s.source, s.said),
        What::Signal(s) => format!("{} says {}", s.source, s.said),
        What::RecoveryStep(s) => match s.result {
            StepResult::Failed => format!("  {} failed after {:.1} s: {}", s.name, s.seconds, s.detail),
            StepResult::Omitted => format!("  {} left out on purpose", s.name),
            StepResult::Skipped => format!("  {}: nothing to do", s.name),
            StepResult::Done | StepResult::Planned => format!("  {} ({:.1} s)", s.name, s.seconds),
        },
        What::RecoveryFinished { playbook, rto_seconds, downtime, verdict: Verdict::Passed, .. } => {
            format!("{playbook} recovery: {}{}", regained(Some(*rto_seconds)), down(*downtime))
        }
        What::RecoveryFinished { playbook, detail, .. } => format!("{playbook} recovery failed: {detail}"),
        What::Rpo(r) => {
            format!("{}; {} given up by the target", lost(r.lost.transactions), r.given_up.transactions)
        }
        What::Objective(o) if o.verdict == Verdict::Passed => format!("objective kept: {o}"),
        What::Objective(o) => {
            format!("objective {}: {o}", if o.measured_seconds.is_some() { "missed" } else { "not measured" })
        }
        What::Check(c) if c.verdict == Verdict::Passed => format!("check {} passed: {}", c.id, compared(c)),
        What::Check(c) => told_check(c),
        What::Control(c) if c.verdict == Verdict::Passed => format!("control {} is red, as it must be", c.plan.id),
        What::Control(c) => format!("control {} {}: {}", c.plan.id, c.verdict, c.reason),
        What::DrillFinished { verdict: Verdict::Passed, .. } => "passed".into(),
        What::DrillFinished { verdict, reason, .. } => format!("{verdict}: {reason}"),
        What::Objectives { .. } | What::Memory { .. } | What::RunFinished { .. } => return None,
    })
}

fn told_check(check: &CheckReport) -> String {
    let CheckReport { id, verdict, .. } = check;
    match verdict {
        Verdict::Inconclusive => format!("check {id} {}", check.why_inconclusive()),
        _ => format!("check {id} {verdict}: {} among {}", findings(check), compared(check)),
    }
}

/// The verdict on a run, for a person: what came back and how fast, what did not and why, and what to do next.
pub fn verdict_text(report: &RunReport) -> String {
    let mut out = String::new();
    let width = report.drills.iter().map(|d| d.name().len()).max().unwrap_or(0);
    for drill in &report.drills {
        out.push_str(&drill_lines(drill, width));
    }
    let passed = report.drills.iter().filter(|d| d.verdict == Verdict::Passed).count();
    let controls = || report.drills.iter().flat_map(|d| &d.controls);
    let red = controls().filter(|c| c.verdict == Verdict::Passed).count();
    let headline = match report.verdict {
        Verdict::Passed => "PASSED: every recovery was proved from rows and records",
        Verdict::Failed => "FAILED",
        Verdict::Inconclusive => "INCONCLUSIVE, which is not green",
    };
    out.push_str(&format!("\n{headline}\n"));
    if report.verdict != Verdict::Passed && !report.reason.is_empty() {
        out.push_str(&format!("  {}\n", report.reason));
    }
    out.push_str(&format!(
        "  {passed} of {} passed; {red} of {} red as they must be; {:.0} s; exit code {}\n",
        counted(report.drills.len() as u64, "drill"),
        counted(controls().count() as u64, "control"),
        report.seconds,
        report.exit_code
    ));
    if report.verdict != Verdict::Passed && !report.replay.is_empty() {
        out.push_str(&format!("  replay: {}\n", report.replay));
    }
    out
}

/// How long what clients use was down, behind something; nothing where that was not measured.
fn down(downtime: Option<Downtime>) -> String {
    downtime.map(|downtime| format!(", down: {downtime}")).unwrap_or_default()
}

fn drill_lines(drill: &DrillReport, width: usize) -> String {
    let name = drill.name();
    let rto = regained(drill.recovery.rto_seconds);
    let down = down(drill.recovery.downtime);
    let lost = drill.rpo.measured_loss().map(|count| format!(", {}", lost(count))).unwrap_or_default();
    let mut out = format!("{:<12}  {name:<width$}  {rto}{down}{lost}\n", drill.verdict.word());
    if drill.verdict == Verdict::Passed {
        return out;
    }
    let mut add = |text: String| out.push_str(&format!("{:<12}  {text}\n", ""));
    if !drill.reason.is_empty() {
        add(drill.reason.clone());
    }
    if drill.recovery.verdict.is_some_and(|v| v != Verdict::Passed) {
        add(format!("recovery failed: {}", drill.recovery.detail));
    }
    for hint in drill.hints.iter().chain(&drill.recovery.hints) {
        add(hint.line());
    }
    for check in drill.checks.iter().filter(|c| c.verdict != Verdict::Passed) {
        add(told_check(check));
        if let Some(first) = check.findings.first() {
            add(format!("  first: {}", one_line(first)));
        }
    }
    for control in drill.controls.iter().filter(|c| c.verdict != Verdict::Passed) {
        add(format!("control {} {}: {}", control.id, control.verdict, control.reason));
    }
    out
}
