//! Java AOT caches: what a Java server loads and links at start, written down once. They halve start-up and are valid for
//! one runtime, one class path and one set of flags, which is why their names hold a digest of those and of what the
//! servers did meanwhile.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use sha2::{Digest, Sha256};

use super::Programs;
use crate::stack::{StackError, native::JavaServer};
use cdc_model::units::hex;

/// Which set of requests the servers were asked while they recorded; another set, another number.
const EXERCISE: &str = "2";

impl Programs {
    /// Where the cache of one server is, or would be.
    pub(in crate::stack) fn aot_cache(&self, server: JavaServer) -> Result<Utf8PathBuf, StackError> {
        let mut sha = Sha256::new();
        let words = server.flags().into_iter().chain(server.program(self)?);
        for word in words.chain([EXERCISE.to_owned()]) {
            sha.update(word);
            sha.update([0]);
        }
        let digest = &hex(&sha.finalize())[..12];
        Ok(self.root.join("aot").join(format!("{}-{digest}.aot", server.name())))
    }

    /// The caches that are there, by server.
    pub(crate) fn aot_caches(&self) -> Result<BTreeMap<&'static str, Utf8PathBuf>, StackError> {
        let mut there = BTreeMap::new();
        for server in JavaServer::ALL {
            let path = self.aot_cache(server)?;
            if path.is_file() {
                there.insert(server.name(), path);
            }
        }
        Ok(there)
    }

    /// The servers that have no cache yet.
    pub(in crate::stack) fn missing_aot_caches(&self) -> Vec<&'static str> {
        let there = |server: &JavaServer| self.aot_cache(*server).is_ok_and(|path| path.is_file());
        JavaServer::ALL.iter().filter(|s| !there(s)).map(|s| s.name()).collect()
    }
}
