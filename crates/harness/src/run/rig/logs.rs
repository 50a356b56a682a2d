//! Servers' logs in the report folder.

use camino::Utf8Path;

use crate::run::RunError;

/// Copies a stack's logs into the report.
pub(crate) fn keep_logs(from: &Utf8Path, to: &Utf8Path) -> Result<(), RunError> {
    std::fs::create_dir_all(to).map_err(RunError::file("create", to))?;
    for entry in from.read_dir_utf8().map_err(RunError::file("read", from))? {
        let entry = entry.map_err(RunError::file("read", from))?;
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(RunError::file("copy", entry.path()))?;
        }
    }
    Ok(())
}
