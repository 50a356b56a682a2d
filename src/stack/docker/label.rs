//! The label by which a container names the process that removes it.

use crate::stack::Process;

/// On every server's container: the process that removes it.
pub(super) const SUPERVISOR: &str = "cdc-drill.supervisor";

/// The label's text for a process.
pub(super) fn text(process: Process) -> String {
    format!("{}.{}", process.pid, process.start)
}

/// The process of such a text.
pub(super) fn process(text: &str) -> Option<Process> {
    let (pid, start) = text.split_once('.')?;
    Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_back_from_its_label() {
        let one = Process { pid: 7, start: 99 };
        assert_eq!(process(&text(one)), Some(one));
        assert_eq!(process("seven"), None);
    }
}
