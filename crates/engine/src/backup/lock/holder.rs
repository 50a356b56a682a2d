//! Who holds a lock, and whether that process still lives.

use std::{fmt, fs, time::Duration};

use serde::{Deserialize, Serialize};

use cdc_pipeline::client::limits::facts::HEARTBEAT_OLD;

/// The process that holds a lock, as the lock's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// What it does: `backup create`.
    owner: String,
    /// The name of its machine or container, for people: containers of one kernel have several, and machines may share
    /// one.
    host: String,
    pid: u32,
    /// When the lock was taken, RFC 3339.
    started: String,
    /// The boot of its kernel; none where the kernel does not tell.
    boot: Option<String>,
    /// The file system, by the device number that its kernel gave the lock file.
    device: u64,
    /// The inode of its PID namespace: in another namespace its process id belongs to somebody else, or to nobody.
    pid_namespace: Option<u64>,
    /// Its start time in clock ticks since boot: a process id is used again, the pair is not.
    start_ticks: Option<u64>,
    /// The recovery that it is at work on; none before one has begun to change anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery: Option<String>,
    /// Drawn for each write of the file, so that no two writes are equal.
    token: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {} on {}, since {})", self.owner, self.pid, self.host, self.started)
    }
}

/// Whether a process holds an flock on the lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flock {
    Held,
    Free,
    /// The file system has no such locks.
    Unsupported,
}

/// What this machine sees of a holder.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    flock: Flock,
    /// Whether the holder locks in the table of this kernel: the boot is the same and so is the mounted file system.
    /// Two FUSE mounts of one store are two file systems with a table each.
    same_table: bool,
    /// Whether the holder's process runs; none where its process id means nothing here.
    runs: Option<bool>,
}

/// Whether a holder lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    Dead,
    /// Nothing on this machine tells: its heartbeat decides.
    Elsewhere,
}

impl Evidence {
    fn judge(self) -> Life {
        match (self.flock, self.same_table, self.runs) {
            (Flock::Held, _, _) => Life::Lives,
            // The kernel releases the lock with the process, whatever host name or PID namespace the process had.
            (Flock::Free, true, _) => Life::Dead,
            (Flock::Free | Flock::Unsupported, _, Some(true)) => Life::Lives,
            (Flock::Free | Flock::Unsupported, _, Some(false)) => Life::Dead,
            (Flock::Free | Flock::Unsupported, _, None) => Life::Elsewhere,
        }
    }
}

impl Life {
    /// The life of a holder of whom nothing is known but what flock says.
    pub(super) fn of_unknown(flock: Flock) -> Life {
        Evidence { flock, same_table: false, runs: None }.judge()
    }
}

/// Whether a holder lives whose last heartbeat is this old.
pub(super) fn beats(age: Duration) -> bool {
    age <= HEARTBEAT_OLD
}

impl Holder {
    /// This process, holding a file on the file system `device`.
    pub(super) fn this_process(owner: &str, device: u64) -> Holder {
        Holder {
            owner: owner.to_owned(),
            host: host(),
            pid: std::process::id(),
            started: jiff::Timestamp::now().to_string(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            device,
            pid_namespace: pid_namespace(),
            start_ticks: stat("self").map(|s| s.start_ticks),
            recovery: None,
            token: token(),
        }
    }

    /// The same holder for another write of the file.
    pub(super) fn again(&self) -> Holder {
        Holder { token: token(), ..self.clone() }
    }

    /// The same holder, at work on a recovery.
    pub(super) fn at_work_on(self, recovery: &str) -> Holder {
        Holder { recovery: Some(recovery.to_owned()), ..self }
    }

    /// The recovery that it is at work on.
    pub(super) fn recovery(&self) -> Option<&str> {
        self.recovery.as_deref()
    }

    /// Whether it lives, as far as this machine can tell; `device` is the file system on which the file is seen here.
    pub(super) fn life(&self, flock: Flock, device: u64) -> Life {
        let boot = line("/proc/sys/kernel/random/boot_id");
        let same_boot = boot.is_some() && boot == self.boot;
        let same_table = same_boot && device == self.device;
        Evidence { flock, same_table, runs: if same_boot { self.runs() } else { None } }.judge()
    }

    /// Whether its process runs. None where its process id cannot be looked up: in another PID namespace, and where
    /// `/proc` belongs to another one.
    fn runs(&self) -> Option<bool> {
        let namespace = pid_namespace();
        let proc_is_ours = fs::read_link("/proc/self").is_ok_and(|l| l.as_os_str() == &*std::process::id().to_string());
        if namespace.is_none() || namespace != self.pid_namespace || self.start_ticks.is_none() || !proc_is_ours {
            return None;
        }
        Some(stat(&self.pid.to_string()).is_some_and(|s| !s.ended && Some(s.start_ticks) == self.start_ticks))
    }
}

/// The name of this machine or container.
pub fn host() -> String {
    line("/proc/sys/kernel/hostname").unwrap_or_else(|| "a machine without a name".to_owned())
}

fn token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The first line of a file; none where it is empty or cannot be read.
fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The number in `pid:[4026531836]`.
fn pid_namespace() -> Option<u64> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

struct Stat {
    start_ticks: u64,
    /// Whether it is a zombie.
    ended: bool,
}

/// Fields 3 and 22 of `/proc/<pid>/stat`; the command's name before them may hold spaces and parentheses.
fn stat(pid: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat { start_ticks: fields.get(19)?.parse().ok()?, ended: matches!(*fields.first()?, "Z" | "X") })
}

#[cfg(test)]
impl Holder {
    /// This holder as a machine with another kernel would have written it.
    pub(super) fn of_another_boot(self) -> Holder {
        Holder { boot: Some("another boot".into()), host: "elsewhere".into(), ..self }
    }

    /// This holder as a kernel that does not tell its boot would have written it.
    pub(super) fn of_an_unknown_boot(self) -> Holder {
        Holder { boot: None, ..self }
    }

    /// This holder on another mount of the same store, in another container.
    pub(super) fn of_another_mount(self) -> Holder {
        Holder { device: self.device + 1, pid_namespace: Some(1), ..self }
    }

    /// Another process that had the same process id before.
    pub(super) fn before(self) -> Holder {
        Holder { start_ticks: self.start_ticks.map(|ticks| ticks - 1), ..self }
    }

    /// A process of another PID namespace of this kernel.
    pub(super) fn of_another_namespace(self) -> Holder {
        Holder { pid_namespace: Some(1), pid: 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::held_here(Flock::Held, true, Some(true), Life::Lives)]
    #[case::held_in_another_namespace(Flock::Held, true, None, Life::Lives)]
    #[case::held_by_another_machine_of_one_file_server(Flock::Held, false, None, Life::Lives)]
    #[case::released_by_the_kernel(Flock::Free, true, Some(false), Life::Dead)]
    #[case::released_in_another_namespace(Flock::Free, true, None, Life::Dead)]
    #[case::another_mount_runs(Flock::Free, false, Some(true), Life::Lives)]
    #[case::another_mount_ended(Flock::Free, false, Some(false), Life::Dead)]
    #[case::another_mount_in_another_namespace(Flock::Free, false, None, Life::Elsewhere)]
    #[case::no_locks_runs(Flock::Unsupported, true, Some(true), Life::Lives)]
    #[case::no_locks_ended(Flock::Unsupported, true, Some(false), Life::Dead)]
    #[case::no_locks_in_another_namespace(Flock::Unsupported, true, None, Life::Elsewhere)]
    #[case::no_locks_on_another_machine(Flock::Unsupported, false, None, Life::Elsewhere)]
    fn who_lives(#[case] flock: Flock, #[case] same_table: bool, #[case] runs: Option<bool>, #[case] expected: Life) {
        assert_eq!(Evidence { flock, same_table, runs }.judge(), expected);
    }

    #[test]
    fn a_process_is_looked_up_only_where_its_number_means_something() {
        let me = Holder::this_process("x", 7);
        assert_eq!(me.life(Flock::Unsupported, 7), Life::Lives);
        assert_eq!(me.clone().before().life(Flock::Unsupported, 7), Life::Dead);
        assert_eq!(me.clone().of_another_namespace().life(Flock::Unsupported, 7), Life::Elsewhere);
        assert_eq!(me.clone().of_another_boot().life(Flock::Unsupported, 7), Life::Elsewhere);
        assert_eq!(me.of_an_unknown_boot().life(Flock::Unsupported, 7), Life::Elsewhere);
    }

    #[test]
    fn a_free_flock_decides_only_in_the_same_table() {
        let me = Holder::this_process("x", 7);
        assert_eq!(me.life(Flock::Free, 7), Life::Dead, "the kernel took the lock away");
        assert_eq!(me.clone().of_another_namespace().life(Flock::Free, 7), Life::Dead);
        assert_eq!(me.clone().of_another_mount().life(Flock::Free, 7), Life::Elsewhere);
        assert_eq!(me.clone().of_another_boot().life(Flock::Free, 7), Life::Elsewhere);
        assert_eq!(me.of_an_unknown_boot().life(Flock::Free, 7), Life::Elsewhere);
    }

    #[test]
    fn a_heartbeat_may_be_late_but_not_for_long() {
        assert!(beats(Duration::ZERO) && beats(HEARTBEAT_OLD));
        assert!(!beats(HEARTBEAT_OLD + Duration::from_secs(1)));
    }
}
