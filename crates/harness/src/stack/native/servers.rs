//! The Java servers: their folders, settings and command lines.

use camino::{Utf8Path, Utf8PathBuf};

use super::java::{Aot, JavaServer};
use crate::stack::{
    Account, Programs, StackError,
    connector::CONVERTER_JVM,
    fixture,
    plan::{
        Broker, RegistrySpec, ServerPlan, WorkerSpec, environment, kafka_uuid, numbered, registry_environment,
        registry_storage,
    },
    write::write_atomically,
};
use cdc_pipeline::config::RegistryStorage;

/// What all of them need to know.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) dir: &'a Utf8Path,
    pub(super) programs: &'a Programs,
    pub(super) account: &'a Account,
    pub(super) aot: Aot,
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
