//! The file with the identity that opens a repository. Its content is never printed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::{Mutex, PoisonError},
};

use age::x25519::Identity;
use camino::{Utf8Path, Utf8PathBuf};

/// Names the file where no configuration does: in the environment of a server that archives and replays.
const VARIABLE: &str = "CDC_DRILL_IDENTITY";

/// By repository, the file that a configuration names.
static NAMED: Mutex<BTreeMap<Utf8PathBuf, Utf8PathBuf>> = Mutex::new(BTreeMap::new());

/// Lets this process read a repository with the identity in a file.
pub(crate) fn name_identity(root: &Utf8Path, file: &Utf8Path) {
    NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned(), file.to_owned());
}

/// The file with the identity to a repository; none where nobody names one.
pub(super) fn file_of(root: &Utf8Path) -> Option<Utf8PathBuf> {
    let named = NAMED.lock().unwrap_or_else(PoisonError::into_inner).get(root).cloned();
    named.or_else(|| std::env::var(VARIABLE).ok().filter(|file| !file.is_empty()).map(Utf8PathBuf::from))
}

/// Why an account cannot read a file that only its owner can read; none where it can.
pub(super) fn unreadable_for(file: &Utf8Path, uid: u32) -> Result<Option<String>, std::io::Error> {
    let owner = fs::metadata(file)?.uid();
    Ok((uid != 0 && owner != uid).then(|| format!("identity file {file} belongs to uid {owner}")))
}

/// The identities in a file, as `age-keygen` writes it, or why it cannot be used and what to do.
pub(super) fn read(file: &Utf8Path) -> Result<Vec<Identity>, (String, String)> {
    let readable = || format!("it has to be there for the account that runs this program: {file}");
    let meta = fs::metadata(file).map_err(|e| (format!("identity file {file}: {e}"), readable()))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("identity file {file}: expected one that only its owner can read (0600), found {mode:04o}");
        return Err((why, format!("`chmod 600 {file}`; who could read it can read the backups")));
    }
    let text = fs::read_to_string(file).map_err(|e| (format!("identity file {file}: {e}"), readable()))?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        // What is in the line may be secret.
        let identity = line.trim().parse::<Identity>().map_err(|_| {
            let why = format!(
                "identity file {file}: expected `AGE-SECRET-KEY-1…` in line {}, found another text",
                number + 1
            );
            (why, "`age-keygen -o FILE` makes one".to_owned())
        })?;
        found.push(identity);
    }
    match found.is_empty() {
        true => Err((format!("identity file {file}: it has no identity"), "`age-keygen -o FILE` makes one".to_owned())),
        false => Ok(found),
    }
}
