//! Files of a stack.

use camino::{Utf8Path, Utf8PathBuf};

use super::StackError;

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
