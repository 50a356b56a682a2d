//! The data folder: who owns it, what it may not contain, and what its owner can reach.

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Gid, Uid};

use crate::{backup::Store, config::Tools, recovery::RecoveryError};

/// The account that owns a data folder; PostgreSQL runs as no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
    change: bool,
}

impl Owner {
    /// The owner of a folder. This process must be that account or root.
    pub(crate) fn of(folder: &Utf8Path) -> Result<Owner, RecoveryError> {
        let meta = std::fs::metadata(folder).map_err(|e| RecoveryError::io("look at", folder, e))?;
        let me = Uid::effective();
        if meta.uid() == me.as_raw() && !me.is_root() {
            return Ok(Owner { uid: meta.uid(), gid: meta.gid(), change: false });
        }
        if me.is_root() && meta.uid() != 0 {
            return Ok(Owner { uid: meta.uid(), gid: meta.gid(), change: true });
        }
        Err(RecoveryError::impossible(
            format!("owner of {folder}"),
            "this process's account, or any but root when this process is root",
            format!("uid {} (this process is uid {me})", meta.uid()),
            "run the recovery as root or as the owner of the data folder",
        ))
    }

    /// The account to give restored files to; `None` when they are this process's own anyway.
    pub(crate) fn account(&self) -> Option<crate::backup::parts::postgres::Owner> {
        self.change.then_some(crate::backup::parts::postgres::Owner { uid: self.uid, gid: self.gid })
    }

    /// The same as numbers of user and group.
    pub(crate) fn ids(&self) -> Option<(u32, u32)> {
        self.change.then_some((self.uid, self.gid))
    }

    /// A command that runs as the owner.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.change {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives one file or folder to the owner.
    pub(crate) fn give(&self, path: &Utf8Path) -> Result<(), RecoveryError> {
        if !self.change {
            return Ok(());
        }
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            path.as_std_path(),
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(|e| RecoveryError::io("give to the data folder's owner", path, e.into()))
    }
}

/// A copy of a program that the owner can run where the server's tools run: the program itself when it is reached there,
/// otherwise a copy in `beside`.
pub(crate) fn copy_reachable(
    program: &Utf8Path,
    owner: &Owner,
    tools: &Tools,
    beside: &Utf8Path,
) -> Result<Utf8PathBuf, RecoveryError> {
    if runs(program, owner, tools) {
        return Ok(program.to_owned());
    }
    let copy = beside.join(program.file_name().unwrap_or("cdc-drill"));
    let store = Store::owned(beside.parent().unwrap_or(beside), owner.ids());
    store.folder(beside)?;
    store.copy_program(program, &copy)?;
    if runs(&copy, owner, tools) {
        return Ok(copy);
    }
    Err(RecoveryError::impossible(
        format!("archiving program {program}"),
        "the owner of the data folder can run it, or a copy of it beside the data folder",
        "neither",
        "put the program where that account can reach it, and name it in CDC_DRILL_BIN",
    ))
}

fn runs(program: &Utf8Path, owner: &Owner, tools: &Tools) -> bool {
    let mut command =
        if tools.elsewhere() { tools.run(program.as_str(), &[]) } else { owner.command(program.as_str()) };
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// The free space that an unprivileged account may use on the file system of `path`.
pub(crate) fn free_bytes(path: &Utf8Path) -> Result<u64, RecoveryError> {
    let stat = nix::sys::statvfs::statvfs(path.as_std_path())
        .map_err(|e| RecoveryError::io("look at free space of", path, e.into()))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Settings that belong to a recovery and must not outlive it.
fn is_recovery_setting(line: &str) -> bool {
    let name = line.trim_start().split(['=', ' ', '\t']).next().unwrap_or_default();
    name.starts_with("recovery_")
        || matches!(name, "restore_command" | "archive_cleanup_command" | "primary_conninfo" | "primary_slot_name")
}

/// Splits `postgresql.auto.conf` into what stays and the recovery settings in it.
pub(crate) fn recovery_settings_in(text: &str) -> (String, Vec<String>) {
    let (out, keep): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| is_recovery_setting(l));
    let kept = keep.iter().map(|l| format!("{l}\n")).collect();
    (kept, out.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_of_the_program_is_the_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let (data, hidden) = (home.join("data"), home.join("hidden"));
        for folder in [&data, &hidden] {
            std::fs::create_dir(folder).unwrap();
        }
        // Only a copy can be run: where this process is root, the owner cannot enter the folder.
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
        let program = hidden.join("true");
        std::fs::copy("/bin/true", &program).unwrap();
        let owner = Owner::of(&data).unwrap_or_else(|_| {
            nix::unistd::chown(data.as_std_path(), Some(65534.into()), Some(65534.into())).unwrap();
            Owner::of(&data).unwrap()
        });
        if !owner.change {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let beside = home.join(".cdc-drill");
        let copy = copy_reachable(&program, &owner, &Tools::here("/bin".into()), &beside).unwrap();
        assert_eq!(copy, beside.join("true"));
        for path in [&beside, &copy] {
            let meta = std::fs::metadata(path).unwrap();
            assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o700, owner.uid), "{path}");
        }
    }

    #[test]
    fn recovery_settings_are_taken_out_and_the_rest_stays() {
        let text = "# Do not edit\nwal_level = 'logical'\nrecovery_target_name = 'a'\n restore_command='x'\narchive_mode = on\n";
        let (kept, out) = recovery_settings_in(text);
        assert_eq!(kept, "# Do not edit\nwal_level = 'logical'\narchive_mode = on\n");
        assert_eq!(out, ["recovery_target_name = 'a'", " restore_command='x'"]);
    }
}
