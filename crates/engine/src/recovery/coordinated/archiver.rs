//! The program that replay runs, where the restored server can run it.

use super::Coordinated;
use crate::recovery::{RecoveryError, server::copy_reachable};

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
