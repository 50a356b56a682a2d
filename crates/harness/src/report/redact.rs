//! One redactor for snapshots and for sample reports: what differs from run to run and says nothing is replaced by its
//! name. Counts of transactions, rows and findings are kept: they are what a snapshot is for.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// Patterns in the order in which they are replaced: the longer ones first, as an address contains a port.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let patterns = [
        // Paths before anything that may stand in one.
        (r#"(^|[\s"'=(`>])/(?:[\w.+-]+/)+[\w.+-]*"#, "$1[path]"),
        (r"\b\d{8}T\d{6}Z-[0-9a-z]+\b", "[run]"),
        (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}(?::?\d{2})?)?", "[time]"),
        (r"\b(127\.0\.0\.1|localhost|\[::1\]):\d+\b", "$1:[port]"),
        (r"\bport[ =]\d+\b", "port [port]"),
        // Five digits on the right at least: `3/3 topics` is a count.
        (r"\b[0-9A-F]{1,8}/[0-9A-F]{5,8}\b", "[lsn]"),
        (r"\b\d+(?:\.\d+)? ?(?:ms|s|seconds)\b", "[seconds]"),
        (r"\bpid \d+\b", "pid [pid]"),
        // Connector, slot, prefix and database of a drill: its place in the run depends on which drills are run.
        (r"\bdrill_[0-9a-z]{4}_\d+", "[drill]"),
        (r"\(id \d+\)", "(id [schema-id])"),
    ];
    patterns.into_iter().filter_map(|(pattern, with)| Some((Regex::new(pattern).ok()?, with))).collect()
});

/// Replaces ids of runs, drills and schemas, ports, times, seconds, LSNs, paths and pids in a text.
pub fn redact(text: &str) -> String {
    PATTERNS.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Fields of reports and events whose whole value goes.
fn replaced(field: &str) -> Option<&'static str> {
    Some(match field {
        "run" => "[run]",
        "token" => "[token]",
        "machine" => "[machine]",
        "at_ms" | "started" => "[time]",
        "lsn" => "[lsn]",
        "peak_pss_bytes" => "[bytes]",
        "offset" => "[offset]",
        "schema_id" => "[schema-id]",
        "seconds" | "rto_seconds" | "database_seconds" | "connectors_seconds" | "started_seconds" | "ready_seconds" => {
            "[seconds]"
        }
        _ => return None,
    })
}

/// Replaces the same in JSON: by the field's name, and in all texts. What is `null` stays so.
pub fn redact_json(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let new = match replaced(name) {
                    Some(mark) if !value.is_null() => Value::String(mark.to_owned()),
                    _ => redact_json(value),
                };
                (name.clone(), new)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(redact_json).collect()),
        Value::String(text) => Value::String(redact(text)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("run 20261122T201500Z-7f3a took 1.25 s", "run [run] took [seconds]")]
    #[case("redo done at 0/5000028, expected 16/B374D848", "redo done at [lsn], expected [lsn]")]
    #[case("postgres at 127.0.0.1:41233 (pid 77)", "postgres at 127.0.0.1:[port] (pid [pid])")]
    #[case("kept in /tmp/cdc-drill/x.y/pg", "kept in [path]")]
    #[case("at 2026-11-22T20:15:00.123Z", "at [time]")]
    #[case("topic drill_7f3a_12.public.orders is gone", "topic [drill].public.orders is gone")]
    #[case("orders-value version 2 (id 28)", "orders-value version 2 (id [schema-id])")]
    #[case(
        "500 transactions acknowledged, 12 rolled back, 3 findings",
        "500 transactions acknowledged, 12 rolled back, 3 findings"
    )]
    #[case("STOPPED, 0 tasks; 3/3 topics", "STOPPED, 0 tasks; 3/3 topics")]
    fn what_differs_goes_and_counts_stay(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(redact(text), expected);
    }

    #[test]
    fn every_pattern_is_good() {
        assert_eq!(PATTERNS.len(), 10);
    }
}
