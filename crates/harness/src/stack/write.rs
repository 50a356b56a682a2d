//! Files of a stack.

use camino::{Utf8Path, Utf8PathBuf};

use super::StackError;

/// Writes a file anew that is there, as its owner's and with its permissions.
pub(super) fn replace_atomically(path: &Utf8Path, text: &str) -> Result<(), StackError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let failed = |e| StackError::io("replace", path, e);
    let former = std::fs::metadata(path).map_err(failed)?;
    let temp = Utf8PathBuf::from(format!("{path}.again"));
    write_atomically(&temp, text, former.permissions().mode() & 0o777)?;
    std::os::unix::fs::chown(&temp, Some(former.uid()), Some(former.gid())).map_err(failed)?;
    std::fs::rename(&temp, path).map_err(failed)
}

/// Writes a file under another name first, so that a reader sees all of it or none.
pub(super) fn write_atomically(path: &Utf8Path, text: &str, mode: u32) -> Result<(), StackError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let failed = |e| StackError::io("write", path, e);
    let temp = Utf8PathBuf::from(format!("{path}.new"));
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(mode).open(&temp).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    std::fs::rename(&temp, path).map_err(failed)
}
