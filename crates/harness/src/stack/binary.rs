//! Finds the `cdc-drill` program: it supervises servers and archives WAL, also when the library runs in another program.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Account, StackError};

/// For a process of this program that holds little: its allocator asks for huge pages otherwise, which makes 5 MiB of it 11.
pub(super) const SMALL: (&str, &str) = ("MIMALLOC_ALLOW_THP", "0");

/// Names the program.
const BIN_VARIABLE: &str = "CDC_DRILL_BIN";
pub(super) const NAME: &str = "cdc-drill";

/// Finds the program: by explicit path, by `CDC_DRILL_BIN`, or as, beside or one above the current executable (tests lie
/// one below it).
pub fn find_binary(explicit: Option<&Utf8Path>) -> Result<Utf8PathBuf, StackError> {
    let named = explicit.map(Utf8Path::to_owned).or_else(|| std::env::var(BIN_VARIABLE).ok().map(Utf8PathBuf::from));
    if let Some(path) = named {
        return match camino::absolute_utf8(&path) {
            Ok(full) if full.is_file() => Ok(full),
            _ => Err(StackError::Binary { detail: format!("{path} is not a file") }),
        };
    }
    let own = std::env::current_exe().map_err(|e| StackError::Binary { detail: format!("the own executable: {e}") })?;
    let own = Utf8PathBuf::from_path_buf(own)
        .map_err(|p| StackError::Binary { detail: format!("{} is not UTF-8", p.display()) })?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(NAME)).find(|p| p.is_file());
    if own.file_name() == Some(NAME) { Some(own.clone()) } else { beside }.ok_or_else(|| StackError::Binary {
        detail: format!("{BIN_VARIABLE} is not set, and there is no {NAME} beside or above {own}"),
    })
}

/// The program where the servers' account can run it: as it is, or linked (else copied) into `folder`, in the place of what another
/// program has left there.
pub(super) fn reachable_binary(
    binary: &Utf8Path,
    account: &Account,
    folder: &Utf8Path,
) -> Result<Utf8PathBuf, StackError> {
    if !account.drop || account.blocked_at(binary)?.is_none() {
        return Ok(binary.to_owned());
    }
    let copy = folder.join(NAME);
    if !is_same(binary, &copy)? {
        if copy.exists() {
            std::fs::remove_file(&copy).map_err(|e| StackError::io("remove", &copy, e))?;
        }
        crate::stack::fetch::open_folder(folder)?;
        // A link costs nothing; another file system, or a file that others may not read, needs a copy.
        let linked = std::fs::hard_link(binary, &copy).is_ok() && account.blocked_at(&copy)?.is_none();
        if !linked {
            let _ = std::fs::remove_file(&copy);
            std::fs::copy(binary, &copy).map_err(|e| StackError::io("copy the program to", &copy, e))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&copy, mode).map_err(|e| StackError::io("open", &copy, e))?;
        }
    }
    account.must_reach(&copy)?;
    Ok(copy)
}

/// Whether both files hold the same program.
fn is_same(binary: &Utf8Path, copy: &Utf8Path) -> Result<bool, StackError> {
    if !copy.exists() {
        return Ok(false);
    }
    let read = |path: &Utf8Path| std::fs::read(path).map_err(|e| StackError::io("read", path, e));
    Ok(read(binary)? == read(copy)?)
}
