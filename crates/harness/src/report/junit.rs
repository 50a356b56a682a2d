//! `junit.xml`: a suite for each variant, a case for each check and each control, the evidence in the failure's text.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{
    error::ReportError,
    model::{ControlResult, DrillReport, RunReport},
    words::{compared, findings, one_line},
};
use cdc_model::{
    event::{CheckReport, Finding, FindingKind, ObjectiveReport, difference},
    units::{Hint, Verdict, with_hints},
};

/// The report as JUnit XML.
pub fn junit(report: &RunReport) -> Result<String, ReportError> {
    let mut all = Report::new("cdc-drill");
    all.set_time(duration(report.seconds));
    for drill in &report.drills {
        all.add_test_suite(suite(report, drill));
    }
    if report.drills.is_empty() || !report.complete {
        let mut run = TestSuite::new("run");
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(report.reason.as_str()).set_type(report.verdict.word());
        run.add_test_case(TestCase::new("run", status));
        all.add_test_suite(run);
    }
    all.to_string().map_err(|e| ReportError::Format { what: "junit.xml", message: e.to_string() })
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

fn suite(report: &RunReport, drill: &DrillReport) -> TestSuite {
    let name = drill.name();
    let mut suite = TestSuite::new(name.as_str());
    suite.set_time(duration(drill.seconds));
    suite.add_property(("seed", report.seed.to_string().as_str()));
    suite.add_property(("replay", report.replay.as_str()));
    suite.add_property(("verdict", drill.verdict.word()));
    if let Some(seconds) = drill.recovery.rto_seconds {
        suite.add_property(("rto_seconds", format!("{seconds:.3}").as_str()));
    }
    for (part, seconds) in drill.recovery.downtime.unwrap_or_default().parts() {
        suite.add_property((format!("{part}_downtime_seconds").as_str(), format!("{seconds:.3}").as_str()));
    }
    for check in &drill.checks {
        suite.add_test_case(check_case(&name, check));
    }
    for objective in &drill.objectives {
        suite.add_test_case(objective_case(&name, objective));
    }
    for control in &drill.controls {
        suite.add_test_case(control_case(&name, control));
    }
    // What no check or control shows, a recovery that failed for instance, must not leave a green suite.
    let shown = drill.checks.iter().map(|c| c.verdict).chain(drill.controls.iter().map(|c| c.verdict));
    let shown = shown.chain(drill.objectives.iter().map(|o| o.verdict));
    if drill.verdict != Verdict::Passed && shown.fold(Verdict::Passed, Verdict::and) != drill.verdict {
        let hints: Vec<Hint> = drill.hints.iter().chain(&drill.recovery.hints).cloned().collect();
        let text = with_hints(&drill.recovery.detail, &hints);
        let mut case = TestCase::new("drill", status(drill.verdict, &drill.reason, drill.verdict.word(), &text));
        case.set_classname(name.as_str());
        suite.add_test_case(case);
    }
    suite
}

fn check_case(suite: &str, check: &CheckReport) -> TestCase {
    let kinds: Vec<&str> = kinds(&check.findings);
    let message = match check.verdict {
        Verdict::Inconclusive => check.notes.join("; "),
        _ => format!("{} among {}: {}", findings(check), compared(check), kinds.join(", ")),
    };
    let mut case = TestCase::new(
        format!("check:{}", check.id),
        status(check.verdict, &message, &kinds.join(","), &evidence(check)),
    );
    case.set_classname(suite);
    case
}

fn objective_case(suite: &str, objective: &ObjectiveReport) -> TestCase {
    let status = status(objective.verdict, &objective.to_string(), "objective", "");
    let mut case = TestCase::new(format!("objective:{}", objective.objective.word()), status);
    case.set_classname(suite);
    case
}

fn control_case(suite: &str, control: &ControlResult) -> TestCase {
    let expected = match control.kind {
        FindingKind::RecoveryRefused => "the recovery must refuse".into(),
        kind => format!("{} must find {}", control.check, kind.word()),
    };
    let confirmation = control.confirmation.as_ref().map(ToString::to_string).unwrap_or_default();
    let difference = difference(&control.without, control.instead.as_deref());
    let mut text = format!("{difference}: expected that {expected}\n{confirmation}\n");
    for check in control.checks.iter().filter(|c| c.verdict != Verdict::Passed) {
        text.push_str(&format!("{}: {}\n", check.id, evidence(check)));
    }
    let mut case = TestCase::new(
        format!("control:{}", control.id),
        status(control.verdict, &control.reason, "control", text.trim()),
    );
    case.set_classname(suite).set_time(duration(control.seconds));
    case
}

fn status(verdict: Verdict, message: &str, kind: &str, text: &str) -> TestCaseStatus {
    let mut status = match verdict {
        Verdict::Passed => return TestCaseStatus::success(),
        Verdict::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_message(message).set_type(kind);
    if !text.is_empty() {
        status.set_description(text);
    }
    status
}

fn kinds(findings: &[Finding]) -> Vec<&'static str> {
    let mut kinds: Vec<_> = findings.iter().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(|k| k.word()).collect()
}

fn evidence(check: &CheckReport) -> String {
    let mut lines: Vec<String> = check.findings.iter().map(one_line).collect();
    let more = check.findings_total.saturating_sub(check.findings.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.extend(check.notes.iter().cloned());
    lines.join("\n")
}
