//! `report.html`: one page that stands alone: no script, no font, no image from elsewhere; light and dark.

use askama::Template;

use super::{
    error::ReportError,
    model::{ControlResult, DrillReport, RecoveryReport, RunReport, SpeedReport},
    waterfall, words,
};
use cdc_model::{
    event::{CheckReport, Downtime, Finding, Landed, StepResult},
    units::{Verdict, counted},
};

/// The report as a page.
pub fn html(report: &RunReport) -> Result<String, ReportError> {
    Page { r: report }.render().map_err(|e| ReportError::Format { what: "report.html", message: e.to_string() })
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    r: &'a RunReport,
}

impl Page<'_> {
    fn sign(&self, verdict: &Verdict) -> &'static str {
        words::sign(verdict)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.r.drills.iter().filter(|d| d.verdict == verdict).count()
    }

    fn controls(&self) -> (usize, usize) {
        let all = || self.r.drills.iter().flat_map(|d| &d.controls);
        (all().filter(|c| c.verdict == Verdict::Passed).count(), all().count())
    }

    fn controls_of(&self, drill: &DrillReport) -> String {
        match drill.controls.len() {
            0 => "none".into(),
            all => format!(
                "{} of {all} red as named",
                drill.controls.iter().filter(|c| c.verdict == Verdict::Passed).count()
            ),
        }
    }

    fn rto(&self, recovery: &RecoveryReport) -> String {
        let reached = match (&recovery.playbook, recovery.rto_seconds) {
            (_, Some(seconds)) => format!("{seconds:.1} s"),
            (Some(_), None) => "not reached".into(),
            (None, None) => "no recovery".into(),
        };
        match (recovery.rto_objective_seconds, recovery.rto_reference_seconds) {
            (Some(objective), _) => format!("{reached} (objective {objective:.0} s)"),
            (None, Some(reference)) => format!("{reached} ({})", self.reference(reference, recovery.rto_seconds)),
            (None, None) => reached,
        }
    }

    /// How long what clients use was down, part by part, with the objectives.
    fn downtime(&self, recovery: &RecoveryReport) -> String {
        let Some(downtime) = recovery.downtime else { return "not measured".into() };
        let limit = |limits: Option<Downtime>, part: &str| {
            limits.and_then(|limits| limits.parts().find(|(name, _)| *name == part).map(|(_, seconds)| seconds))
        };
        let told = downtime.parts().map(|(part, seconds)| {
            let reached = format!("{part} {seconds:.1} s");
            match (limit(recovery.downtime_objective, part), limit(recovery.downtime_reference, part)) {
                (Some(objective), _) => format!("{reached} (objective {objective:.0} s)"),
                (None, Some(reference)) => format!("{reached} ({})", self.reference(reference, Some(seconds))),
                (None, None) => reached,
            }
        });
        told.collect::<Vec<_>>().join(", ")
    }

    fn downtime_missed(&self, recovery: &RecoveryReport) -> bool {
        let limits = recovery.downtime_objective.unwrap_or_default();
        recovery.downtime.is_some_and(|downtime| downtime.longer_than(limits).next().is_some())
    }

    /// A reference time at this machine's speed, and whether the recovery took longer, which fails nothing.
    fn reference(&self, reference: f64, took: Option<f64>) -> String {
        let scale = self.r.speed.as_ref().map_or(1.0, |speed| speed.scale);
        let here = reference * scale;
        let slower = if took.is_some_and(|took| took > here) { "slower than the " } else { "" };
        match scale > 1.0 {
            true => format!("{slower}reference {reference:.0} s, {here:.0} s at this machine's speed"),
            false => format!("{slower}reference {reference:.0} s"),
        }
    }

    fn speed(&self, speed: &SpeedReport) -> String {
        let measured = &speed.measured;
        let slowest =
            speed.slowest.map(|worst| format!("; at worst a core took {worst:.1} times as long")).unwrap_or_default();
        format!(
            "{}, a core takes {:.2} times as long as the reference machine ({}), all do {:.2} of its work; safety nets and reference times times {:.1}{slowest}",
            counted(measured.cores, "core"),
            measured.slowness,
            speed.reference,
            measured.capacity,
            speed.scale
        )
    }

    fn rto_missed(&self, recovery: &RecoveryReport) -> bool {
        matches!((recovery.rto_seconds, recovery.rto_objective_seconds), (Some(s), Some(o)) if s > o)
    }

    fn rpo(&self, drill: &DrillReport) -> String {
        let reached = match drill.rpo.measured {
            true => counted(drill.rpo.lost.transactions, "transaction"),
            false => "not measured".into(),
        };
        match drill.rpo.objective_transactions {
            Some(objective) => format!("{reached} (objective {objective})"),
            None => reached,
        }
    }

    fn rpo_missed(&self, drill: &DrillReport) -> bool {
        drill.rpo.objective_transactions.is_some_and(|o| drill.rpo.lost.transactions > o)
    }

    fn landed(&self, landed: &Landed) -> &'static str {
        match landed {
            Landed::Confirmed => "landed",
            Landed::Mismatch => "something else was seen",
            Landed::Inconclusive => "not seen to land",
        }
    }

    fn waterfall(&self, recovery: &RecoveryReport, drill: &usize, part: &str) -> String {
        waterfall::svg(recovery, &format!("w{drill}{part}"))
    }

    fn result(&self, result: &StepResult) -> &'static str {
        waterfall::result_word(*result)
    }

    fn place(&self, finding: &Finding) -> String {
        let topic = finding.topic.as_ref().map(|topic| match (finding.partition, finding.offset) {
            (Some(p), Some(o)) => format!("{topic}-{p} at {o}"),
            (Some(p), None) => format!("{topic}-{p}"),
            _ => topic.clone(),
        });
        let lsn = finding.lsn.map(|l| l.to_string());
        let id = finding.schema_id.map(|i| format!("schema id {i}"));
        let all: Vec<String> =
            [finding.subject.as_ref().map(ToString::to_string), topic, lsn, id].into_iter().flatten().collect();
        all.join(", ")
    }

    fn what(&self, finding: &Finding) -> String {
        let table = finding.table.as_ref().map(ToString::to_string);
        let all: Vec<String> = [table, finding.key.as_ref().map(ToString::to_string)].into_iter().flatten().collect();
        all.join(" ")
    }

    fn text<'f>(&self, value: &'f Option<String>) -> &'f str {
        value.as_deref().unwrap_or_default()
    }

    fn more(&self, check: &CheckReport) -> u64 {
        check.findings_total.saturating_sub(check.findings.len() as u64)
    }

    fn expectation(&self, control: &ControlResult) -> String {
        let silent = if control.silent { ", while all say RUNNING" } else { "" };
        match control.check.as_str() {
            "recovery" => "the recovery itself must refuse".into(),
            check => format!("{check} must find {}{silent}", control.kind.word()),
        }
    }

    fn mib(&self, bytes: &u64) -> u64 {
        bytes >> 20
    }
}
