//! What a schema says once for all of its records: which field is which column, and what the fields of an envelope are.

use super::event::{Meta, Op, op_of};
use crate::decode::{repr::Raw, settings::Unwrap};

/// The order in which a row record's fields go into columns, and how they are expressed.
#[derive(Debug)]
pub(super) struct RowPlan {
    pub(super) columns: Vec<Option<usize>>,
    /// Whether the schema says how values are expressed. Where it does not, the connector's settings and the columns' types do.
    pub(super) named: bool,
}

/// What the fields of an envelope are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Before,
    After,
    Source,
    Op,
    MadeMs,
    MadeUs,
    MadeNs,
    Skip,
}

/// Fields of `source` that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourcePart {
    Lsn,
    Tx,
    Snapshot,
    Sequence,
    Skip,
}

#[derive(Debug)]
pub(super) struct EnvelopePlan {
    pub(super) parts: Vec<Part>,
    pub(super) source: Vec<SourcePart>,
    pub(super) row: RowPlan,
}

#[derive(Debug)]
pub(super) enum Plan {
    Envelope(EnvelopePlan),
    Unwrapped(RowPlan),
    Key(RowPlan),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Half {
    Key,
    Value,
}

/// Takes a field that the unwrapping transform adds by its settings. What a record did is read from these alone.
pub(super) fn set_added(unwrap: &Unwrap, name: &str, raw: &Raw<'_>, meta: &mut Meta) {
    let is = |field: &Option<String>| field.as_deref() == Some(name);
    match raw {
        Raw::Str("true") if is(&unwrap.deleted) => meta.op = Op::Delete,
        Raw::Str(text) if is(&unwrap.op) && meta.op != Op::Delete => meta.op = op_of(text),
        Raw::Int(_) if is(&unwrap.lsn) => set_source(meta, SourcePart::Lsn, raw),
        Raw::Int(_) if is(&unwrap.tx) => set_source(meta, SourcePart::Tx, raw),
        Raw::Str(_) if is(&unwrap.snapshot) => set_source(meta, SourcePart::Snapshot, raw),
        _ => {}
    }
    if meta.op == Op::Read {
        meta.snapshot = true;
    }
}

pub(super) fn set_source(meta: &mut Meta, part: SourcePart, raw: &Raw<'_>) {
    match (part, raw) {
        (SourcePart::Lsn, Raw::Int(lsn)) => meta.lsn = Some(*lsn as u64),
        (SourcePart::Tx, Raw::Int(tx)) => meta.tx = Some(*tx as u64),
        (SourcePart::Snapshot, Raw::Str(text)) => meta.snapshot = !matches!(*text, "false" | ""),
        (SourcePart::Snapshot, Raw::Bool(truth)) => meta.snapshot = *truth,
        (SourcePart::Sequence, Raw::Str(text)) => {
            // `["31665016","31665088"]`: the end of the last commit, and the event's own position; either may be null.
            let mut numbers = text.split(',').map(|number| number.trim_matches(['[', ']', '"', ' ']).parse().ok());
            meta.commit = numbers.next().flatten();
            meta.reached = numbers.next().flatten();
        }
        _ => {}
    }
}

pub(super) fn set_made(meta: &mut Meta, part: Part, time: i64) {
    let factor = match part {
        Part::MadeMs => 1_000_000,
        Part::MadeUs => 1000,
        _ => 1,
    };
    let made = time.saturating_mul(factor);
    // The finest of the three is the largest.
    meta.made_ns = meta.made_ns.max(made);
}
