//! The Java servers: their folders, settings and command lines.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    folder::{ServerPlan, write_atomically},
    java::{Aot, JavaServer},
    postgres::environment,
    spec::{RegistrySpec, RegistryStorageKind, WorkerSpec},
};
use crate::{
    config::RegistryStorage,
    stack::{Account, Programs, StackError, connector::CONVERTER_JVM, fixture},
};

/// What all of them need to know.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) dir: &'a Utf8Path,
    pub(super) programs: &'a Programs,
    pub(super) account: &'a Account,
    pub(super) aot: Aot,
}

/// One broker of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Broker<'a> {
    /// Its number, from 1.
    pub node: u16,
    /// Where it listens.
    pub port: u16,
    /// Where the first one listens as the controller.
    pub controller_port: u16,
    /// The cluster's id.
    pub cluster: &'a str,
}

/// The first of several servers has the plain name.
pub(in crate::stack) fn numbered(name: &str, number: u16) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

impl Site<'_> {
    fn home(&self, name: &str) -> Result<Utf8PathBuf, StackError> {
        let home = self.dir.join(name);
        self.account.folder(&home)?;
        Ok(home)
    }

    fn tmp(&self) -> Utf8PathBuf {
        self.dir.join("tmp")
    }

    pub(super) fn log(&self, name: &str) -> Utf8PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    fn plan(&self, name: &str, home: Utf8PathBuf, argv: Vec<String>, endpoint: String, ports: Vec<u16>) -> ServerPlan {
        ServerPlan {
            name: name.to_owned(),
            argv,
            env: environment(&home),
            cwd: home,
            log: self.log(name),
            endpoint,
            ports,
            stop_signal: "SIGTERM".to_owned(),
            end_signal: "SIGKILL".to_owned(),
            account: self.account.clone(),
            container: None,
        }
    }

    fn logging(&self, home: &Utf8Path) -> Result<String, StackError> {
        let path = home.join("log4j2.properties");
        write_atomically(&path, fixture::LOG4J, 0o644)?;
        Ok(format!("-Dlog4j2.configurationFile={path}"))
    }

    /// A broker of `cluster`; the first one is the controller too.
    pub(super) fn kafka(&self, broker: &Broker<'_>, settings: &[(String, String)]) -> Result<ServerPlan, StackError> {
        let Broker { node, port, controller_port, cluster } = *broker;
        let name = numbered("kafka", node);
        let home = self.home(&name)?;
        let data = home.join("data");
        self.account.folder(&data)?;
        self.format_kafka(&data, cluster, node)?;
        let path = home.join("server.properties");
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let (mut roles, mut ports) = ("broker", vec![port]);
        if node == 1 {
            listeners.push_str(&format!(",CONTROLLER://127.0.0.1:{controller_port}"));
            roles = "broker,controller";
            ports.push(controller_port);
        }
        let (port_text, controller_text, node_text) = (port.to_string(), controller_port.to_string(), node.to_string());
        let values = [
            ("roles", roles),
            ("node", &node_text),
            ("listeners", &listeners),
            ("port", &port_text),
            ("controller_port", &controller_text),
            ("data", data.as_str()),
        ];
        let more: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        write_atomically(&path, &fixture::render(&format!("{}{more}", fixture::KAFKA), &values)?, 0o644)?;
        let properties = [self.logging(&home)?];
        let argv = JavaServer::Kafka.argv(self.programs, &self.aot, &self.tmp(), &properties, &[path.into_string()])?;
        Ok(self.plan(&name, home, argv, format!("127.0.0.1:{port}"), ports))
    }

    /// What `kafka-storage format` does, without the second that its JVM takes: the identity of cluster and folder.
    fn format_kafka(&self, data: &Utf8Path, cluster: &str, node: u16) -> Result<(), StackError> {
        let text = format!("version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={}\n", kafka_uuid());
        let path = data.join("meta.properties");
        write_atomically(&path, &text, 0o644)?;
        self.account.give(&path)
    }

    /// A Connect worker.
    pub(super) fn connect(
        &self,
        spec: &WorkerSpec,
        number: u16,
        port: u16,
        bootstrap: &str,
    ) -> Result<ServerPlan, StackError> {
        let name = numbered("connect", number);
        let home = self.home(&name)?;
        let settings = home.join("connect.properties");
        let mut plugins = self.programs.plugins().into_string();
        // Plugins of other people need not declare themselves.
        let mut discovery = "service_load";
        if !spec.plugins.is_empty() {
            let own = home.join("plugins");
            self.copy_plugins(&spec.plugins, &own)?;
            plugins = format!("{plugins},{own}");
            discovery = "hybrid_warn";
        }
        let (port_text, [configs, offsets, status]) = (port.to_string(), spec.topics());
        let values = [
            ("port", port_text.as_str()),
            ("bootstrap", bootstrap),
            ("plugins", &plugins),
            ("discovery", discovery),
            ("group", &spec.group),
            ("configs", &configs),
            ("offsets", &offsets),
            ("status", &status),
        ];
        write_atomically(&settings, &fixture::render(fixture::CONNECT, &values)?, 0o644)?;
        let properties = [self.logging(&home)?, CONVERTER_JVM.to_owned()];
        let argv =
            JavaServer::Connect.argv(self.programs, &self.aot, &self.tmp(), &properties, &[settings.into_string()])?;
        Ok(self.plan(&name, home, argv, format!("http://127.0.0.1:{port}"), vec![port]))
    }

    /// Copies folders of jars to where the worker's account can read them.
    fn copy_plugins(&self, folders: &[Utf8PathBuf], own: &Utf8Path) -> Result<(), StackError> {
        self.account.folder(own)?;
        for (number, folder) in folders.iter().enumerate() {
            // Two folders may have one name.
            let to = own.join(format!("{number}-{}", folder.file_name().unwrap_or("plugin")));
            self.account.folder(&to)?;
            let mut jars = 0;
            for entry in folder.read_dir_utf8().map_err(|e| StackError::io("list", folder, e))? {
                let path = entry.map_err(|e| StackError::io("list", folder, e))?.into_path();
                if path.extension() == Some("jar") {
                    let copy = to.join(path.file_name().unwrap_or_default());
                    std::fs::copy(&path, &copy).map_err(|e| StackError::io("copy", &path, e))?;
                    self.account.give(&copy)?;
                    jars += 1;
                }
            }
            if jars == 0 {
                return Err(StackError::Setting {
                    what: format!("plugin folder {folder}"),
                    expected: "jars in it".to_owned(),
                    found: "none".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The registry, with what a recovery must know of its store.
    pub(super) fn registry(
        &self,
        spec: &RegistrySpec,
        port: u16,
        management_port: u16,
        bootstrap: Option<&str>,
    ) -> Result<(ServerPlan, RegistryStorage), StackError> {
        let home = self.home("registry")?;
        let storage = registry_storage(spec, &home);
        let argv = JavaServer::Registry.argv(self.programs, &self.aot, &self.tmp(), &[], &[])?;
        let tmp = self.tmp();
        let mut plan =
            self.plan("registry", home, argv, format!("http://127.0.0.1:{port}"), vec![port, management_port]);
        plan.env.extend(registry_environment(spec, &storage, &tmp, bootstrap)?);
        let loopback = "127.0.0.1";
        for (name, value) in [
            ("QUARKUS_HTTP_HOST", loopback),
            ("QUARKUS_MANAGEMENT_HOST", loopback),
            ("QUARKUS_HTTP_PORT", &port.to_string()),
            ("QUARKUS_MANAGEMENT_PORT", &management_port.to_string()),
        ] {
            plan.env.insert(name.to_owned(), value.to_owned());
        }
        Ok((plan, storage))
    }
}

/// A registry's environment, but for where it listens. `tmp` is a folder for its temporary files.
pub(in crate::stack) fn registry_environment(
    spec: &RegistrySpec,
    storage: &RegistryStorage,
    tmp: &Utf8Path,
    bootstrap: Option<&str>,
) -> Result<BTreeMap<String, String>, StackError> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    for (name, value) in REGISTRY_SETTINGS {
        set(name, value);
    }
    set("APICURIO_IMPORT_WORK_DIR", tmp.as_str());
    set("APICURIO_STORAGE_SNAPSHOT_LOCATION", tmp.as_str());
    match storage {
        RegistryStorage::H2 { path } => {
            set("APICURIO_STORAGE_KIND", "sql");
            set("APICURIO_STORAGE_SQL_KIND", "h2");
            set("APICURIO_DATASOURCE_URL", &format!("jdbc:h2:file:{path}"));
        }
        RegistryStorage::Kafkasql { topics } => {
            let bootstrap = bootstrap.ok_or_else(|| StackError::Setting {
                what: "registry storage kafkasql".to_owned(),
                expected: "a broker in the stack".to_owned(),
                found: "none".to_owned(),
            })?;
            set("APICURIO_STORAGE_KIND", "kafkasql");
            set("APICURIO_KAFKASQL_BOOTSTRAP_SERVERS", bootstrap);
            // The default of 5 s is waited in full at every start.
            set("APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT", "100");
            let names = ["APICURIO_KAFKASQL_TOPIC", "APICURIO_KAFKASQL_SNAPSHOTS_TOPIC", "APICURIO_EVENTS_KAFKA_TOPIC"];
            for (name, topic) in names.iter().zip(topics) {
                set(name, topic);
            }
            set("APICURIO_KAFKASQL_CONSUMER_GROUP_PREFIX", &format!("{}apicurio-", spec.topic_prefix));
        }
    }
    Ok(env)
}

/// Keeps few database sessions, and lets subjects be deleted: registry damage needs it.
const REGISTRY_SETTINGS: [(&str, &str); 8] = [
    ("QUARKUS_LOG_CONSOLE_COLOR", "false"),
    ("QUARKUS_BANNER_ENABLED", "false"),
    ("QUARKUS_LOG_CONSOLE_FORMAT", "%d{yyyy-MM-dd HH:mm:ss.SSS} %-5p %c{2.}: %s%e%n"),
    ("QUARKUS_HTTP_ACCESS_LOG_ENABLED", "false"),
    ("APICURIO_REST_DELETION_ARTIFACT_ENABLED", "true"),
    ("APICURIO_REST_DELETION_ARTIFACT_VERSION_ENABLED", "true"),
    ("APICURIO_REST_DELETION_GROUP_ENABLED", "true"),
    ("APICURIO_DATASOURCE_JDBC_INITIAL_SIZE", "2"),
];

pub(in crate::stack) fn registry_storage(spec: &RegistrySpec, home: &Utf8Path) -> RegistryStorage {
    match spec.storage {
        RegistryStorageKind::H2 => RegistryStorage::H2 { path: home.join("db") },
        RegistryStorageKind::Kafkasql => {
            let names = ["kafkasql-journal", "kafkasql-snapshots", "registry-events"];
            RegistryStorage::Kafkasql { topics: names.iter().map(|n| format!("{}{n}", spec.topic_prefix)).collect() }
        }
    }
}

/// A random id as Kafka writes it: 16 bytes in URL-safe base64. One that begins with a dash would be an option to its tools.
pub(super) fn kafka_uuid() -> String {
    use base64::Engine;
    loop {
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        if !text.starts_with('-') {
            return text;
        }
    }
}
