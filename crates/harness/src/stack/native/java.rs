//! How the Java servers are called. The flags are chosen for two cores and for less than 2 GiB in all, and they are part of
//! what a Java AOT cache is valid for.

use camino::{Utf8Path, Utf8PathBuf};

use crate::stack::{Programs, StackError};

/// A Java server's fixed part.
#[derive(Clone, Copy, Debug)]
pub(in crate::stack) enum JavaServer {
    /// The broker.
    Kafka,
    /// The Connect worker.
    Connect,
    /// The registry.
    Registry,
}

/// The serial collector needs the least memory and no threads of its own; no performance data files in the shared temp folder.
const COMMON: [&str; 4] =
    ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"];

impl JavaServer {
    /// All of them.
    pub(in crate::stack) const ALL: [JavaServer; 3] = [JavaServer::Kafka, JavaServer::Connect, JavaServer::Registry];

    /// The server's name in a stack.
    pub(in crate::stack) fn name(self) -> &'static str {
        match self {
            JavaServer::Kafka => "kafka",
            JavaServer::Connect => "connect",
            JavaServer::Registry => "registry",
        }
    }

    fn own_flags(self) -> &'static [&'static str] {
        match self {
            // It copies bytes; what the optimizing compiler could gain in a run, its own work costs.
            JavaServer::Kafka => &["-Xms96m", "-Xmx320m", "-XX:TieredStopAtLevel=1"],
            // In a run of minutes the optimizing compiler takes a fifth of the worker's time and gives back less. A young
            // generation of its full size from the start: one that grows is collected hundreds of times first.
            JavaServer::Connect => &["-Xms192m", "-Xmn112m", "-Xmx288m", "-XX:TieredStopAtLevel=1"],
            // Asked a few thousand times in a run: as the broker. Without the opened package a worker thread of the
            // registry's pool dies on Java 24 and later when it clears its thread locals, and a request given to it is
            // never answered: seen as requests that hang until they time out, one in a few thousand.
            JavaServer::Registry => {
                &["-Xms64m", "-Xmx112m", "-XX:TieredStopAtLevel=1", "--add-opens=java.base/java.lang=ALL-UNNAMED"]
            }
        }
    }

    /// The flags that a Java AOT cache is made with and used with.
    pub(in crate::stack) fn flags(self) -> Vec<String> {
        COMMON.iter().chain(self.own_flags()).map(|f| (*f).to_owned()).collect()
    }

    /// What is run: class path and main class.
    pub(in crate::stack) fn program(self, programs: &Programs) -> Result<Vec<String>, StackError> {
        let (class_path, main) = match self {
            JavaServer::Kafka => (programs.kafka_class_path()?, "kafka.Kafka"),
            JavaServer::Connect => (programs.kafka_class_path()?, "org.apache.kafka.connect.cli.ConnectDistributed"),
            JavaServer::Registry => (programs.registry_class_path()?, "io.quarkus.runner.GeneratedMain"),
        };
        Ok(vec!["-cp".to_owned(), class_path, main.to_owned()])
    }

    /// The whole command line. `properties` are `-D` settings, which do not touch the AOT cache.
    pub(super) fn argv(
        self,
        programs: &Programs,
        aot: &Aot,
        tmp: &Utf8Path,
        properties: &[String],
        arguments: &[String],
    ) -> Result<Vec<String>, StackError> {
        let mut argv = vec![programs.java().into_string()];
        argv.extend(self.flags());
        match aot {
            Aot::Use => {
                let cache = programs.aot_cache(self)?;
                if cache.is_file() {
                    argv.push(format!("-XX:AOTCache={cache}"));
                } else {
                    tracing::info!(server = self.name(), "no Java AOT cache: a slower start");
                }
            }
            Aot::Record => argv.push(format!("-XX:AOTCacheOutput={}", recorded(tmp, self))),
        }
        argv.push(format!("-Djava.io.tmpdir={tmp}"));
        argv.extend(properties.iter().cloned());
        argv.extend(self.program(programs)?);
        argv.extend(arguments.iter().cloned());
        Ok(argv)
    }
}

/// What a Java server does with its AOT cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aot {
    /// Starts from it, when it is there.
    Use,
    /// Writes one into the temp folder when it ends.
    Record,
}

/// Where a server that records leaves its cache.
pub(super) fn recorded(tmp: &Utf8Path, server: JavaServer) -> Utf8PathBuf {
    tmp.join(format!("{}.aot", server.name()))
}
