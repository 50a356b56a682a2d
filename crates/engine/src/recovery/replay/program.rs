//! The program that replay runs to fetch archived WAL.

use camino::Utf8PathBuf;

use super::Coordinated;
use crate::{
    backup::is_there,
    recovery::{RecoveryError, server::copy_reachable},
};

/// Names the program that archives and fetches WAL.
const PROGRAM_VARIABLE: &str = "CDC_DRILL_BIN";

impl Coordinated {
    /// Puts the program that fetches WAL where the restored server can run it. One that runs somewhere else finds its WAL
    /// laid out instead.
    pub(crate) fn place_archiver(&mut self) -> Result<(), RecoveryError> {
        if self.tools.elsewhere() {
            return Ok(());
        }
        let beside = self.pgdata.with_file_name(".cdc-drill");
        self.archiver = copy_reachable(&self.archiver, &self.owner, &self.tools, &beside)?;
        Ok(())
    }
}

/// The program that replay runs to fetch WAL: named, or beside this executable, or one folder above (a test's).
pub(super) fn program() -> Result<Utf8PathBuf, RecoveryError> {
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
