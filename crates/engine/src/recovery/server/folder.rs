//! The data folder: who owns it, what it may not contain, and what its owner can reach.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Gid, Uid};

use crate::{
    backup::{DataFolder, Store},
    recovery::RecoveryError,
};
use cdc_model::units::IfThere;
use cdc_pipeline::config::Tools;

/// The account that owns a data folder; PostgreSQL runs as no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
    change: bool,
    /// The folder's permission bits: a server gives those of its folder to the files that it makes.
    mode: u32,
}

/// The modes that a server accepts for its data folder.
const ACCEPTED: u32 = 0o750;
/// The mode where nobody knows another.
const PRIVATE: u32 = 0o700;

impl Owner {
    /// The owner of a folder. This process must be that account or root.
    pub(crate) fn of(folder: &Utf8Path) -> Result<Owner, RecoveryError> {
        let meta = std::fs::metadata(folder).map_err(|e| RecoveryError::io("look at", folder, e))?;
        let me = Uid::effective();
        if meta.uid() == me.as_raw() && !me.is_root() {
            return Ok(Owner { uid: meta.uid(), gid: meta.gid(), change: false, mode: meta.mode() & ACCEPTED });
        }
        if me.is_root() && meta.uid() != 0 {
            return Ok(Owner { uid: meta.uid(), gid: meta.gid(), change: true, mode: meta.mode() & ACCEPTED });
        }
        Err(RecoveryError::impossible(
            format!("owner of {folder}"),
            "this process's account, or any but root when this process is root",
            format!("uid {} (this process is uid {me})", meta.uid()),
            "run the recovery as root or as the owner of the data folder",
        ))
    }

    /// The account for a data folder that is gone: the one that a recovery point recorded, else that of the folder around it. The text
    /// says which, for the plan.
    pub(crate) fn of_lost(folder: &Utf8Path, recorded: Option<DataFolder>) -> Result<(Owner, String), RecoveryError> {
        let around = folder.parent().unwrap_or(Utf8Path::new("/"));
        let meta = std::fs::metadata(around).if_there().map_err(|e| RecoveryError::io("look at", around, e))?;
        let make =
            format!("`install -d -m 700 -o ACCOUNT {folder}` makes an empty one; the recovery takes its account");
        let Some(meta) = meta else {
            let found = format!("none, and no folder {around} either");
            return Err(RecoveryError::impossible(
                folder.as_str(),
                "a data folder, or the folder around it",
                found,
                make,
            ));
        };
        let (uid, gid, mode, says) = match recorded {
            Some(DataFolder { uid, gid, mode }) => (uid, gid, mode, "that of the recovery point".to_owned()),
            None => (meta.uid(), meta.gid(), PRIVATE, format!("that of {around}")),
        };
        let me = Uid::effective();
        let change = match (me.is_root(), uid) {
            (true, 1..) => true,
            (false, own) if own == me.as_raw() => false,
            _ => {
                return Err(RecoveryError::impossible(
                    format!("owner for {folder}, which is gone"),
                    "this process's account, or any but root when this process is root",
                    format!("uid {uid}, {says} (this process is uid {me})"),
                    make,
                ));
            }
        };
        Ok((
            Owner { uid, gid, change, mode: mode & ACCEPTED },
            format!("data folder {folder} is gone: it is made again for uid {uid}, {says}"),
        ))
    }

    /// Makes a data folder that is gone.
    pub(crate) fn make_folder(&self, folder: &Utf8Path) -> Result<(), RecoveryError> {
        Store::owned(folder, self.ids()).folder(folder)?;
        self.open_as_before(folder)
    }

    /// Gives a data folder the permission bits of the one whose place it takes.
    pub(crate) fn open_as_before(&self, folder: &Utf8Path) -> Result<(), RecoveryError> {
        let mode = std::fs::Permissions::from_mode(self.mode | PRIVATE);
        std::fs::set_permissions(folder, mode).map_err(|e| RecoveryError::io("set the mode of", folder, e))
    }

    /// The numbers of user and group, whoever this process is.
    pub(crate) fn numbers(&self) -> (u32, u32) {
        (self.uid, self.gid)
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
    use cdc_model::units::Failure;

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
    fn a_lost_folder_belongs_to_whom_the_point_says_or_to_whom_its_surroundings_belong() {
        let home = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(home.path()).unwrap().join("data");
        let me = nix::unistd::geteuid();
        let recorded = |uid: u32| Some(DataFolder { uid, gid: 7, mode: 0o750 });
        if me.is_root() {
            let (owner, says) = Owner::of_lost(&data, recorded(65534)).unwrap();
            assert_eq!((owner.ids(), says.contains("the recovery point")), (Some((65534, 7)), true));
            let error = Owner::of_lost(&data, None).unwrap_err().in_full();
            assert!(error.contains("install -d") && error.contains("uid 0"), "a server never runs as root: {error}");
            nix::unistd::chown(home.path(), Some(65533.into()), Some(65532.into())).unwrap();
            assert_eq!(Owner::of_lost(&data, None).unwrap().0.ids(), Some((65533, 65532)));
            Owner::of_lost(&data, recorded(65534)).unwrap().0.make_folder(&data).unwrap();
            let mode = |path: &Utf8Path| path.metadata().unwrap().mode() & 0o777;
            assert_eq!((data.metadata().unwrap().uid(), mode(&data)), (65534, 0o750));
            let restored = data.with_file_name("restored");
            std::fs::create_dir(&restored).unwrap();
            Owner::of(&data).unwrap().open_as_before(&restored).unwrap();
            assert_eq!(mode(&restored), 0o750);
        } else {
            assert_eq!(Owner::of_lost(&data, recorded(me.as_raw())).unwrap().0.ids(), None);
            assert!(Owner::of_lost(&data, recorded(me.as_raw() + 1)).is_err());
        }
        assert!(Owner::of_lost(&data.join("a/b"), recorded(65534)).unwrap_err().to_string().contains("data/a either"));
    }

    #[test]
    fn recovery_settings_are_taken_out_and_the_rest_stays() {
        let text = "# Do not edit\nwal_level = 'logical'\nrecovery_target_name = 'a'\n restore_command='x'\narchive_mode = on\n";
        let (kept, out) = recovery_settings_in(text);
        assert_eq!(kept, "# Do not edit\nwal_level = 'logical'\narchive_mode = on\n");
        assert_eq!(out, ["recovery_target_name = 'a'", " restore_command='x'"]);
    }
}
