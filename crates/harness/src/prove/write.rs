//! What a proof leaves: evidence, the reports that every run has, a signature, and a line of the history.

use camino::Utf8Path;

use super::{
    error::ProveError,
    evidence::Evidence,
    sign::{SIGNATURE, signed},
};
use crate::report::{RunReport, fold, html, junit};
use cdc_engine::backup::{EVIDENCE, Lock, Point, Proof, ProofFile, Repository};
use cdc_model::{
    event::{Event, FORMAT, Objective, StepReport, StepResult, What},
    units::{DrillId, Exit, RunId, Verdict, counted},
};

/// The playbook's name in the reports.
const PROVE: &str = "prove";

/// The evidence as the events of a run with one drill: so the reports of a run tell it too.
fn events(evidence: &Evidence) -> Result<Vec<Event>, ProveError> {
    let at = |text: &str| text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    let (began, ended) = (at(&evidence.started), at(&evidence.ended));
    let drill = DrillId::new(format!("{PROVE}/{}", evidence.point));
    let run = |at_ms, what| Event { at_ms, drill: None, what };
    let of = |at_ms, what| Event { at_ms, drill: Some(drill.clone()), what };
    let mut events = vec![
        run(
            began,
            What::RunStarted {
                format: FORMAT,
                run: RunId::new(evidence.proof.clone()),
                seed: 0,
                replay: format!("cdc-drill prove --repository {} --point {}", evidence.repository, evidence.point),
                machine: evidence.machine.clone(),
                drills: vec![drill.clone()],
            },
        ),
        of(
            began,
            What::DrillStarted {
                scenario: PROVE.to_owned(),
                variant: evidence.point.to_string(),
                title: format!("Recovery point {} is restored into a scratch stack and judged there", evidence.point),
                control: None,
            },
        ),
    ];
    let mut passed = 0.0;
    for step in &evidence.steps {
        let report = StepReport {
            name: step.name.clone(),
            destroys: Vec::new(),
            precondition: String::new(),
            started_seconds: passed,
            seconds: step.seconds,
            result: StepResult::Done,
            detail: if step.recovers { String::new() } else { "a recovery has no such step".to_owned() },
            hooks: Vec::new(),
        };
        passed += step.seconds;
        events.push(of(began + (passed * 1000.0) as i64, What::RecoveryStep(report)));
    }
    let restored = if evidence.rto_seconds.is_some() { Verdict::Passed } else { evidence.verdict };
    events.push(of(
        ended,
        What::RecoveryFinished {
            playbook: PROVE.to_owned(),
            rto_seconds: evidence.rto_seconds.unwrap_or(passed),
            downtime: None,
            verdict: restored,
            detail: if evidence.rto_seconds.is_some() { String::new() } else { evidence.reason.clone() },
            hints: Vec::new(),
        },
    ));
    events.extend(evidence.checks.iter().map(|check| of(ended, What::Check(check.clone()))));
    let limit = |wanted| evidence.objectives.iter().find(|of| of.objective == wanted).map(|of| of.limit_seconds);
    if let Some(rto_seconds) = limit(Objective::Rto) {
        events.push(of(
            began,
            What::Objectives {
                rto_seconds: Some(rto_seconds),
                rto_reference_seconds: None,
                downtime: None,
                downtime_reference: None,
                rpo_transactions: None,
            },
        ));
    }
    events.extend(evidence.objectives.iter().map(|objective| of(ended, What::Objective(objective.clone()))));
    let left_out = evidence.not_compared.iter().map(|left| format!("not compared: {}: {}", left.what, left.why));
    events.extend(evidence.notes.iter().cloned().chain(left_out).map(|text| of(ended, What::Note { text })));
    let (verdict, exit_code) = (evidence.verdict, evidence.exit_code);
    let reason = evidence.reason.clone();
    events.push(of(ended, What::DrillFinished { verdict, exit_code, reason, hints: Vec::new() }));
    events.push(run(ended, What::RunFinished { verdict, exit_code }));
    Ok(events)
}

/// The evidence as the report of a run with one drill.
pub fn report_of(evidence: &Evidence) -> Result<RunReport, ProveError> {
    Ok(fold(&events(evidence)?))
}

fn json(evidence: &Evidence) -> Result<Vec<u8>, ProveError> {
    let bytes = serde_json::to_vec_pretty(evidence);
    let bytes = bytes.map_err(|e| ProveError::Thread { what: "write the evidence", detail: e.to_string() })?;
    Ok([bytes, b"\n".to_vec()].concat())
}

/// Writes everything beside the point, and the line. Where a signature was to be made and is not, the evidence is not green and says so.
/// `folder` is for files of this process.
pub(super) fn written(
    repository: &Repository,
    point: &Point,
    lock: &Lock,
    mut evidence: Evidence,
    sign: &[String],
    folder: &Utf8Path,
) -> Result<(Evidence, Proof), ProveError> {
    evidence.signed_by = sign.first().cloned();
    let mut bytes = json(&evidence)?;
    let mut signature = None;
    if !sign.is_empty() {
        match signed(sign, folder, &bytes) {
            Ok(made) => signature = Some(made),
            Err(error) => {
                unsigned(&mut evidence, &error.to_string());
                bytes = json(&evidence)?;
            }
        }
    }
    let report = report_of(&evidence)?;
    let mut files: Vec<ProofFile> = vec![
        ("report.html".to_owned(), html(&report)?.into_bytes()),
        ("junit.xml".to_owned(), junit(&report)?.into_bytes()),
    ];
    files.extend(signature.clone().map(|bytes| (SIGNATURE.to_owned(), bytes)));
    files.push((EVIDENCE.to_owned(), bytes));
    repository.write_proof(point, &evidence.proof, &files, lock)?;
    let evidence_sha256 = repository.evidence_sha256(point, &evidence.proof)?.unwrap_or_default();
    let path = repository.proof_folder(point, &evidence.proof).join(EVIDENCE);
    let proof = Proof {
        id: evidence.proof.clone(),
        point: evidence.point.clone(),
        manifest: evidence.manifest_sha256.clone(),
        pipeline: evidence.pipeline.clone(),
        started: evidence.started.clone(),
        ended: evidence.ended.clone(),
        verdict: evidence.verdict,
        exit_code: evidence.exit_code,
        reason: evidence.reason.clone(),
        rto_seconds: evidence.rto_seconds,
        steps: evidence.steps.clone(),
        size: evidence.size,
        by: evidence.by.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        evidence: path.strip_prefix(repository.path()).unwrap_or(&path).to_string(),
        evidence_sha256,
        signed: signature.is_some(),
    };
    repository.note_proof(&proof)?;
    Ok((evidence, proof))
}

/// A signature that was asked for and could not be made: whatever was compared, nobody vouches for it.
fn unsigned(evidence: &mut Evidence, why: &str) {
    evidence.notes.push(format!("not signed: {why}"));
    evidence.signed_by = None;
    if evidence.verdict == Verdict::Passed {
        evidence.verdict = Verdict::Inconclusive;
        evidence.exit_code = Exit::Inconclusive.code();
        evidence.reason = format!("not signed: {why}");
    }
}

/// `3 checks passed: 812 compared`.
pub(super) fn in_words(evidence: &Evidence) -> String {
    let compared: u64 = evidence.checks.iter().map(|check| check.compared).sum();
    format!("{}, {compared} compared", counted(evidence.checks.len(), "check"))
}
