//! Words and signs that several renderers share.

use cdc_model::{
    event::{CheckReport, Finding, Loaded},
    units::{Verdict, counted},
};

/// When a pipeline was whole again, in seconds from the recovery's start; `None` where it was not.
pub(super) fn regained(rto_seconds: Option<f64>) -> String {
    match rto_seconds {
        Some(seconds) => format!("whole again after {seconds:.1} s"),
        None => "not recovered".into(),
    }
}

/// How many transactions a drill lost.
pub(super) fn lost(transactions: u64) -> String {
    format!("{} lost", counted(transactions, "transaction"))
}

/// How much a check compared: `80 compared`.
pub(super) fn compared(check: &CheckReport) -> String {
    format!("{} compared", check.compared)
}

/// How many findings a check has: `1 finding`.
pub(super) fn findings(check: &CheckReport) -> String {
    counted(check.findings_total, "finding")
}

/// What a step did: `recovery point P of 9 bytes; meanwhile 80 transactions: 77 acknowledged (349 rows), 3 rolled back`.
pub(super) fn outcome(detail: &str, load: Option<&Loaded>) -> String {
    match (detail, load) {
        (detail, None) => detail.to_owned(),
        ("", Some(load)) => loaded(load),
        (detail, Some(load)) => format!("{detail}; meanwhile {}", loaded(load)),
    }
}

fn loaded(load: &Loaded) -> String {
    let counts = match load {
        Loaded::Pgbench { processed, failed } => {
            return format!("{} processed, {failed} failed", counted(*processed, "transaction"));
        }
        Loaded::Command { asked, committed } => {
            return format!("{}: {committed} committed", counted(*asked, "transaction"));
        }
        Loaded::Writers(counts) => counts,
    };
    let mut text = format!(
        "{}: {} acknowledged ({}), {} rolled back",
        counted(counts.attempted, "transaction"),
        counts.acknowledged,
        counted(counts.rows, "row"),
        counts.rolled_back
    );
    for (count, what) in [(counts.failed, "failed"), (counts.unknown, "of unknown outcome")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if counts.refused > 0 {
        text.push_str(&format!(", {} refused", counted(counts.refused, "connection")));
    }
    if let Some(error) = &counts.first_error {
        text.push_str(&format!("; first error: {error}"));
    }
    text
}

/// A sign beside the colour: colour never carries meaning alone.
pub(super) fn sign(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "✓",
        Verdict::Failed => "✗",
        Verdict::Inconclusive => "?",
    }
}

/// Text inside of markup, attributes included.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A finding on one line, only what is known of it: what, where, and the two values.
pub(super) fn one_line(finding: &Finding) -> String {
    let offset = |partition| finding.offset.map_or(format!("{partition}"), |offset| format!("{partition} at {offset}"));
    let topic = finding.topic.as_ref().map(|topic| match finding.partition {
        Some(partition) => format!("topic {topic}-{}", offset(partition)),
        None => format!("topic {topic}"),
    });
    let about: Vec<String> = [
        finding.table.as_ref().map(|table| format!("table {table}")),
        finding.key.as_ref().map(|key| format!("key {key}")),
        finding.token.as_ref().map(|token| format!("token {token}")),
        topic,
        finding.lsn.map(|lsn| format!("LSN {lsn}")),
        finding.subject.as_ref().map(|subject| format!("subject {subject}")),
        finding.schema_id.map(|id| format!("schema id {id}")),
        finding.expected.as_ref().map(|value| format!("expected {value}")),
        finding.found.as_ref().map(|value| format!("found {value}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    match about.is_empty() {
        true => finding.kind.word().to_owned(),
        false => format!("{}: {}", finding.kind.word(), about.join(", ")),
    }
}
