//! The worker's plugin folder: the fetched plugins, with a schema resolver of the project's own beside the converter, whose
//! class loader must find it. The resolver is compiled here, so a change of it costs a compilation and no download, and
//! the folder of the fetched programs stays as other versions of this program know it.

use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Programs, clients,
    folder::{open_folder, readable},
    programs::jars,
    sums,
};
use crate::stack::{StackError, fixture};

/// The plugin folder that has the converter.
pub(super) const CONVERTER: &str = "debezium-connector-postgres";
/// The plugin folder of Kafka's connector for files.
pub(super) const FILES: &str = "kafka-connect-file";
/// The jar that is added to the converter's folder.
const JAR: &str = "cdc-drill-resolver.jar";
/// Every worker since Kafka 4.0 has at least this.
const RELEASE: &str = "17";

impl Programs {
    /// The cache folder that the plugin folder is in: `plugins-<digest of the fetched programs and of what is compiled>`.
    fn completed(&self) -> Utf8PathBuf {
        let (file, text) = fixture::RESOLVER;
        self.root.with_file_name(format!("plugins-{}", fixture::digest_with(&[RELEASE, file, text])))
    }

    /// The Connect worker's plugin path.
    pub fn plugins(&self) -> Utf8PathBuf {
        self.completed().join("plugins")
    }

    /// Whether the plugin folder is complete; if not, what is missing.
    pub(super) fn plugins_whole(&self) -> Result<(), String> {
        sums::whole(&self.completed())
    }

    /// Makes the plugin folder anew from the fetched programs. `work` is an empty folder on the cache's file system.
    pub(super) fn make_plugins(&self, compiler: &Utf8Path, work: &Utf8Path) -> Result<(), StackError> {
        self.complete(work, |class_path, jar| compile(compiler, class_path, work, jar))
    }

    /// Gives the fetched plugins a second folder and lets `compile` write a jar there, with the class path it may use.
    fn complete(
        &self,
        work: &Utf8Path,
        compile: impl FnOnce(&str, &Utf8Path) -> Result<(), StackError>,
    ) -> Result<(), StackError> {
        let made = work.join("completed");
        let plugins = made.join("plugins");
        open_folder(&made)?;
        let fetched = self.root.join("plugins");
        for file in sums::files(&fetched)?.keys() {
            link(&fetched.join(file), &plugins.join(file))?;
        }
        let class_path = [jars(&fetched.join(CONVERTER))?, self.kafka_class_path()?].join(":");
        compile(&class_path, &plugins.join(CONVERTER).join(JAR))?;
        readable(&made)?;
        sums::stamp(&made)?;
        let completed = self.completed();
        if completed.exists() {
            std::fs::remove_dir_all(&completed).map_err(|e| StackError::io("remove", &completed, e))?;
        }
        std::fs::rename(&made, &completed).map_err(|e| StackError::io("move to", &completed, e))
    }
}

/// The JDK's compiler: that of `JAVA_HOME`, which Maven uses too, else the first on the PATH.
pub(super) fn compiler() -> Result<Utf8PathBuf, StackError> {
    let home = std::env::var("JAVA_HOME").ok().filter(|home| !home.is_empty());
    let of_home = home.map(|home| Utf8PathBuf::from(home).join("bin/javac")).filter(|javac| javac.is_file());
    let hint = "install a JDK, version 17 or later (Debian: `apt-get install default-jdk-headless`)";
    of_home.map_or_else(|| clients::find("the schema resolver's compiler", &["javac"], hint), Ok)
}

/// Gives a file a second name, or copies it where the file system or its protection of other accounts' files forbids that.
fn link(from: &Utf8Path, to: &Utf8Path) -> Result<(), StackError> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(|e| StackError::io("make folder", parent, e))?;
    }
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).map_err(|e| StackError::io("copy", from, e))?;
    }
    Ok(())
}

/// Compiles the resolver into a jar.
fn compile(compiler: &Utf8Path, class_path: &str, work: &Utf8Path, jar: &Utf8Path) -> Result<(), StackError> {
    let (file, text) = fixture::RESOLVER;
    let (source, classes) = (work.join("java").join(file), work.join("classes"));
    if let Some(parent) = source.parent() {
        std::fs::create_dir_all(parent).map_err(|e| StackError::io("make folder", parent, e))?;
    }
    std::fs::write(&source, text).map_err(|e| StackError::io("write", &source, e))?;
    let mut command = Command::new(compiler);
    command.args(["--release", RELEASE, "-proc:none", "-nowarn", "-cp", class_path, "-d", classes.as_str()]);
    let output = command.arg(&source).stdin(Stdio::null()).output().map_err(|e| StackError::io("run", compiler, e))?;
    if !output.status.success() {
        return Err(StackError::Prepare {
            what: format!("compile the schema resolver (it needs a JDK, version {RELEASE} or later)"),
            program: compiler.to_string(),
            status: output.status.to_string(),
            detail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let failed = |e: std::io::Error| StackError::io("write", jar, e);
    let mut zip = zip::ZipWriter::new(File::create(jar).map_err(failed)?);
    for class in sums::files(&classes)?.keys() {
        let path = classes.join(class);
        let bytes = std::fs::read(&path).map_err(|e| StackError::io("read", &path, e))?;
        zip.start_file(class, zip::write::SimpleFileOptions::default()).map_err(|e| failed(e.into()))?;
        zip.write_all(&bytes).map_err(failed)?;
    }
    zip.finish().map_err(|e| failed(e.into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_that_connectors_name_is_the_one_that_is_compiled() {
        let (file, text) = fixture::RESOLVER;
        let (package, class) = fixture::RESOLVER_CLASS.rsplit_once('.').unwrap();
        assert_eq!(file, format!("{}/{class}.java", package.replace('.', "/")));
        assert!(text.contains(&format!("package {package};")) && text.contains(&format!("class {class}<")));
    }

    #[test]
    fn an_older_versions_cache_is_completed_beside_it_and_a_lost_file_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let programs = Programs { root: cache.join("stack-x") };
        for file in ["kafka/k.jar".to_owned(), format!("plugins/{CONVERTER}/a.jar")] {
            let path = programs.root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "jar").unwrap();
        }
        let fetched = sums::files(&programs.root).unwrap();
        assert!(programs.plugins_whole().is_err());
        // Twice: the second time over a damaged one.
        for _ in 0..2 {
            let work = cache.join("work");
            programs
                .complete(&work, |class_path, jar| {
                    assert!(class_path.contains("/a.jar:") && class_path.ends_with("/k.jar"), "{class_path}");
                    std::fs::write(jar, "made").map_err(|e| StackError::io("write", jar, e))
                })
                .unwrap();
            programs.plugins_whole().unwrap();
            let there = sums::files(&programs.plugins()).unwrap();
            assert_eq!(
                there.into_keys().collect::<Vec<_>>(),
                [format!("{CONVERTER}/a.jar"), format!("{CONVERTER}/{JAR}")]
            );
            assert_eq!(sums::files(&programs.root).unwrap(), fetched);
            std::fs::remove_file(programs.plugins().join(CONVERTER).join(JAR)).unwrap();
            assert!(programs.plugins_whole().unwrap_err().contains(JAR));
        }
    }
}
