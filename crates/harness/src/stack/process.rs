//! Processes as `/proc` shows them. A process is known by its number and its start time: numbers are used again.

use std::collections::{BTreeMap, BTreeSet};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

struct Stat {
    state: char,
    parent: i32,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses, and may hold anything: count from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let rest: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some(Stat {
        state: rest.first()?.chars().next()?,
        parent: rest.get(1)?.parse().ok()?,
        start: rest.get(19)?.parse().ok()?,
    })
}

impl Process {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Process> {
        stat(pid).map(|s| Process { pid, start: s.start })
    }

    /// Whether it still runs; a zombie does not.
    pub fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|s| s.start == self.start && !matches!(s.state, 'Z' | 'X'))
    }

    /// Sends a signal, unless the number belongs to another process by now. False when it was not there to receive it.
    pub fn signal(&self, signal: Signal) -> bool {
        self.alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// The processes below `root`, not itself; a parent comes before its children.
pub(super) fn descendants(root: i32) -> Vec<Process> {
    below([root])
}

/// The processes below all of `roots`, each once, from one look at `/proc`.
fn below(roots: impl IntoIterator<Item = i32>) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(s) = stat(pid) {
            children.entry(s.parent).or_default().push(Process { pid, start: s.start });
        }
    }
    let mut found: Vec<Process> =
        roots.into_iter().flat_map(|root| children.remove(&root).unwrap_or_default()).collect();
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next].pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Proportional set size of these processes and everything below them, in bytes: a process below two of them counts once,
/// and pages that several processes map are counted once in sum.
pub fn pss_bytes_of(roots: impl IntoIterator<Item = i32>) -> u64 {
    let mut all: BTreeSet<i32> = roots.into_iter().collect();
    all.extend(below(all.clone()).iter().map(|p| p.pid));
    all.into_iter().filter_map(pss_bytes).sum()
}

fn pss_bytes(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_confuse() {
        let text = "7 (a) b) (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2";
        let s = parse_stat(text).unwrap();
        assert_eq!((s.state, s.parent, s.start), ('S', 3, 4242));
    }

    #[test]
    fn a_reused_number_is_a_stranger() {
        let me = Process::of(std::process::id() as i32).unwrap();
        assert!(me.alive());
        let before = Process { start: me.start - 1, ..me };
        assert!(!before.alive());
        assert!(!before.signal(Signal::SIGKILL));
    }

    #[test]
    fn own_memory_is_counted() {
        assert!(pss_bytes_of([std::process::id() as i32]) > 1 << 20);
    }
}
