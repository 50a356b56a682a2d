//! The stacks that are alive.

use std::sync::{Arc, Mutex};

use camino::Utf8Path;

use crate::stack::{Folder, pss_bytes_of};

/// The stacks that are alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census(Arc<Mutex<Vec<Folder>>>);

impl Census {
    /// Counts a stack from now on.
    pub(crate) fn add(&self, folder: &Folder) {
        if let Ok(mut all) = self.0.lock() {
            all.push(folder.clone());
        }
    }

    /// Counts it no more.
    pub(crate) fn remove(&self, dir: &Utf8Path) {
        if let Ok(mut all) = self.0.lock() {
            all.retain(|f| f.dir() != dir);
        }
    }

    /// Of everything: this program, what it runs, and the servers, which a recovery may have started by its hooks.
    pub(crate) fn pss_bytes(&self) -> u64 {
        let all = self.0.lock().map(|a| a.clone()).unwrap_or_default();
        let servers = all.iter().flat_map(Folder::roots);
        pss_bytes_of(servers.chain([std::process::id() as i32]))
    }
}
