//! Folders of the cache: made so that the servers' account reads them, under one lock, as long as there is room.

use std::{fs::File, io::Write, os::unix::fs::PermissionsExt};

use camino::Utf8Path;

use crate::stack::{Progress, StackError};
use cdc_pipeline::config;

/// Takes the cache's lock, and says for whom it waits.
pub(in crate::stack) fn lock(cache: &Utf8Path, progress: &dyn Progress) -> Result<File, StackError> {
    open_folder(cache)?;
    let path = cache.join("lock");
    let failed = |e| StackError::io("lock", &path, e);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            progress.line(&format!("waiting for another cdc-drill (pid {}) that prepares {cache}", holder.trim()));
            file.lock().map_err(failed)?;
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Makes a folder that everybody may read, whatever the umask: the servers run as another account.
pub(in crate::stack) fn open_folder(path: &Utf8Path) -> Result<(), StackError> {
    if !path.is_dir() {
        std::fs::create_dir_all(path).map_err(|e| StackError::io("make folder", path, e))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| StackError::io("open", path, e))?;
    }
    Ok(())
}

/// Bytes an unprivileged process can still write to the file system of this folder.
pub(in crate::stack) fn free_bytes(path: &Utf8Path) -> Result<u64, StackError> {
    config::free_bytes(path).map_err(|e| StackError::io("look at", path, e))
}

/// Lets everybody read what root has unpacked under a strict umask.
pub(super) fn readable(folder: &Utf8Path) -> Result<(), StackError> {
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        let failed = |e| StackError::io("open", &next, e);
        let meta = std::fs::symlink_metadata(&next).map_err(failed)?;
        if meta.is_symlink() {
            continue;
        }
        let mode = meta.permissions().mode();
        let wanted = mode | 0o444 | if meta.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
        if wanted != mode {
            std::fs::set_permissions(&next, std::fs::Permissions::from_mode(wanted)).map_err(failed)?;
        }
        if meta.is_dir() {
            for entry in next.read_dir_utf8().map_err(failed)? {
                left.push(entry.map_err(failed)?.path().to_owned());
            }
        }
    }
    Ok(())
}
