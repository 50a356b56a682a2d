//! What a check found.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Finding, FindingKind};
use crate::units::{TableName, Verdict, counted};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The check's id, as in the scenario language: `state`.
    pub id: String,
    /// Failed when there is a finding, or when nothing was compared.
    pub verdict: Verdict,
    /// How many rows, transactions, records or settings were compared.
    pub compared: u64,
    /// What `compared` counts, and what was left out and why.
    pub notes: Vec<String>,
    /// All findings, also those beyond the cap.
    pub findings_total: u64,
    /// The first findings, at most [`FINDINGS_MAX`] of each kind.
    pub findings: Vec<Finding>,
}

/// How many findings of one kind a report carries; the rest are counted.
pub const FINDINGS_MAX: usize = 20;

impl CheckReport {
    /// Folds findings into a report: red when there is one, or when nothing was compared.
    pub fn new(id: &str, compared: u64, notes: Vec<String>, all: Vec<Finding>) -> Self {
        let mut all = all;
        if compared == 0 && all.is_empty() {
            all.push(Finding {
                expected: Some("something to compare".into()),
                found: Some("nothing was compared".into()),
                ..Finding::new(FindingKind::Vacuous)
            });
        }
        let findings_total = all.len() as u64;
        let verdict = if findings_total == 0 { Verdict::Passed } else { Verdict::Failed };
        CheckReport { id: id.to_owned(), verdict, compared, notes, findings_total, findings: first_of_each(all) }
    }

    /// The same report with findings that are counted and not shown.
    #[must_use]
    pub fn with_more(self, uncounted: u64) -> Self {
        CheckReport { findings_total: self.findings_total + uncounted, ..self }
    }

    /// Why an inconclusive check has no verdict, to stand behind its id: it could not look, what it compared is not all there is,
    /// or what it found may be no fault.
    pub fn why_inconclusive(&self) -> String {
        let notes = self.notes.join("; ");
        match (self.compared, self.findings_total) {
            (0, 0) => format!("could not look: {notes}"),
            (compared, 0) => format!("is undecided, with {compared} compared: {notes}"),
            (compared, 1) => format!("leaves 1 finding among {compared} compared undecided: {notes}"),
            (compared, total) => format!(
                "leaves {total} among {compared} compared undecided: {notes}",
                total = counted(total, "finding")
            ),
        }
    }

    /// A check that could not look: a failure of the harness, not of the pipeline.
    pub fn inconclusive(id: &str, why: String) -> Self {
        CheckReport {
            id: id.to_owned(),
            verdict: Verdict::Inconclusive,
            compared: 0,
            notes: vec![why],
            findings_total: 0,
            findings: Vec::new(),
        }
    }
}

/// At most [`FINDINGS_MAX`] findings of each kind, in their order. Tables take turns: the many findings of one table do not
/// hide that another has some.
fn first_of_each(all: Vec<Finding>) -> Vec<Finding> {
    let mut of_table: HashMap<(FindingKind, Option<TableName>), usize> = HashMap::new();
    let mut turns: Vec<(usize, usize)> = Vec::with_capacity(all.len());
    for (place, finding) in all.iter().enumerate() {
        let earlier = of_table.entry((finding.kind, finding.table.clone())).or_default();
        turns.push((*earlier, place));
        *earlier += 1;
    }
    turns.sort_unstable();
    let mut of_kind: HashMap<FindingKind, usize> = HashMap::new();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (_, place) in turns {
        let count = of_kind.entry(all[place].kind).or_default();
        if *count < FINDINGS_MAX {
            *count += 1;
            kept.insert(place);
        }
    }
    all.into_iter().enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, finding)| finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_many_findings_does_not_hide_another() {
        let finding =
            |kind, table: &str| Finding { table: Some(TableName::new("public", table)), ..Finding::new(kind) };
        let mut all: Vec<Finding> = (0..500).map(|_| finding(FindingKind::Ghost, "payments")).collect();
        all.push(finding(FindingKind::Lost, "payments"));
        all.extend((0..3).map(|_| finding(FindingKind::Ghost, "visits")));
        let report = CheckReport::new("state", 1, Vec::new(), all);
        let tables: Vec<(FindingKind, &str)> =
            report.findings.iter().map(|f| (f.kind, f.table.as_ref().map_or("", |t| t.name.as_str()))).collect();
        let count = |wanted| tables.iter().filter(|found| **found == wanted).count();
        assert_eq!(report.findings_total, 504);
        assert_eq!(count((FindingKind::Ghost, "payments")), FINDINGS_MAX - 3);
        assert_eq!(count((FindingKind::Ghost, "visits")), 3);
        assert_eq!(count((FindingKind::Lost, "payments")), 1);
        assert_eq!(tables.last(), Some(&(FindingKind::Ghost, "visits")), "in their order");
    }
}
