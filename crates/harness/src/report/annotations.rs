//! What is not green, as GitHub and GitLab show it beside a pipeline: pure functions over a report. What a text names goes through them
//! whole, and none of it can be read as a command, a property or markup: rows, names and errors come from elsewhere.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    error::ReportError,
    model::{DrillReport, RunReport},
    words::{compared, findings, one_line},
};
use cdc_model::{
    event::CheckReport,
    units::{Verdict, hex},
};

/// Who reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationFormat {
    /// Workflow commands: `::error title=…::…`, a line each.
    Github,
    /// A code quality report: a JSON list.
    Gitlab,
}

/// One thing that is not green.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remark {
    /// The drill, or the run.
    place: String,
    /// `check:state`, `objective:rto`, `control:without-fence`, `drill` or `run`.
    name: String,
    verdict: Verdict,
    text: String,
}

/// The report's annotations. A green report has none; GitLab's list is then empty.
pub fn annotations(report: &RunReport, format: AnnotationFormat) -> Result<String, ReportError> {
    let remarks = remarks(report);
    match format {
        AnnotationFormat::Github => Ok(remarks.iter().map(github).collect()),
        AnnotationFormat::Gitlab => {
            let issues: Vec<Issue<'_>> = remarks.iter().map(gitlab).collect();
            let text = serde_json::to_string_pretty(&issues);
            let format = |e: serde_json::Error| ReportError::Format { what: "annotations", message: e.to_string() };
            Ok(text.map_err(format)? + "\n")
        }
    }
}

fn remarks(report: &RunReport) -> Vec<Remark> {
    let mut all: Vec<Remark> = report.drills.iter().flat_map(of_drill).collect();
    // What no drill shows must not leave a green page.
    if report.verdict != Verdict::Passed && (all.is_empty() || !report.complete) {
        let (name, text) = ("run".to_owned(), report.reason.clone());
        all.push(Remark { place: "cdc-drill".to_owned(), name, verdict: report.verdict, text });
    }
    // A forge shows the first few of a step alone.
    all.sort_by_key(|remark| remark.verdict != Verdict::Failed);
    for remark in &mut all {
        remark.text = without_secrets(&remark.text).into_owned();
    }
    all
}

fn of_drill(drill: &DrillReport) -> Vec<Remark> {
    let place = drill.name();
    let of = |name: String, verdict, text| Remark { place: place.clone(), name, verdict, text };
    let mut all = Vec::new();
    for check in drill.checks.iter().filter(|check| check.verdict != Verdict::Passed) {
        all.push(of(format!("check:{}", check.id), check.verdict, of_check(check)));
    }
    for objective in drill.objectives.iter().filter(|objective| objective.verdict != Verdict::Passed) {
        let name = format!("objective:{}", objective.objective.word());
        all.push(of(name, objective.verdict, objective.to_string()));
    }
    for control in drill.controls.iter().filter(|control| control.verdict != Verdict::Passed) {
        all.push(of(format!("control:{}", control.id), control.verdict, control.reason.clone()));
    }
    let shown = all.iter().fold(Verdict::Passed, |verdict, remark| verdict.and(remark.verdict));
    if shown != drill.verdict {
        let hints = drill.hints.iter().chain(&drill.recovery.hints).map(|hint| hint.line());
        let lines: Vec<String> = std::iter::once(drill.reason.clone()).chain(hints).collect();
        all.push(of("drill".to_owned(), drill.verdict, lines.join("\n")));
    }
    all
}

fn of_check(check: &CheckReport) -> String {
    if check.verdict == Verdict::Inconclusive {
        return check.why_inconclusive();
    }
    let first = check.findings.first().map(|finding| format!("; first: {}", one_line(finding))).unwrap_or_default();
    format!("{} among {}{first}", findings(check), compared(check))
}

/// Passwords in addresses and in settings. Reports have none; an annotation is public.
fn without_secrets(text: &str) -> Cow<'_, str> {
    static IN_ADDRESS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s"'<>]*@"#).ok());
    static IN_SETTING: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?i)\b([\w.-]*(?:password|passwd|secret|token|access_key)[\w.-]*"?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&]+)"#).ok()
    });
    let (Some(address), Some(setting)) = (&*IN_ADDRESS, &*IN_SETTING) else { return Cow::Borrowed("") };
    match address.is_match(text) || setting.is_match(text) {
        false => Cow::Borrowed(text),
        true => {
            let text = address.replace_all(text, "$1:[redacted]@");
            Cow::Owned(setting.replace_all(&text, "$1[redacted]").into_owned())
        }
    }
}

/// Other control characters than line ends, which have an escape of their own.
fn printable(text: &str) -> String {
    let is_told = |c: char| !c.is_control() || matches!(c, '\n' | '\r');
    text.chars().map(|c| if is_told(c) { c } else { '\u{fffd}' }).collect()
}

/// The text of a workflow command (`escapeData` of GitHub's toolkit).
fn data(text: &str) -> String {
    printable(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command (`escapeProperty`).
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn github(remark: &Remark) -> String {
    let command = if remark.verdict == Verdict::Inconclusive { "warning" } else { "error" };
    let title = format!("{} {}: {}", remark.place, remark.name, remark.verdict);
    format!("::{command} title={}::{}\n", property(&title), data(&remark.text))
}

/// An issue of a code quality report, with the fields that GitLab requires.
#[derive(Serialize)]
struct Issue<'a> {
    description: String,
    check_name: &'a str,
    /// The same for the same trouble in every run: so a merge request shows what is new.
    fingerprint: String,
    severity: &'static str,
    location: Location<'a>,
}

#[derive(Serialize)]
struct Location<'a> {
    /// The drill: an issue has to have a place.
    path: &'a str,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: u32,
}

fn gitlab(remark: &Remark) -> Issue<'_> {
    let mut hash = Sha256::new();
    for part in [&remark.place, &remark.name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Issue {
        description: printable(&format!("{} {}: {}", remark.name, remark.verdict, remark.text)),
        check_name: &remark.name,
        fingerprint: hex(&hash.finalize()),
        severity: if remark.verdict == Verdict::Inconclusive { "major" } else { "critical" },
        location: Location { path: &remark.place, lines: Lines { begin: 1 } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fold;
    use cdc_model::{
        event::{Event, Finding, FindingKind, Objective, ObjectiveReport, What},
        units::{DrillId, Exit, RunId},
    };
    use serde_json::Value;

    fn of(what: Vec<What>, exit: Exit, verdict: Verdict, reason: &str) -> RunReport {
        let drill = DrillId::new("shop/emptied");
        let run = |what| Event { at_ms: 0, drill: None, what };
        let mut events = vec![run(What::RunStarted {
            format: 2,
            run: RunId::new("r"),
            seed: 1,
            replay: String::new(),
            machine: String::new(),
            drills: vec![drill.clone()],
        })];
        let finished =
            What::DrillFinished { verdict, exit_code: exit.code(), reason: reason.into(), hints: Vec::new() };
        let of_drill = what.into_iter().chain([finished]);
        events.extend(of_drill.map(|what| Event { at_ms: 1, drill: Some(drill.clone()), what }));
        events.push(run(What::RunFinished { verdict, exit_code: exit.code() }));
        fold(&events)
    }

    fn check(found: &str) -> What {
        let finding = Finding { found: Some(found.into()), ..Finding::new(FindingKind::Different) };
        What::Check(CheckReport::new("state", 9, Vec::new(), vec![finding]))
    }

    fn github_of(report: &RunReport) -> String {
        annotations(report, AnnotationFormat::Github).unwrap()
    }

    fn gitlab_of(report: &RunReport) -> Vec<Value> {
        serde_json::from_str(&annotations(report, AnnotationFormat::Gitlab).unwrap()).unwrap()
    }

    #[test]
    fn green_has_nothing_to_say() {
        let report = of(
            vec![What::Check(CheckReport::new("state", 9, Vec::new(), Vec::new()))],
            Exit::Passed,
            Verdict::Passed,
            "",
        );
        assert_eq!(report.verdict, Verdict::Passed);
        assert_eq!(github_of(&report), "");
        assert_eq!(gitlab_of(&report), Vec::<Value>::new());
    }

    #[test]
    fn a_text_from_elsewhere_is_a_text() {
        let hostile = "a\r\n::set-env name=PATH::/tmp\n::error::100%0A, \u{1b}[31m\u{85}::stop-commands::x\u{0}";
        let report = of(vec![check(hostile)], Exit::CheckFailed, Verdict::Failed, hostile);
        let text = github_of(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].starts_with("::error title=shop/emptied check%3Astate%3A failed::1 finding"), "{text}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{85}', '\u{0}']), "{text:?}");
        assert!(text.contains("%0D%0A::set-env") && text.contains("100%250A"), "{text}");
        let issues = gitlab_of(&report);
        let description = issues[0]["description"].as_str().unwrap();
        assert!(description.contains("::set-env name=PATH") && !description.contains('\u{1b}'), "{description}");
    }

    #[test]
    fn properties_end_neither_early_nor_in_another() {
        assert_eq!(property("a:b,c=d%\r\n"), "a%3Ab%2Cc=d%25%0D%0A");
        assert_eq!(data("a:b,c %0A\n"), "a:b,c %250A%0A");
    }

    #[test]
    fn a_password_is_not_annotated() {
        let found = "connect to postgres://drill:hunter2@db/x failed; sasl.password=hunter3, \"token\": \"hunter 4\"";
        let report = of(vec![check(found)], Exit::CheckFailed, Verdict::Failed, "");
        for text in [github_of(&report), annotations(&report, AnnotationFormat::Gitlab).unwrap()] {
            assert!(!text.contains("hunter") && text.contains("drill:[redacted]@db/x"), "{text}");
        }
        let plain = "no row of table tokens at 10:15 in s3://b/c";
        assert_eq!(without_secrets(plain), plain);
    }

    #[test]
    fn everything_that_is_not_green_is_there_and_failures_come_first() {
        let objective = ObjectiveReport::of(Objective::Rpo, 5.0, Err("nobody counted".into()));
        let report = of(vec![What::Objective(objective), check("x")], Exit::CheckFailed, Verdict::Failed, "both");
        let text = github_of(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("::error ") && lines[1].starts_with("::warning "), "{text}");
        assert!(lines[1].contains("not measured, the objective is 5 s: nobody counted"), "{text}");
        let issues = gitlab_of(&report);
        assert_eq!(issues[0]["severity"], "critical");
        assert_ne!(issues[0]["fingerprint"], issues[1]["fingerprint"]);
        // The same trouble of another row is the same issue.
        let other = of(vec![check("y")], Exit::CheckFailed, Verdict::Failed, "both");
        assert_eq!(gitlab_of(&other)[0]["fingerprint"], issues[0]["fingerprint"]);
    }

    #[test]
    fn what_no_check_shows_is_shown_all_the_same() {
        let report = of(Vec::new(), Exit::RecoveryFailed, Verdict::Failed, "the slot is gone");
        assert!(github_of(&report).contains("drill%3A failed::the slot is gone"), "{}", github_of(&report));
        assert!(github_of(&fold(&[])).starts_with("::warning title=cdc-drill run"), "{}", github_of(&fold(&[])));
    }
}
