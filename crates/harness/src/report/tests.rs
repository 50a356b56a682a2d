//! Reports as wholes, made from `fixtures/reports/events.jsonl`, which has every kind of event: a drill that passed with
//! its controls, one that failed in several ways, and one that was cut short.

use camino::Utf8Path;

use super::{Folder, Terminal, fold, html, junit, read_events, redact_json, verdict_text, write_reports};
use crate::report::RunReport;
use cdc_model::{
    event::{Event, What},
    units::{DrillId, Failure, Verdict},
};

fn fixture() -> Vec<Event> {
    read_events(Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/reports")))
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_json_report() {
    let report = serde_json::to_value(fold(&fixture())).unwrap();
    insta::assert_snapshot!("report.json", serde_json::to_string_pretty(&redact_json(&report)).unwrap());
}

#[test]
fn the_junit_report() {
    insta::assert_snapshot!("junit.xml", junit(&fold(&fixture())).unwrap());
}

#[test]
fn the_html_report() {
    let page = html(&fold(&fixture())).unwrap();
    for outside in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page stands alone, yet has {outside}");
    }
    assert!(!page.contains("<b>&"), "what comes from outside is escaped");
    insta::assert_snapshot!("report.html", page);
}

#[test]
fn the_verdict_for_a_person() {
    insta::assert_snapshot!("verdict.txt", verdict_text(&fold(&fixture())));
}

#[test]
fn the_lines_of_a_run() {
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let shared = Shared::default();
    let mut terminal = Terminal::lines(Box::new(shared.clone()));
    fixture().iter().for_each(|e| terminal.add(e));
    insta::assert_snapshot!("lines.txt", String::from_utf8(shared.0.lock().unwrap().clone()).unwrap());
}

#[test]
fn an_older_run_has_no_downtime_and_says_so() {
    let report = fold(&fixture());
    let [new, old] = ["logical-disaster", "dropped-no-data"]
        .map(|variant| report.drills.iter().find(|d| d.variant == variant).map(|d| d.recovery.clone()).unwrap());
    assert!(new.rto_seconds.is_some() && old.rto_seconds.is_some());
    assert_eq!(new.downtime.map(|d| d.to_string()).unwrap(), "the database for 3.2 s, the connectors for 6.5 s");
    assert_eq!(old.downtime, None);
    assert!(html(&report).unwrap().contains("<td>not measured</td>"));
    assert!(!verdict_text(&report).contains("dropped-no-data  whole again after 5.2 s, down"));
}

#[test]
fn every_report_can_be_read_back() {
    let report = fold(&fixture());
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<RunReport>(&text).unwrap(), report);
}

#[test]
fn a_run_cut_short_anywhere_is_never_green() {
    let events: Vec<Event> = fixture();
    let green: Vec<&Event> =
        events.iter().filter(|e| e.drill.as_ref().is_none_or(|d| d.as_str().starts_with("database"))).collect();
    let told = |e: &&Event| match &e.what {
        What::RunFinished { .. } => {
            Event { what: What::RunFinished { verdict: Verdict::Passed, exit_code: 0 }, ..(*e).clone() }
        }
        _ => (*e).clone(),
    };
    let green: Vec<Event> = green.iter().map(told).collect();
    let whole = fold(&green);
    assert_eq!((whole.verdict, whole.exit_code, whole.reason.as_str()), (Verdict::Passed, 0, ""));
    for cut in 0..green.len() {
        let report = fold(&green[..cut]);
        assert_eq!(
            (report.verdict, report.exit_code, report.complete),
            (Verdict::Inconclusive, 13, false),
            "after {cut} events"
        );
        assert!(!report.reason.is_empty());
        assert!(junit(&report).unwrap().contains("<error"), "after {cut} events");
    }
}

#[test]
fn a_drill_that_says_passed_does_not_hide_what_its_events_say() {
    let id = DrillId::new("s/v");
    let start = What::DrillStarted { scenario: "s".into(), variant: "v".into(), title: String::new(), control: None };
    let end = What::DrillFinished { verdict: Verdict::Passed, exit_code: 0, reason: String::new(), hints: Vec::new() };
    let event = |drill: Option<&DrillId>, what: What| Event { at_ms: 0, drill: drill.cloned(), what };
    let run = |middle: Vec<What>| {
        let mut events = vec![event(Some(&id), start.clone())];
        events.extend(middle.into_iter().map(|w| event(Some(&id), w)));
        events.push(event(Some(&id), end.clone()));
        events.push(event(None, What::RunFinished { verdict: Verdict::Passed, exit_code: 0 }));
        fold(&events)
    };
    let green = cdc_model::event::CheckReport::new("state", 1, vec![], vec![]);
    let vacuous = cdc_model::event::CheckReport::new("state", 0, vec![], vec![]);
    let blind = cdc_model::event::CheckReport::inconclusive("state", "disk full".into());
    assert_eq!(run(vec![What::Check(green)]).verdict, Verdict::Passed);
    assert_eq!(run(vec![]).verdict, Verdict::Inconclusive, "no check ran");
    let failed = run(vec![What::Check(vacuous)]);
    assert_eq!((failed.verdict, failed.exit_code), (Verdict::Failed, 10));
    let unsure = run(vec![What::Check(blind)]);
    assert_eq!((unsure.verdict, unsure.exit_code), (Verdict::Inconclusive, 13));
}

#[test]
fn a_check_that_found_something_undecided_did_look() {
    use cdc_model::event::{CheckReport, Finding, FindingKind};
    let said = |check: CheckReport| {
        let start =
            What::DrillStarted { scenario: "s".into(), variant: "v".into(), title: String::new(), control: None };
        let event = |what: What| Event { at_ms: 0, drill: Some(DrillId::new("s/v")), what };
        let text = verdict_text(&fold(&[event(start), event(What::Check(check))]));
        let line = text.lines().find(|line| line.contains("check state")).map(|line| line.trim().to_owned());
        line.unwrap_or_else(|| panic!("{text}"))
    };
    let blind = CheckReport::inconclusive("state", "disk full".into());
    assert_eq!(said(blind.clone()), "check state could not look: disk full");
    let partial = CheckReport { compared: 7, ..blind.clone() };
    assert_eq!(said(partial), "check state is undecided, with 7 compared: disk full");
    let found = CheckReport::new("state", 7, vec!["older scale".into()], vec![Finding::new(FindingKind::Different)]);
    let unsure = CheckReport { verdict: Verdict::Inconclusive, ..found };
    assert_eq!(said(unsure), "check state leaves 1 finding among 7 compared undecided: older scale");
}

#[test]
fn a_folder_keeps_events_and_makes_reports_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap().join("run");
    let mut folder = Folder::create(&dir).unwrap();
    let events = fixture();
    for event in &events {
        folder.add(event).unwrap();
    }
    let report = folder.finish().unwrap();
    Folder::create(&dir).expect_err("a folder that holds a run is not written over");
    let first = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert_eq!(RunReport::try_from(dir.as_path()).unwrap(), report);
    std::fs::remove_file(dir.join("report.html")).unwrap();
    write_reports(&dir, &RunReport::try_from(dir.as_path()).unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("report.html")).unwrap(), first);

    // A kill in the middle of a line.
    let path = dir.join("events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 20]).unwrap();
    assert!(!RunReport::try_from(dir.as_path()).unwrap().complete);
    std::fs::write(&path, format!("nonsense\n{text}")).unwrap();
    let error = read_events(&dir).unwrap_err();
    assert_eq!(error.exit().code(), 3);
    assert!(error.to_string().contains("line 1"), "{error}");
    std::fs::write(&path, text.replacen("\"format\":1", "\"format\":3", 1)).unwrap();
    assert_eq!(read_events(&dir).unwrap_err().exit().code(), 33);
}

/// A run of the same events, kept as version 1 wrote it: only what was loaded has moved out of the words since.
#[test]
fn a_run_of_version_1_looks_the_same() {
    let of = |folder: &str| {
        let path = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder);
        let text = std::fs::read_to_string(path.join("events.jsonl")).unwrap();
        let format = text.lines().next().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        (format.unwrap()["what"]["run-started"]["format"].as_u64().unwrap(), fold(&read_events(&path).unwrap()))
    };
    let ((old_format, old), (new_format, new)) = (of("fixtures/reports/version-1"), of("reports/sample"));
    assert_eq!((old_format, new_format), (1, 2));
    assert_eq!(html(&old).unwrap(), html(&new).unwrap());
    assert_eq!(junit(&old).unwrap(), junit(&new).unwrap());
    assert_eq!(verdict_text(&old), verdict_text(&new));
    let loaded = |report: &RunReport| report.drills[0].steps.iter().filter(|step| step.loaded.is_some()).count();
    assert_eq!((loaded(&old), loaded(&new)), (0, 4));
}

#[test]
fn what_a_person_can_do_stands_behind_the_reason() {
    let event = |what: What| Event { at_ms: 0, drill: Some(DrillId::new("s/v")), what };
    let start = What::DrillStarted { scenario: "s".into(), variant: "v".into(), title: String::new(), control: None };
    let hints = vec!["is it running?".into(), "ask its log".into()];
    let end = What::DrillFinished { verdict: Verdict::Inconclusive, exit_code: 13, reason: "no answer".into(), hints };
    let report = fold(&[event(start), event(end)]);
    let text = verdict_text(&report);
    let lines: Vec<&str> = text.lines().map(str::trim).skip_while(|line| *line != "no answer").take(3).collect();
    assert_eq!(lines, ["no answer", "hint: is it running?", "hint: ask its log"]);
    for page in [html(&report).unwrap(), junit(&report).unwrap()] {
        assert!(page.contains("hint: is it running?") && page.contains("hint: ask its log"), "{page}");
    }
}
