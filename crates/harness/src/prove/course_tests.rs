//! What a proof comes to, by what was compared and by what ended it.

use super::*;
use crate::stack::StackError;
use cdc_engine::backup::{Origin, ProofSize, Window};
use cdc_model::units::PointId;

fn evidence(checks: Vec<CheckReport>) -> Evidence {
    let window: Window = serde_json::from_value(
        serde_json::json!({"begin": "2026-11-22T02:00:00Z", "end": "2026-11-22T02:00:09Z", "clock": "server"}),
    )
    .unwrap();
    let step = |name: &str, recovers| ProofStep { name: name.into(), seconds: 2.0, recovers };
    Evidence {
        format: 1,
        proof: "20261123T020000Z-0001".into(),
        point: PointId::new("20261122T020000Z-7f3a"),
        repository: "/r".into(),
        manifest_sha256: "ab".into(),
        chain: None,
        pipeline: Origin::default(),
        taken: window,
        taken_by: "cdc-drill 0".into(),
        started: "2026-11-23T02:00:00Z".into(),
        ended: "2026-11-23T02:00:01Z".into(),
        by: "a@b".into(),
        machine: "one".into(),
        versions: Default::default(),
        files: Vec::new(),
        wal: Vec::new(),
        topic_records: Vec::new(),
        restored: None,
        steps: vec![step("restore-database", true), step("start-stack", false), step("re-snapshot", true)],
        rto_seconds: None,
        rpo_seconds: None,
        objectives: Vec::new(),
        size: ProofSize::default(),
        checks,
        not_compared: Vec::new(),
        notes: Vec::new(),
        verdict: Verdict::Inconclusive,
        exit_code: 13,
        reason: "it did not end".into(),
        signed_by: None,
    }
}

fn state(compared: u64) -> CheckReport {
    CheckReport::new("state", compared, Vec::new(), Vec::new())
}

fn judged_as(checks: Vec<CheckReport>, ended: Result<(), ProveError>) -> (Verdict, u8, Evidence) {
    let mut evidence = evidence(checks);
    judged(&mut evidence, ended, ObjectivesConfig::default());
    (evidence.verdict, evidence.exit_code, evidence)
}

#[test]
fn a_proof_is_green_when_rows_were_compared_and_nothing_differs() {
    let (verdict, exit, evidence) = judged_as(vec![state(200)], Ok(()));
    assert_eq!((verdict, exit, evidence.reason.as_str()), (Verdict::Passed, 0, ""));
    assert_eq!(evidence.rto_seconds, Some(4.0), "only what a recovery has too");
}

/// The point was begun a day before the proof, and its last commit is this much older than the proof.
fn promised(last_commit: Option<&str>, promised: &str, is_restored: bool) -> Evidence {
    let mut evidence = evidence(vec![state(200)]);
    evidence.restored = is_restored.then(|| Restored {
        ended_at: None,
        replayed: cdc_model::units::Timeline::FIRST,
        last_commit: None,
        last_commit_at: last_commit.map(|at| at.parse().unwrap()),
        fingerprints_at: Vec::new(),
    });
    let promised: ObjectivesConfig = serde_json::from_str(promised).unwrap();
    judged(&mut evidence, Ok(()), promised);
    evidence
}

#[test]
fn an_objective_is_kept_by_a_measurement_alone() {
    let recent = Some("2026-11-23T01:59:00Z");
    for (last, limits, restored, exit) in [
        (recent, "{}", true, 0),
        (recent, r#"{"rto": "4s", "rpo": "60s"}"#, true, 0),
        (recent, r#"{"rto": "3s"}"#, true, 12),
        (recent, r#"{"rpo": "59s"}"#, true, 12),
        // Without a commit since, all that is known is when the point was begun.
        (None, r#"{"rpo": "23h"}"#, true, 12),
        (None, r#"{"rpo": "1d"}"#, true, 0),
        // A commit that is older than the point says nothing against it.
        (Some("2026-11-01T00:00:00Z"), r#"{"rpo": "1d"}"#, true, 0),
        // Clocks that are seconds apart are clocks; a minute is another matter.
        (Some("2026-11-23T02:00:05Z"), r#"{"rpo": "0s"}"#, true, 0),
        (Some("2026-11-23T02:02:00Z"), r#"{"rpo": "1d"}"#, true, 13),
        (None, r#"{"rpo": "1d"}"#, false, 13),
    ] {
        let evidence = promised(last, limits, restored);
        assert_eq!(evidence.exit_code, exit, "{last:?} {limits}: {}", evidence.reason);
        assert_eq!(evidence.verdict == Verdict::Passed, exit == 0);
        assert_eq!(evidence.reason.is_empty(), exit == 0);
    }
    assert_eq!(promised(recent, "{}", true).rpo_seconds, Some(60.0), "measured, promised or not");
    // What did not come back keeps nothing, and what failed stays failed.
    let mut cut = evidence(vec![CheckReport::new(judge::WAL, 1, Vec::new(), vec![Finding::new(FindingKind::Lost)])]);
    cut.steps.clear();
    judged(&mut cut, Ok(()), serde_json::from_str(r#"{"rto": "1h", "rpo": "1h"}"#).unwrap());
    assert_eq!((cut.verdict, cut.exit_code), (Verdict::Failed, 10), "{}", cut.reason);
    assert!(cut.objectives.iter().all(|o| o.verdict == Verdict::Inconclusive && o.measured_seconds.is_none()));
}

#[test]
fn what_compared_no_row_is_never_green() {
    for checks in [Vec::new(), vec![CheckReport::new(judge::FILES, 9, Vec::new(), Vec::new())]] {
        let (verdict, exit, evidence) = judged_as(checks, Ok(()));
        assert_eq!((verdict, exit), (Verdict::Inconclusive, 13));
        assert!(evidence.reason.contains("no row was compared"), "{}", evidence.reason);
    }
    let undecided = CheckReport::inconclusive(judge::FINGERPRINTS, "no slot was free".into());
    assert_eq!(judged_as(vec![state(200), undecided], Ok(())).0, Verdict::Inconclusive);
}

#[test]
fn a_stack_that_did_not_come_up_is_not_a_point_that_failed() {
    let down = || StackError::Occupied { dir: "/s".into(), detail: "taken".into(), hint: String::new() };
    let (verdict, exit, evidence) = judged_as(Vec::new(), Err(down().into()));
    assert_eq!((verdict, exit), (Verdict::Inconclusive, 13));
    assert_eq!(evidence.rto_seconds, None);
    assert!(evidence.not_compared.iter().any(|left| left.what == "state" && left.why.contains("taken")));
    let late =
        StackError::DidNotStart { server: "kafka".into(), detail: "x".into(), log: "/l".into(), tail: String::new() };
    assert_eq!(judged_as(Vec::new(), Err(late.into())).1, Exit::StackDidNotStart.code());
    // One finding fails it, whatever ended it then.
    let lost = CheckReport::new(judge::WAL, 1, Vec::new(), vec![Finding::new(FindingKind::Lost)]);
    assert_eq!(judged_as(vec![lost], Err(down().into())).0, Verdict::Failed);
}

#[test]
fn damage_that_ends_a_restore_is_the_points() {
    let damage = BackupError::Incomplete { point: PointId::new("20261122T020000Z-7f3a"), what: "no base".into() };
    let (verdict, exit, _) = judged_as(Vec::new(), Err(damage.into()));
    assert_eq!((verdict, exit), (Verdict::Failed, Exit::BackupIncomplete.code()));
}

#[test]
fn each_check_is_compared_or_named() {
    let (_, _, evidence) = judged_as(vec![state(1)], Ok(()));
    for id in ["files", "wal", "topic-records", "connectors", "registry", "fingerprints", "schema-ids", "positions"] {
        assert!(evidence.not_compared.iter().any(|left| left.what == id), "{id}");
    }
}
