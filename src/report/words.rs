//! Words and signs that several renderers share.

use crate::{event::Finding, units::Verdict};

/// A number with its noun.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
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
