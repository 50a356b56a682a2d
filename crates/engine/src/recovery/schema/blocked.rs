//! Connectors that a refused change blocks, by the traces of their tasks.

use crate::recovery::pipeline::Source;

/// Sources whose failure is a refused schema.
pub(super) fn blocked(sources: &[Source]) -> Vec<&Source> {
    sources.iter().filter(|s| traces(s).any(is_refusal)).collect()
}

/// The converter passes on what the registry answered: Apicurio's own rule violation, or the status of Confluent's API.
fn is_refusal(trace: &str) -> bool {
    let trace = trace.to_lowercase();
    trace.contains("ruleviolation") || trace.contains("incompatible") || trace.contains("409")
}

pub(super) fn traces(source: &Source) -> impl Iterator<Item = &str> {
    source.status.tasks.iter().filter(|t| t.state == "FAILED").filter_map(|t| t.trace.as_deref())
}
