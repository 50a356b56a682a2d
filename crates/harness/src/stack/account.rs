//! The account that servers run as. PostgreSQL refuses root, and nothing else needs it either.

use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Uid, User};

use super::StackError;

/// Names the account that root gives the servers to.
const USER_VARIABLE: &str = "CDC_DRILL_USER";
/// Existing accounts that may own servers, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The account that the servers of a stack run as.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Whether this process must change to it: it is root now.
    pub drop: bool,
}

impl Account {
    /// Chooses the account: this process's own, or, for root, the one named by `CDC_DRILL_USER`, `postgres` or `nobody`.
    pub fn choose() -> Result<Account, StackError> {
        if !Uid::effective().is_root() {
            let uid = Uid::effective();
            let user = User::from_uid(uid).ok().flatten().ok_or_else(|| StackError::Account {
                detail: format!("uid {uid} has no entry in the passwd database, and initdb wants one"),
            })?;
            return Ok(Account::of(&user, false));
        }
        let asked = std::env::var(USER_VARIABLE).ok();
        let names: Vec<&str> = asked.as_deref().map_or_else(|| CANDIDATES.to_vec(), |name| vec![name]);
        for name in &names {
            match User::from_name(name) {
                Ok(Some(user)) if user.uid.is_root() => {
                    return Err(StackError::Account { detail: format!("{USER_VARIABLE}={name} is root itself") });
                }
                Ok(Some(user)) => return Ok(Account::of(&user, true)),
                _ => {}
            }
        }
        Err(StackError::Account { detail: format!("no account named {}", names.join(" or ")) })
    }

    fn of(user: &User, drop: bool) -> Account {
        Account { name: user.name.clone(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), drop }
    }

    /// Whether the account may read and pass what the mode bits allow.
    fn may(&self, path: &Utf8Path, read: u32) -> Result<Option<u32>, StackError> {
        let meta = std::fs::metadata(path).map_err(|e| StackError::io("look at", path, e))?;
        let mode = meta.mode() & 0o777;
        let shift = if meta.uid() == self.uid {
            6
        } else if meta.gid() == self.gid {
            3
        } else {
            0
        };
        Ok(if (mode >> shift) & read == read { None } else { Some(mode) })
    }

    /// The first folder above `path` that the account may not pass through, or `path` itself when it may not read (and,
    /// for a program, execute) it.
    pub(crate) fn blocked_at(&self, path: &Utf8Path) -> Result<Option<(Utf8PathBuf, u32)>, StackError> {
        let real = path.canonicalize_utf8().map_err(|e| StackError::io("resolve", path, e))?;
        let mut folders: Vec<&Utf8Path> = real.ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders {
            if let Some(mode) = self.may(folder, 0o1)? {
                return Ok(Some((folder.to_owned(), mode)));
            }
        }
        Ok(self.may(&real, 0o5)?.map(|mode| (real, mode)))
    }

    /// Requires that the account can reach `path` and read it.
    pub(crate) fn must_reach(&self, path: &Utf8Path) -> Result<(), StackError> {
        match self.blocked_at(path)? {
            Some((blocker, mode)) if self.drop => {
                Err(StackError::Unreachable { path: path.to_owned(), user: self.name.clone(), blocker, mode })
            }
            _ => Ok(()),
        }
    }

    /// Gives a file or folder to the account, when this process must drop to it.
    pub fn give(&self, path: &Utf8Path) -> Result<(), StackError> {
        if self.drop {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
                .map_err(|e| StackError::io("give to the servers' account", path, e))?;
        }
        Ok(())
    }

    /// Makes a folder, with those above it, that belongs to the account.
    pub fn folder(&self, path: &Utf8Path) -> Result<(), StackError> {
        std::fs::create_dir_all(path).map_err(|e| StackError::io("make folder", path, e))?;
        self.give(path)
    }

    /// Makes a command run as the account.
    pub fn run_as<'a>(&self, command: &'a mut std::process::Command) -> &'a mut std::process::Command {
        use std::os::unix::process::CommandExt;
        if self.drop { command.uid(self.uid).gid(self.gid) } else { command }
    }
}
