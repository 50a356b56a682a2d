//! The servers' containers: environment and folders, by what the official images document.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, process::Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Images,
    engine::{engine, require_image},
    images::Server,
    sweep::sweep,
};
use crate::stack::{
    Backend, Place, Progress, StackError,
    connector::CONVERTER_JVM,
    fixture,
    plan::{
        Broker, CONTAINER_PORT as POSTGRES_PORT, Cluster, ContainerPlan, Initdb, Network, PostgresSpec, RegistrySpec,
        ServerPlan, WorkerSpec, numbered, registry_environment, registry_storage,
    },
};
use cdc_model::units::Secret;
use cdc_pipeline::config::RegistryStorage;

/// Ports inside the containers.
const KAFKA_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;
const CONNECT_PORT: u16 = 8083;
const REGISTRY_PORT: u16 = 8080;
/// The client that calls PostgreSQL's programs.
const CLIENT: &str = "docker";
/// The same heaps as the local backend's.
const KAFKA_HEAP: &str = "-Xms96m -Xmx320m";
const CONNECT_HEAP: &str = "-Xms192m -Xmn112m -Xmx288m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";
const REGISTRY_JAVA: &str =
    "-Xms64m -Xmx112m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 --add-opens=java.base/java.lang=ALL-UNNAMED";
/// A server that starts often and lives for minutes gains nothing from the optimizing compiler.
const QUICK_JAVA: &str = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// Containers of this machine's Docker engine, on a network of their own.
#[derive(Debug)]
pub struct Docker {
    images: Images,
    network: Network,
}

impl Docker {
    /// Asks whether the engine answers, gets the images, removes what earlier runs left, and makes the network.
    pub async fn open(name: &str, progress: &dyn Progress) -> Result<Docker, StackError> {
        let docker = engine().await?;
        require_client()?;
        let images = Images::from_environment();
        for server in Server::ALL {
            let image = images.of(server);
            require_image(&docker, image, server.word(), server.variable(), progress).await?;
        }
        sweep(&docker).await?;
        let network = Network::make(&docker, &format!("cdc-drill-{name}")).await?;
        Ok(Docker { images, network })
    }

    /// A container's name, which is its host name on the network.
    fn name(&self, place: &Place<'_>, server: &str) -> String {
        let stack = place.dir.file_name().unwrap_or("stack");
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let name: String = format!("{stack}-{server}").chars().map(plain).collect();
        format!("{}-{name}", self.network.name)
    }

    fn container(&self, place: &Place<'_>, server: &str, image: Server, ports: (u16, u16)) -> ContainerPlan {
        ContainerPlan {
            name: self.name(place, server),
            image: self.images.of(image).to_owned(),
            network: self.network.clone(),
            ports: vec![ports],
            folders: Vec::new(),
            user: None,
        }
    }

    fn plan(&self, place: &Place<'_>, server: &str, endpoint: String, container: ContainerPlan) -> ServerPlan {
        ServerPlan {
            name: server.to_owned(),
            argv: Vec::new(),
            env: BTreeMap::new(),
            cwd: place.dir.to_owned(),
            log: place.dir.join("logs").join(format!("{server}.log")),
            endpoint,
            ports: container.ports.iter().map(|(outside, _)| *outside).collect(),
            stop_signal: "SIGTERM".to_owned(),
            end_signal: "SIGKILL".to_owned(),
            account: place.account.clone(),
            container: Some(container),
        }
    }
}

impl Drop for Docker {
    /// A network that no container came to use is removed; one in use is refused, and the last of its containers takes it along.
    fn drop(&mut self) {
        let mut command = std::process::Command::new(CLIENT);
        command.args(["network", "rm", &self.network.name]).stdin(Stdio::null());
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl Backend for Docker {
    fn broker(
        &self,
        place: &Place<'_>,
        broker: &Broker<'_>,
        settings: &[(String, String)],
    ) -> Result<ServerPlan, StackError> {
        let server = numbered("kafka", broker.node);
        let data = place.dir.join(&server);
        place.account.folder(&data)?;
        // The image runs as an account of its own.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&data, open).map_err(|e| StackError::io("open", &data, e))?;
        let mut container = self.container(place, &server, Server::Kafka, (broker.port, KAFKA_PORT));
        container.folders.push((data, "/var/lib/kafka/data".into()));
        let endpoint = format!("{}:{}", self.network.gateway, broker.port);
        let mut plan = self.plan(place, &server, endpoint.clone(), container);
        let own = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed(fixture::KAFKA).chain(own) {
            plan.env.insert(format!("KAFKA_{}", variable(name)), value.to_owned());
        }
        let mut listeners = format!("PLAINTEXT://:{KAFKA_PORT}");
        let mut roles = "broker";
        if broker.node == 1 {
            listeners.push_str(&format!(",CONTROLLER://:{CONTROLLER_PORT}"));
            roles = "broker,controller";
        }
        for (name, value) in [
            ("CLUSTER_ID", broker.cluster.to_owned()),
            ("KAFKA_NODE_ID", broker.node.to_string()),
            ("KAFKA_PROCESS_ROLES", roles.to_owned()),
            ("KAFKA_LISTENERS", listeners),
            ("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://{endpoint}")),
            ("KAFKA_CONTROLLER_QUORUM_VOTERS", format!("1@{}:{CONTROLLER_PORT}", self.name(place, "kafka"))),
            ("KAFKA_LOG_DIRS", "/var/lib/kafka/data".to_owned()),
            ("KAFKA_HEAP_OPTS", KAFKA_HEAP.to_owned()),
            ("KAFKA_JVM_PERFORMANCE_OPTS", QUICK_JAVA.to_owned()),
        ] {
            plan.env.insert(name.to_owned(), value);
        }
        Ok(plan)
    }

    fn worker(
        &self,
        place: &Place<'_>,
        spec: &WorkerSpec,
        number: u16,
        port: u16,
        bootstrap: &str,
    ) -> Result<ServerPlan, StackError> {
        let server = numbered("connect", number);
        let mut container = self.container(place, &server, Server::Connect, (port, CONNECT_PORT));
        for (count, folder) in spec.plugins.iter().enumerate() {
            let folder = folder.canonicalize_utf8().map_err(|e| StackError::io("find plugin folder", folder, e))?;
            let inside = format!("/kafka/connect/{count}-{}", folder.file_name().unwrap_or("plugin"));
            container.folders.push((folder, inside.into()));
        }
        let endpoint = format!("http://{}:{port}", self.network.gateway);
        let mut plan = self.plan(place, &server, endpoint, container);
        for (name, value) in fixed(fixture::CONNECT) {
            plan.env.insert(format!("CONNECT_{}", variable(name)), value.to_owned());
        }
        // Plugins of other people need not declare themselves.
        let discovery = if spec.plugins.is_empty() { "service_load" } else { "hybrid_warn" };
        let [configs, offsets, status] = spec.topics();
        for (name, value) in [
            ("BOOTSTRAP_SERVERS", bootstrap),
            ("GROUP_ID", &spec.group),
            ("CONFIG_STORAGE_TOPIC", &configs),
            ("OFFSET_STORAGE_TOPIC", &offsets),
            ("STATUS_STORAGE_TOPIC", &status),
            ("CONNECT_PLUGIN_DISCOVERY", discovery),
            ("ENABLE_APICURIO_CONVERTERS", "true"),
            ("HEAP_OPTS", &format!("{CONNECT_HEAP} {CONVERTER_JVM}")),
        ] {
            plan.env.insert(name.to_owned(), value.to_owned());
        }
        Ok(plan)
    }

    fn registry(
        &self,
        place: &Place<'_>,
        spec: &RegistrySpec,
        ports: [u16; 2],
        bootstrap: Option<&str>,
    ) -> Result<(ServerPlan, RegistryStorage), StackError> {
        let (home, tmp) = (place.dir.join("registry"), place.dir.join("tmp"));
        place.account.folder(&home)?;
        let storage = registry_storage(spec, &home);
        let mut container = self.container(place, "registry", Server::Registry, (ports[0], REGISTRY_PORT));
        container.folders = vec![same(&home), same(&tmp)];
        // A recovery sets its store aside, so its files belong to the account that everything here belongs to.
        container.user = Some(format!("{}:{}", place.account.uid, place.account.gid));
        let endpoint = format!("http://{}:{}", self.network.gateway, ports[0]);
        let mut plan = self.plan(place, "registry", endpoint, container);
        plan.env = registry_environment(spec, &storage, &tmp, bootstrap)?;
        plan.env.insert("QUARKUS_HTTP_HOST".to_owned(), "0.0.0.0".to_owned());
        plan.env.insert("JAVA_OPTS_APPEND".to_owned(), format!("{REGISTRY_JAVA} -Djava.io.tmpdir={tmp}"));
        Ok((plan, storage))
    }

    fn cluster(
        &self,
        place: &Place<'_>,
        spec: &PostgresSpec,
        port: u16,
        password: Secret,
    ) -> Result<Cluster, StackError> {
        let mut container = self.container(place, "postgres", Server::Postgres, (port, POSTGRES_PORT));
        let home = place.dir.join("postgres");
        let spool = cdc_pipeline::config::RepositoryConfig::at(place.dir.join("repository")).spool();
        container.folders =
            vec![same(&home), same(&spool), (home.join("initdb"), "/docker-entrypoint-initdb.d".into())];
        // PostgreSQL runs as the owner of its data folder, which the engine of a recovery reads and writes too.
        container.user = Some(format!("{}:{}", place.account.uid, place.account.gid));
        Cluster::new(place, spec.clone(), Initdb::Container(container), &self.network.gateway, port, password)
    }
}

/// PostgreSQL's programs are called by the engine's command line client.
fn require_client() -> Result<(), StackError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).any(|folder| folder.join(CLIENT).is_file()) {
        true => Ok(()),
        false => Err(StackError::NoDockerClient { program: CLIENT.to_owned() }),
    }
}

/// A folder that has the same path inside.
fn same(path: &Utf8Path) -> (Utf8PathBuf, Utf8PathBuf) {
    (path.to_owned(), path.to_owned())
}

/// The settings of a properties file that are the same wherever the server runs: those without a placeholder, and without
/// an address.
fn fixed(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(name, value)| !value.contains('@') && !name.contains("host.name"))
}

/// A setting's name as the images write it in a variable.
fn variable(setting: &str) -> String {
    setting.to_uppercase().replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Account;

    fn docker() -> Docker {
        let network =
            Network { name: "cdc-drill-x".into(), subnet: "172.30.0.0/16".into(), gateway: "172.30.0.1".into() };
        Docker { images: Images::default(), network }
    }

    #[test]
    fn settings_become_variables_and_addresses_do_not() {
        let broker: BTreeMap<&str, &str> = fixed(fixture::KAFKA).collect();
        assert_eq!(broker["auto.create.topics.enable"], "false");
        assert!(!broker.contains_key("listeners") && !broker.contains_key("log.dirs"), "{broker:?}");
        assert_eq!(variable("auto.create.topics.enable"), "AUTO_CREATE_TOPICS_ENABLE");
        assert!(fixed(fixture::CONNECT).all(|(name, _)| name != "plugin.path" && name != "listeners"));
    }

    #[test]
    fn a_server_is_one_address_inside_and_outside() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        let account = Account { name: "x".into(), uid: 7, gid: 8, drop: false };
        let place = Place { dir, account: &account };
        let broker = Broker { node: 1, port: 17_001, controller_port: 1, cluster: "4L6g3nShT-eMCtK--X86sw" };
        let plan = docker().broker(&place, &broker, &[]).unwrap();
        assert_eq!(plan.endpoint, "172.30.0.1:17001");
        assert_eq!(plan.env["KAFKA_ADVERTISED_LISTENERS"], "PLAINTEXT://172.30.0.1:17001");
        let cluster = docker().cluster(&place, &PostgresSpec::default(), 17_002, Secret::new("p")).unwrap();
        assert_eq!(cluster.url().expose(), "postgres://postgres:p@172.30.0.1:17002/postgres");
        let tool = cluster.tool().unwrap();
        assert!(tool.contains("--user 7:8") && tool.ends_with("--entrypoint '' postgres:18"), "{tool}");
    }
}
