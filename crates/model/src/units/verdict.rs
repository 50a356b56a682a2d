//! What a check, a control, a drill and a run end with.

use super::Exit;

/// The outcome of a claim. Inconclusive is not green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The claim was looked at and holds.
    Passed,
    /// The claim was looked at and does not hold.
    Failed,
    /// The claim could not be looked at: the fault did not land, or the harness failed.
    Inconclusive,
}

impl Verdict {
    /// The verdict on several claims together: one failure fails all; otherwise one that could not be looked at leaves
    /// all inconclusive.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        use Verdict::{Failed, Inconclusive, Passed};
        match (self, other) {
            (Failed, _) | (_, Failed) => Failed,
            (Inconclusive, _) | (_, Inconclusive) => Inconclusive,
            (Passed, Passed) => Passed,
        }
    }

    /// The exit code of a command whose checks came out so.
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Passed => Exit::Passed,
            Verdict::Failed => Exit::CheckFailed,
            Verdict::Inconclusive => Exit::Inconclusive,
        }
    }

    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Inconclusive => "inconclusive",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
