//! Commands that a scenario brings: backups, runbooks, workloads.

use std::time::Duration;

use super::problems::{Problems, Resolved};
use crate::scenario::words::HumanDuration;

/// Longer than any runbook of a drill needs; a command that still runs then hangs, and the other drills wait for its servers.
const TIMEOUT_MAX: Duration = Duration::from_secs(1800);

/// Whether a command and its time limit can be used.
pub(super) fn resolve(command: &str, timeout: Option<HumanDuration>, problems: &mut Problems) -> Resolved<()> {
    let some = problems.at("command", |p| {
        p.require(!command.trim().is_empty(), "an empty command", "give a command for `sh -c`: sh runbook.sh")
    });
    let most = HumanDuration(TIMEOUT_MAX);
    let ends = problems.at("timeout", |p| {
        p.require(
            timeout.is_none_or(|t| t.0 <= TIMEOUT_MAX),
            format!("a command that may take longer than {most}"),
            format!("give at most {most}"),
        )
    });
    some.and(ends)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("sh runbook.sh", None, 0)]
    #[case("sh runbook.sh", Some("30m"), 0)]
    #[case("sh runbook.sh", Some("31m"), 1)]
    #[case(" ", Some("2h"), 2)]
    fn a_command_is_there_and_ends(#[case] command: &str, #[case] timeout: Option<&str>, #[case] found: usize) {
        let mut problems = Problems::default();
        let resolved = resolve(command, timeout.map(|t| t.parse().unwrap()), &mut problems);
        assert_eq!((resolved.is_ok(), problems.into_found().len()), (found == 0, found));
    }
}
