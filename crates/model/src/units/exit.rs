//! The process exit codes, a documented contract: scripts and CI branch on them.

/// Why the program ended. The discriminant is the process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for was done and every check passed.
    Passed = 0,
    /// A defect in this program.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A scenario or configuration file is wrong.
    Invalid = 3,
    /// A check reported findings.
    CheckFailed = 10,
    /// A recovery step did not reach its postcondition.
    RecoveryFailed = 11,
    /// Recovered, but slower or with more loss than the objective allows.
    ObjectiveMissed = 12,
    /// The fault did not land, or the harness could not look.
    Inconclusive = 13,
    /// A server of the stack did not start.
    StackDidNotStart = 20,
    /// A deadline passed.
    TimedOut = 21,
    /// A recovery point is incomplete.
    BackupIncomplete = 30,
    /// A stored object does not have the checksum written for it.
    ChecksumMismatch = 31,
    /// The WAL archive has a hole before the point or target.
    WalGap = 32,
    /// The repository was written by a newer format.
    FormatTooNew = 33,
    /// Another process is at work, or a recovery is unfinished.
    LockHeld = 34,
    /// The backup would exceed its space budget.
    BudgetExceeded = 35,
    /// A repository is encrypted and its keys are missing, unsafe or others, or it is not encrypted as it should be.
    KeysRefused = 36,
    /// `status` only: recoverable now, and something is going the wrong way, or was not proved lately.
    AtRisk = 37,
    /// The plan cannot be carried out on what is there.
    PlanImpossible = 40,
    /// Refused for safety, or `--yes` is missing.
    Refused = 41,
    /// `wal fetch` only: the archive may have the file but cannot give it. PostgreSQL takes any code up to 125 for "there is
    /// no such file" and ends recovery there as if all were well; above that it stops.
    WalUnreadable = 255,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The result that a process exit code stands for; none for a code that is not ours.
    pub fn from_code(code: u8) -> Option<Exit> {
        use Exit::*;
        let all = [
            Passed,
            Internal,
            Usage,
            Invalid,
            CheckFailed,
            RecoveryFailed,
            ObjectiveMissed,
            Inconclusive,
            StackDidNotStart,
            TimedOut,
            BackupIncomplete,
            ChecksumMismatch,
            WalGap,
            FormatTooNew,
            LockHeld,
            BudgetExceeded,
            KeysRefused,
            AtRisk,
            PlanImpossible,
            Refused,
            Interrupted,
        ];
        all.into_iter().find(|e| e.code() == code)
    }

    /// How bad a result is when several are combined: 1 > 20 > 21 > 11 > 10 > 12 > 13 > 0. Codes
    /// outside that list end a command on their own and outrank everything.
    fn rank(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::Inconclusive => 1,
            Exit::ObjectiveMissed => 2,
            Exit::CheckFailed => 3,
            Exit::RecoveryFailed => 4,
            Exit::TimedOut => 5,
            Exit::StackDidNotStart => 6,
            Exit::Internal => 7,
            _ => 8,
        }
    }

    /// The worse of two results.
    #[must_use]
    pub fn worst(self, other: Exit) -> Exit {
        if other.rank() > self.rank() { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::*;

    #[test]
    fn several_results_fold_in_the_documented_order() {
        let order =
            [Passed, Inconclusive, ObjectiveMissed, CheckFailed, RecoveryFailed, TimedOut, StackDidNotStart, Internal];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(a.worst(*b), order[i.max(j)], "{a:?} with {b:?}");
            }
        }
    }
}
