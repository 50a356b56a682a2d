//! The checks, by what each claims, and the findings that each can report.

use super::words::words;
use crate::event::{
    CheckReport, Finding,
    FindingKind::{self, *},
};

words! {
    /// The checks, by the claim that each makes.
    pub enum CheckId: "check" {
        /// The tables equal the ledger replayed to the target: nothing more, nothing less.
        RestoredToTarget = "restored-to-target",
        /// The latest event per key equals the table row, both ways.
        State = "state",
        /// Every acknowledged transaction after recovery is in the topics.
        Loss = "loss",
        /// Nothing of the abandoned timeline is visible in any data topic.
        Ghosts = "ghosts",
        /// Duplicates only where at-least-once allows them.
        Duplicates = "duplicates",
        /// Per key, streamed events follow LSN and offset within one epoch.
        Order = "order",
        /// No transaction is half visible at the end.
        Atomicity = "atomicity",
        /// The records of each topic that lost them are there again, in their order: key, value, headers and timestamp.
        History = "history",
        /// Every record's schema id resolves to the schema it was written with.
        SchemaIds = "schema-ids",
        /// Levels, modes, subjects and versions equal the recovery point's, and an incompatible schema is refused again.
        Compatibility = "compatibility",
        /// Stored offset, slot, topic settings and groups are as they must be.
        Positions = "positions",
        /// A canary row written now arrives in time.
        Liveness = "liveness",
        /// Nothing the drill did is left.
        Leaks = "leaks",
    }
}

impl CheckId {
    /// The kinds of findings that the check can report. A control whose red is another kind could never come out as it says.
    /// Each check is vacuous where it compares nothing.
    pub fn kinds(self) -> &'static [FindingKind] {
        match self {
            CheckId::RestoredToTarget => &[Lost, Ghost, Stale, Different, Unreadable, Vacuous],
            CheckId::State => &[Lost, Ghost, Stale, Different, Unreadable, NotComparable, Vacuous],
            CheckId::Loss => &[Lost, Vacuous],
            CheckId::Ghosts => &[Ghost, Vacuous],
            CheckId::Duplicates => &[Duplicate, Vacuous],
            CheckId::Order => &[OutOfOrder, Vacuous],
            CheckId::Atomicity => &[Half, Vacuous],
            CheckId::History => &[Lost, Different, Vacuous],
            CheckId::SchemaIds => &[WrongSchema, Unreadable, Dead, Vacuous],
            CheckId::Compatibility => &[Setting, WrongSchema, NotRefused, Refused, Dead, Vacuous],
            CheckId::Positions => &[Position, Setting, Dead, Vacuous],
            CheckId::Liveness => &[Dead, Lost, Vacuous],
            CheckId::Leaks => &[Leak, Vacuous],
        }
    }
}

impl CheckId {
    /// What the check found among so many compared: see [`CheckReport::new`].
    pub fn report(self, compared: u64, notes: Vec<String>, findings: Vec<Finding>) -> CheckReport {
        let report = CheckReport::new(self.word(), compared, notes, findings);
        debug_assert!(
            report.findings.iter().all(|finding| self.kinds().contains(&finding.kind)),
            "{self} reports a kind that `kinds` does not name: {:?}",
            report.findings
        );
        report
    }

    /// The check could not look: see [`CheckReport::inconclusive`].
    pub fn inconclusive(self, why: String) -> CheckReport {
        CheckReport::inconclusive(self.word(), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_check_reports_what_only_a_recovery_says() {
        for check in CheckId::ALL {
            assert!(!check.kinds().contains(&RecoveryRefused), "{check}");
            assert!(check.kinds().contains(&Vacuous), "{check}");
        }
    }
}
