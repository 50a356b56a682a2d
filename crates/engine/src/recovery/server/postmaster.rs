//! Whether a server works in a data folder, by the folder and the processes of this machine: whatever a hook says.

use std::os::unix::fs::MetadataExt;

use camino::Utf8Path;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgid},
};

use crate::recovery::RecoveryError;
use cdc_model::units::IfThere;

const PROCESSES: &str = "/proc";
/// What the kernel adds to the name of a folder that was removed.
const REMOVED: &str = " (deleted)";
/// The server's names, as processes carry them.
const PROGRAMS: [&str; 2] = ["postgres", "postmaster"];

/// Who works in a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    /// Nobody, and no `postmaster.pid` is left.
    Nobody,
    /// The server that `postmaster.pid` names; its number here.
    Server(u32),
    /// Processes of a server that has ended itself: they end when they notice.
    Orphans(Vec<u32>),
    /// `postmaster.pid` names a process that cannot be judged from here, and why. It may be one of a PID namespace that this process
    /// does not see.
    Unknown(String),
}

/// Whether a server, or what a dead one left running, works in a folder, as far as this process sees.
pub(crate) fn is_occupied(folder: &Utf8Path) -> Result<bool, RecoveryError> {
    Ok(matches!(occupant(folder)?, Occupant::Server(_) | Occupant::Orphans(_)))
}

/// Where the server of a data folder says that it listens, in `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Its port.
    pub(crate) port: u16,
    /// Addresses, or folders of unix sockets.
    pub(crate) hosts: Vec<String>,
}

/// Where the server of a data folder says that it listens; none where it is not there, or says nothing that is understood.
pub(crate) fn listening(pgdata: &Utf8Path) -> Result<Option<Listening>, RecoveryError> {
    let file = pgdata.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).if_there().map_err(|e| RecoveryError::io("read", &file, e))?;
    Ok(text.as_deref().and_then(listening_by))
}

/// Line 4 has the port, line 5 the first folder of its sockets, line 6 the first address, `*` for all of them.
fn listening_by(text: &str) -> Option<Listening> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let port = lines.get(3)?.parse().ok()?;
    let address = lines.get(5).map(|address| match *address {
        "*" | "0.0.0.0" | "::" => "localhost",
        address => address,
    });
    let hosts = lines.get(4).copied().into_iter().chain(address).filter(|host| !host.is_empty());
    Some(Listening { port, hosts: hosts.map(str::to_owned).collect() })
}

/// Ends what a server that has ended itself left running in a folder of a recovery's own, with its children. They end by themselves when
/// they notice, which one does not that waits for a `restore_command`.
pub(crate) fn end_orphans(folder: &Utf8Path) -> Result<(), RecoveryError> {
    let Occupant::Orphans(processes) = occupant(folder)? else { return Ok(()) };
    for process in processes {
        let Ok(raw) = i32::try_from(process) else { continue };
        let pid = Pid::from_raw(raw);
        // Each process of a server leads a session of its own, in which its `restore_command` runs.
        let ended =
            if getpgid(Some(pid)) == Ok(pid) { killpg(pid, Signal::SIGKILL) } else { kill(pid, Signal::SIGKILL) };
        match ended {
            Ok(()) => tracing::info!(%folder, process, "ended: its server had ended"),
            Err(Errno::ESRCH) => {}
            Err(e) => return Err(RecoveryError::io("end what a dead server left in", folder, e.into())),
        }
    }
    Ok(())
}

/// Looks into a folder and at the processes of this machine, those of containers on it included as far as this process sees them.
pub(super) fn occupant(pgdata: &Utf8Path) -> Result<Occupant, RecoveryError> {
    among(pgdata, Utf8Path::new(PROCESSES))
}

fn among(pgdata: &Utf8Path, processes: &Utf8Path) -> Result<Occupant, RecoveryError> {
    let file = pgdata.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).if_there().map_err(|e| RecoveryError::io("read", &file, e))?;
    let recorded = text.as_ref().map(|text| text.lines().next().unwrap_or_default().trim().to_owned());
    let folder = std::fs::metadata(pgdata).if_there().map_err(|e| RecoveryError::io("look at", pgdata, e))?;
    let folder = folder.map(|meta| (meta.dev(), meta.ino()));
    let (mut within, mut hidden) = (Vec::new(), None);
    for process in servers(processes)? {
        let is_recorded = recorded.as_ref().is_some_and(|pid| *pid == process.inner);
        match works_in(&process.folder, pgdata, folder) {
            Ok(true) if is_recorded => return Ok(Occupant::Server(process.pid)),
            Ok(true) => within.push(process.pid),
            Err(why) if is_recorded => hidden = Some(why),
            // Nothing says that a process which may not be looked at has to do with this folder.
            Ok(false) | Err(_) => {}
        }
    }
    within.sort_unstable();
    Ok(match (recorded, hidden) {
        _ if !within.is_empty() => Occupant::Orphans(within),
        (None, _) => Occupant::Nobody,
        (Some(pid), Some(why)) => {
            Occupant::Unknown(format!("{file} names process {pid}, of which is not known where it works: {why}"))
        }
        (Some(pid), None) => {
            Occupant::Unknown(format!("{file} was left by process {pid}, which is no server that is seen from here"))
        }
    })
}

/// A process with a server's name.
struct Process {
    /// Its number here.
    pid: u32,
    /// Its number in its own PID namespace, by which `postmaster.pid` has it.
    inner: String,
    /// The link to its working folder.
    folder: camino::Utf8PathBuf,
}

/// The processes with a server's name. Processes come and go meanwhile.
fn servers(processes: &Utf8Path) -> Result<Vec<Process>, RecoveryError> {
    let unlisted = |e| RecoveryError::io("list", processes, e);
    let mut found = Vec::new();
    for entry in processes.read_dir_utf8().map_err(unlisted)? {
        let entry = entry.map_err(unlisted)?;
        let Ok(pid) = entry.file_name().parse::<u32>() else { continue };
        // What cannot be read is of a process that ends just now.
        let read = |name: &str| match std::fs::read_to_string(entry.path().join(name)).if_there() {
            Ok(Some(text)) => text,
            Ok(None) | Err(_) => String::new(),
        };
        if !PROGRAMS.contains(&read("comm").trim()) {
            continue;
        }
        let status = read("status");
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inner = numbers.and_then(|numbers| numbers.split_whitespace().last()).map(str::to_owned);
        let inner = inner.unwrap_or_else(|| pid.to_string());
        found.push(Process { pid, inner, folder: entry.path().join("cwd") });
    }
    Ok(found)
}

/// Whether a working folder is this one, also where that was removed under the process.
fn works_in(link: &Utf8Path, pgdata: &Utf8Path, folder: Option<(u64, u64)>) -> Result<bool, String> {
    let place = match std::fs::read_link(link).if_there() {
        Ok(Some(place)) => place,
        Ok(None) => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    if place.as_os_str() == format!("{pgdata}{REMOVED}").as_str() {
        return Ok(true);
    }
    let Some(folder) = folder else { return Ok(false) };
    let meta = std::fs::metadata(link).if_there().map_err(|e| e.to_string())?;
    Ok(meta.is_some_and(|meta| (meta.dev(), meta.ino()) == folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_server_says_where_it_listens() {
        let of = |address: &str, sockets: &str| {
            listening_by(&format!("17\n/data\n1795744811\n5433\n{sockets}\n{address}\n  5432001  32768\nready   \n"))
        };
        let listening = |hosts: &[&str]| {
            Some(Listening { port: 5433, hosts: hosts.iter().map(|host| (*host).to_owned()).collect() })
        };
        assert_eq!(of("*", "/run/postgresql"), listening(&["/run/postgresql", "localhost"]));
        assert_eq!(of("10.0.0.7", ""), listening(&["10.0.0.7"]));
        assert_eq!(listening_by("17\n/data\n1795744811\n"), None, "a server that has just begun");
    }

    /// A data folder, and the processes of a machine.
    struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Machine {
            let folder = tempfile::tempdir().unwrap();
            for name in ["data", "proc", "elsewhere"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            }
            Machine { folder }
        }

        fn path(&self, name: &str) -> camino::Utf8PathBuf {
            Utf8Path::from_path(self.folder.path()).unwrap().join(name)
        }

        fn process(&self, pid: u32, inner: u32, comm: &str, cwd: &str) {
            let place = self.path("proc").join(pid.to_string());
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("comm"), format!("{comm}\n")).unwrap();
            std::fs::write(place.join("status"), format!("Name:\t{comm}\nNSpid:\t{pid}\t{inner}\n")).unwrap();
            symlink(self.path(cwd).as_str(), place.join("cwd")).unwrap();
        }

        fn left(&self, pid: u32) {
            std::fs::write(self.path("data/postmaster.pid"), format!("{pid}\n/data\n")).unwrap();
        }

        fn occupant(&self) -> Occupant {
            among(&self.path("data"), &self.path("proc")).unwrap()
        }
    }

    #[test]
    fn the_server_that_the_folder_names_is_found_in_a_container_too() {
        let machine = Machine::new();
        assert_eq!(machine.occupant(), Occupant::Nobody);
        machine.process(70, 70, "bash", "data");
        machine.process(71, 71, "postgres", "elsewhere");
        assert_eq!(machine.occupant(), Occupant::Nobody, "a shell, and the server of another folder");
        machine.left(1);
        assert!(matches!(machine.occupant(), Occupant::Unknown(why) if why.contains("process 1")));
        machine.process(4000, 1, "postgres", "data");
        machine.process(4001, 30, "postgres", "data");
        assert_eq!(machine.occupant(), Occupant::Server(4000));
    }

    #[test]
    fn what_a_dead_server_left_running_is_named() {
        let machine = Machine::new();
        machine.left(80);
        machine.process(81, 81, "postgres", "data");
        assert_eq!(machine.occupant(), Occupant::Orphans(vec![81]));
    }

    #[test]
    fn a_server_whose_folder_was_removed_still_works_in_it() {
        let machine = Machine::new();
        machine.process(90, 90, "postgres", "data (deleted)");
        std::fs::remove_dir(machine.path("data")).unwrap();
        assert_eq!(machine.occupant(), Occupant::Orphans(vec![90]));
    }

    #[test]
    fn this_process_is_no_server() {
        let machine = Machine::new();
        assert_eq!(occupant(&machine.path("data")).unwrap(), Occupant::Nobody);
    }
}
