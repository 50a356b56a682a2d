//! The label by which a container names the process that removes it.

use std::os::unix::fs::MetadataExt;

use crate::stack::Process;

/// On every server's container: the process that removes it.
pub(super) const SUPERVISOR: &str = "cdc-drill.supervisor";

/// The label's text for a process: its number, its start time, by which a number that is used again is known, and the PID namespace in
/// which it has that number.
pub(super) fn text(process: Process) -> String {
    let namespace = namespace().map(|inode| format!(".{inode}")).unwrap_or_default();
    format!("{}.{}{namespace}", process.pid, process.start)
}

/// The PID namespace of this process.
fn namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
}

/// Whether the process of a label has ended. Of one in another PID namespace nobody here can tell: another run may be at work there.
pub(super) fn has_ended(text: &str) -> bool {
    let mut parts = text.split('.');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (Some(pid), Some(start)) = (number().and_then(|pid| pid.try_into().ok()), number()) else { return false };
    let elsewhere = number().is_some_and(|theirs| Some(theirs) != namespace());
    !elsewhere && !Process { pid, start }.alive()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_known_by_its_start_time_and_its_namespace() {
        let this = Process::of(std::process::id().try_into().unwrap()).unwrap();
        assert!(!has_ended(&text(this)));
        assert!(has_ended(&text(Process { start: this.start + 1, ..this })), "the number is another process's now");
        let elsewhere = format!("{}.{}.1", this.pid, this.start + 1);
        assert!(!has_ended(&elsewhere), "the process of that number is not the one that is meant");
        assert!(has_ended(&format!("{}.{}", this.pid, this.start + 1)), "a label of an earlier release");
        assert!(!has_ended("seven"));
    }
}
