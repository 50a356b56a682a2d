//! The program that replay runs to fetch archived WAL.

use camino::Utf8PathBuf;

use crate::{backup::is_there, recovery::RecoveryError};

/// Names the program that archives and fetches WAL.
const PROGRAM_VARIABLE: &str = "CDC_DRILL_BIN";

/// The program that replay runs to fetch WAL: named, or beside this executable, or one folder above (a test's).
pub(crate) fn program() -> Result<Utf8PathBuf, RecoveryError> {
    if let Ok(named) = std::env::var(PROGRAM_VARIABLE) {
        return Ok(Utf8PathBuf::from(named));
    }
    let me = std::env::current_exe().ok().and_then(|p| Utf8PathBuf::from_path_buf(p).ok());
    let folders = me.iter().flat_map(|p| p.ancestors().skip(1).take(2)).map(|f| f.join("cdc-drill"));
    let looked: Vec<Utf8PathBuf> = folders.collect();
    for place in &looked {
        if is_there(place)? {
            return Ok(place.clone());
        }
    }
    Err(RecoveryError::impossible(
        "program that fetches archived WAL",
        format!("cdc-drill at {}", looked.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" or ")),
        "none",
        format!("name it in {PROGRAM_VARIABLE}"),
    ))
}
