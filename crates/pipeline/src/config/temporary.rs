//! Temporary folders that whoever is killed does not leave for ever: the next one that makes such a folder removes them.

use std::{
    fs::{File, Permissions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use camino::Utf8Path;

/// How many random characters stand behind a prefix.
const RANDOM: usize = 6;

/// A temporary folder (mode 0700), removed when it is dropped. It is held by an flock for as long as its maker lives, in whatever
/// PID namespace that is.
#[derive(Debug)]
pub struct Temporary {
    folder: tempfile::TempDir,
    /// None on a file system without locks, where nobody can tell that a folder is abandoned.
    _held: Option<File>,
}

impl Temporary {
    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        // It is beneath a path that is UTF-8, and its own name is ASCII.
        Utf8Path::from_path(self.folder.path()).unwrap_or(Utf8Path::new("/"))
    }

    /// Removes those of a prefix that nobody holds.
    pub fn clear(prefix: &str, beneath: &Utf8Path) {
        remove_abandoned(prefix, beneath);
    }

    /// Makes one, and removes those of the same prefix whose makers have ended without removing them.
    pub(super) fn make(prefix: &str, beneath: &Utf8Path) -> io::Result<Temporary> {
        remove_abandoned(prefix, beneath);
        let private = Permissions::from_mode(0o700);
        loop {
            let mut builder = tempfile::Builder::new();
            let folder = builder.prefix(prefix).rand_bytes(RANDOM).permissions(private.clone()).tempdir_in(beneath)?;
            match hold(folder.path()) {
                Ok(Hold::Held(lock)) => return Ok(Temporary { folder, _held: Some(lock) }),
                Ok(Hold::NoLocks) => return Ok(Temporary { folder, _held: None }),
                // Another one took it for abandoned before it was held.
                Ok(Hold::Another) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The bytes that an unprivileged account can still write to the file system of a path.
pub fn free_bytes(path: &Utf8Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path.as_std_path())?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

enum Hold {
    /// By this process, and the folder is the one at this path.
    Held(File),
    /// Somebody else holds it, or has removed it.
    Another,
    /// The file system has no locks.
    NoLocks,
}

fn hold(path: &Path) -> io::Result<Hold> {
    let file = File::open(path)?;
    let inode = file.metadata()?.ino();
    Ok(match file.try_lock() {
        Ok(()) if std::fs::symlink_metadata(path)?.ino() == inode => Hold::Held(file),
        Ok(()) | Err(TryLockError::WouldBlock) => Hold::Another,
        Err(TryLockError::Error(_)) => Hold::NoLocks,
    })
}

/// Removes folders of a prefix whose makers have ended without removing them. What cannot be looked at or removed is left: it takes room and misleads nobody.
fn remove_abandoned(prefix: &str, beneath: &Utf8Path) {
    let entries = match beneath.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(folder = %beneath, %error, "cannot be looked through for abandoned folders");
            return;
        }
    };
    for entry in entries.flatten() {
        let random = entry.file_name().strip_prefix(prefix).unwrap_or_default();
        let is_named_so = random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_named_so && let Err(error) = remove_if_abandoned(entry.path().as_std_path()) {
            tracing::warn!(folder = %entry.path(), %error, "abandoned, and not removed");
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    // Looked at first: what somebody else has put there may be no folder, and block whoever opens it.
    if !is_ours(path)? {
        return Ok(());
    }
    // Held until it is gone, or it might be one that is just being made.
    if let Hold::Held(_lock) = hold(path)? {
        std::fs::remove_dir_all(path)?;
        tracing::info!(folder = %path.display(), "removed; whoever made it has ended");
    }
    Ok(())
}

/// Whether it is a folder as [`Temporary::make`] makes it for this account; root gives some away.
fn is_ours(path: &Path) -> io::Result<bool> {
    let me = nix::unistd::geteuid();
    let meta = std::fs::symlink_metadata(path)?;
    Ok(meta.is_dir() && meta.mode() & 0o777 == 0o700 && (me.is_root() || meta.uid() == me.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a maker leaves it that was killed: nothing removed it, and the kernel let go of its lock.
    fn abandoned(prefix: &str, beneath: &Utf8Path) -> std::path::PathBuf {
        let Temporary { folder, _held } = Temporary::make(prefix, beneath).unwrap();
        std::fs::write(folder.path().join("segment"), "rows").unwrap();
        folder.keep()
    }

    #[test]
    fn a_folder_is_removed_with_its_maker_or_by_the_next_one() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let (left, other) = (abandoned("wal-", home), abandoned("socket-", home));
        let first = Temporary::make("wal-", home).unwrap();
        assert!(!left.exists() && other.exists(), "each prefix is a use of its own");
        let second = Temporary::make("wal-", home).unwrap();
        assert!(first.path().exists() && second.path().exists(), "their maker lives");
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_named_alike_and_was_not_made_so_stays() {
        let home = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(home.path()).unwrap();
        let named = ["wal-abcdef", "wal-abcdefg", "wal-"].map(|name| home.join(name));
        named.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        std::fs::set_permissions(&named[0], Permissions::from_mode(0o755)).unwrap();
        let linked = home.join("wal-linked");
        std::os::unix::fs::symlink(&named[1], &linked).unwrap();
        drop(Temporary::make("wal-", home).unwrap());
        assert!(named.iter().chain([&linked]).all(|path| path.symlink_metadata().is_ok()));
    }
}
