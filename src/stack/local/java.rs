//! How the Java servers are called. The flags are chosen for two cores and for less than 2 GiB in all, and they are part of
//! what a Java AOT cache is valid for.

use camino::Utf8Path;

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
const COMMON: [&str; 4] = ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"];

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

    fn heap(self) -> [&'static str; 2] {
        match self {
            JavaServer::Kafka => ["-Xms96m", "-Xmx320m"],
            JavaServer::Connect => ["-Xms96m", "-Xmx512m"],
            JavaServer::Registry => ["-Xms64m", "-Xmx256m"],
        }
    }

    /// The flags that a Java AOT cache is made with and used with.
    pub(in crate::stack) fn flags(self) -> Vec<String> {
        COMMON.iter().chain(&self.heap()).map(|f| (*f).to_owned()).collect()
    }

    /// What is run: class path and main class.
    pub(in crate::stack) fn program(self, programs: &Programs) -> Result<Vec<String>, StackError> {
        Ok(match self {
            JavaServer::Kafka => vec!["-cp".into(), programs.kafka_class_path()?, "kafka.Kafka".into()],
            JavaServer::Connect => {
                vec!["-cp".into(), programs.kafka_class_path()?, "org.apache.kafka.connect.cli.ConnectDistributed".into()]
            }
            JavaServer::Registry => vec!["-jar".into(), programs.registry().join("quarkus-run.jar").into_string()],
        })
    }

    /// The whole command line. `properties` are `-D` settings, which do not touch the AOT cache.
    pub(super) fn argv(self, programs: &Programs, tmp: &Utf8Path, properties: &[String], arguments: &[String]) -> Result<Vec<String>, StackError> {
        let mut argv = vec![programs.java().into_string()];
        argv.extend(self.flags());
        argv.push(format!("-Djava.io.tmpdir={tmp}"));
        argv.extend(properties.iter().cloned());
        argv.extend(self.program(programs)?);
        argv.extend(arguments.iter().cloned());
        Ok(argv)
    }
}
