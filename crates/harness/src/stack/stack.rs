//! A stack of the local backend, as the harness holds it.

use std::{collections::BTreeMap, time::Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;

use super::{
    Account, Backend, Place, PortLease, Progress, StackError,
    binary::find_binary,
    blocking::blocking,
    config_file,
    folder::{Addresses, Folder, OwnerLock, ServerStatus},
    plan::{Broker, Cluster, Part, ServerPlan, StackSpec, kafka_uuid, numbered},
};
use cdc_model::units::Secret;
use cdc_pipeline::{
    client::{
        limits::Bound,
        wait::{Poll, until},
    },
    config::{
        BackupConfig, Config, ConnectConfig, Hook, KafkaConfig, MonitorConfig, ObjectivesConfig, PostgresConfig,
        ProveConfig, RecoveryConfig, RegistryConfig, RegistryFlavour, RegistryStorage, RepositoryConfig,
    },
};

/// The configuration's name in a stack's folder.
pub const CONFIG_FILE: &str = "cdc-drill.toml";

/// The server of the database.
const DATABASE: &str = "postgres";

/// A stack in a folder.
#[derive(Debug)]
pub struct LocalStack {
    folder: Folder,
    addresses: Addresses,
    registry_storage: Option<RegistryStorage>,
    /// Made when it is first started, beside the slower Java servers.
    cluster: Option<Cluster>,
    postgres_config: Option<PostgresConfig>,
    schema_resolver: Option<&'static str>,
    external: StackSpec,
    control: BTreeMap<String, Hook>,
    _leases: Vec<PortLease>,
}

impl LocalStack {
    /// Lays the stack out in `dir`, which must be empty or not there. Starts nothing.
    pub fn create(dir: &Utf8Path, spec: StackSpec, backend: &dyn Backend) -> Result<LocalStack, StackError> {
        let binary = find_binary(None)?;
        let account = Account::choose()?;
        let dir = lay_out(dir, &account)?;
        let made = LocalStack::make(&dir, spec, backend, &binary, &account);
        if made.is_err() {
            clear(&dir);
        }
        made
    }

    fn make(
        dir: &Utf8Path,
        spec: StackSpec,
        backend: &dyn Backend,
        binary: &Utf8Path,
        account: &Account,
    ) -> Result<LocalStack, StackError> {
        account.must_reach(&dir.join("tmp"))?;
        let mut making = Making {
            place: Place { dir, account },
            backend,
            spec: &spec,
            leases: Vec::new(),
            servers: Vec::new(),
            addresses: Addresses::default(),
        };
        making.kafka()?;
        making.connect()?;
        let registry_storage = making.registry()?;
        let cluster = making.postgres()?;
        let Making { leases, servers, addresses, .. } = making;
        let mut control = spec.control.clone();
        for plan in &servers {
            let mut hook = config_file::hook(binary, dir, &plan.name);
            if plan.name == "postgres" {
                hook.tool = cluster.as_ref().and_then(Cluster::tool);
                hook.scratch = hook.tool.as_ref().map(|_| dir.join("tmp"));
            }
            control.insert(plan.name.clone(), hook);
        }
        let postgres_config = cluster.as_ref().map(|c| PostgresConfig::new(c.url(), c.pgdata(), c.bin()));
        let folder = Folder::create(dir, servers)?;
        Ok(LocalStack {
            folder,
            addresses,
            registry_storage,
            cluster,
            postgres_config,
            schema_resolver: backend.schema_resolver(),
            external: spec,
            control,
            _leases: leases,
        })
    }

    /// The stack's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The folder's path.
    pub fn dir(&self) -> &Utf8Path {
        self.folder.dir()
    }

    /// Takes ownership, before anything is started: when the returned guard is dropped or this process dies, every server
    /// of the stack ends.
    pub fn own(&self) -> Result<OwnerLock, StackError> {
        OwnerLock::take(self.dir())
    }

    /// Starts everything at once, and returns the seconds that each server needed until it answered.
    pub async fn start_all(&mut self, progress: &dyn Progress) -> Result<Vec<(String, f64)>, StackError> {
        let names: Vec<String> = self.folder.servers().iter().map(|s| s.name.clone()).collect();
        let mut cluster = self.cluster.take();
        let this = &*self;
        let began = Instant::now();
        let started = names.iter().map(|name| {
            let cluster = if name == "postgres" { cluster.take() } else { None };
            async move {
                if let Some(cluster) = cluster {
                    blocking(progress, move |_| cluster.create()).await?;
                }
                this.start(name).await?;
                let seconds = began.elapsed().as_secs_f64();
                progress.line(&format!("{name} answers after {seconds:.1} s"));
                Ok::<_, StackError>((name.clone(), seconds))
            }
        });
        futures::future::try_join_all(started).await
    }

    /// Starts every server but that of the database at once.
    pub(crate) async fn start_others(&self, progress: &dyn Progress) -> Result<(), StackError> {
        let names = self.folder.servers().iter().map(|s| s.name.as_str()).filter(|name| *name != DATABASE);
        let started = names.map(|name| async move {
            self.start(name).await?;
            progress.line(&format!("{name} answers"));
            Ok::<_, StackError>(())
        });
        futures::future::try_join_all(started).await?;
        Ok(())
    }

    /// Starts the server of the database on its data folder, which is made before or was restored.
    pub(crate) async fn start_database(&mut self, progress: &dyn Progress) -> Result<(), StackError> {
        if let Some(cluster) = self.cluster.take() {
            blocking(progress, move |_| cluster.create()).await?;
        }
        self.start(DATABASE).await
    }

    /// Starts one server and waits until it answers.
    pub async fn start(&self, name: &str) -> Result<(), StackError> {
        self.folder.start(name).await?;
        self.addresses.wait(&self.folder, name).await
    }

    /// Stops one server cleanly.
    pub async fn stop(&self, name: &str) -> Result<(), StackError> {
        self.folder.stop(name).await
    }

    /// Sends one server a signal; with SIGKILL, returns when nothing of it is left.
    pub async fn kill(&self, name: &str, signal: Signal) -> Result<(), StackError> {
        self.folder.kill(name, signal).await
    }

    /// Whether one server runs.
    pub fn running(&self, name: &str) -> Result<bool, StackError> {
        self.folder.running(name)
    }

    /// One server's process, if it runs.
    pub fn pid(&self, name: &str) -> Option<i32> {
        self.folder.pid(name)
    }

    /// Stops every server, those that need others first.
    pub async fn stop_all(&self) -> Result<(), StackError> {
        stop_all(&self.folder).await
    }

    /// This stack's own registry, for the specification of another stack that uses it too.
    pub(crate) fn registry_config(&self) -> Result<RegistryConfig, StackError> {
        match (&self.external.registry, &self.addresses.registry) {
            (Part::External(config), _) => Ok(config.clone()),
            (_, Some(url)) => {
                let storage = self.registry_storage.clone();
                Ok(RegistryConfig::plain(url, RegistryFlavour::Apicurio, storage))
            }
            _ => Err(absent("registry")),
        }
    }

    /// The broker, for the specification of another stack.
    pub(crate) fn kafka_config(&self) -> Result<KafkaConfig, StackError> {
        match (&self.external.kafka, &self.addresses.kafka) {
            (Part::External(config), _) => Ok(config.clone()),
            (_, Some(bootstrap)) => Ok(KafkaConfig::plain(bootstrap)),
            _ => Err(absent("kafka")),
        }
    }

    /// The Connect worker, for the specification of another stack.
    pub(crate) fn connect_config(&self) -> Result<ConnectConfig, StackError> {
        match (&self.external.connect, &self.addresses.connect) {
            (Part::External(config), _) => Ok(config.clone()),
            (_, Some(url)) => {
                let [_, offsets_topic, _] = self.external.worker.topics();
                let schema_resolver = self.schema_resolver.map(str::to_owned);
                Ok(ConnectConfig { schema_resolver, ..ConnectConfig::plain(url, &offsets_topic) })
            }
            _ => Err(absent("connect")),
        }
    }

    /// This stack's own database server.
    pub(crate) fn postgres_config(&self) -> Result<PostgresConfig, StackError> {
        self.postgres_config.clone().ok_or_else(|| absent("postgres"))
    }

    /// How to stop and start this stack's servers.
    pub fn control(&self) -> &BTreeMap<String, Hook> {
        &self.control
    }

    /// The configuration for every other part of the program; all four systems must be named in the specification.
    pub fn config(&self) -> Result<Config, StackError> {
        Ok(Config {
            postgres: self.postgres_config()?,
            kafka: self.kafka_config()?,
            connect: self.connect_config()?,
            registry: self.registry_config()?,
            repository: RepositoryConfig::at(self.dir().join("repository")),
            backup: BackupConfig::default(),
            recovery: RecoveryConfig::default(),
            prove: ProveConfig::default(),
            control: self.control.clone(),
            monitor: MonitorConfig::default(),
            objectives: ObjectivesConfig::default(),
            notify: None,
            attach: None,
        })
    }

    /// Writes the configuration to `DIR/cdc-drill.toml`.
    pub fn write_config(&self) -> Result<Utf8PathBuf, StackError> {
        let path = self.dir().join(CONFIG_FILE);
        config_file::write(&self.config()?, &path)?;
        Ok(path)
    }
}

fn absent(name: &str) -> StackError {
    StackError::Setting {
        what: format!("the stack's {name}"),
        expected: "a local or an external server".into(),
        found: "none".into(),
    }
}

/// Stops every server of a folder, those that need others first.
pub(super) async fn stop_all(folder: &Folder) -> Result<(), StackError> {
    // Sessions to the broker and to PostgreSQL end first, so that neither waits for them.
    for group in [&["connect", "registry"][..], &["kafka", "postgres"]] {
        let present = folder.servers().iter().filter(|s| group.iter().any(|g| s.name.starts_with(g)));
        futures::future::try_join_all(present.map(|s| folder.stop(&s.name))).await?;
    }
    Ok(())
}

impl Folder {
    /// Every server as it is now.
    pub async fn status(&self) -> Result<Vec<ServerStatus>, StackError> {
        let addresses = self.addresses()?;
        let ask = self.servers().iter().map(|plan| {
            let addresses = &addresses;
            async move {
                let pid = self.pid(&plan.name);
                let ready = pid.is_some() && addresses.ask(plan).await.is_ok();
                ServerStatus {
                    name: plan.name.clone(),
                    ready,
                    pid,
                    endpoint: plan.endpoint.clone(),
                    log: plan.log.clone(),
                }
            }
        });
        Ok(futures::future::join_all(ask).await)
    }

    /// Stops every server, those that need others first. Stopping a stopped stack does nothing.
    pub async fn stop_all(&self) -> Result<(), StackError> {
        stop_all(self).await
    }

    /// Starts one server and waits until it answers.
    pub(crate) async fn start_and_wait(&self, name: &str) -> Result<(), StackError> {
        self.start(name).await?;
        self.addresses()?.wait(self, name).await
    }

    /// Starts every server and waits until all answer.
    pub async fn start_all(&self) -> Result<(), StackError> {
        futures::future::try_join_all(self.servers().iter().map(|s| self.start_and_wait(&s.name))).await?;
        Ok(())
    }

    fn addresses(&self) -> Result<Addresses, StackError> {
        let path = self.dir().join(CONFIG_FILE);
        let config = Config::load(&path)
            .map_err(|e| StackError::NoStack { dir: self.dir().to_owned(), detail: e.to_string() })?;
        Ok(Addresses::of(&config))
    }

    /// Waits until nothing of the stack runs; for those who have just let an [`OwnerLock`] go.
    pub async fn all_gone(&self, bound: impl Into<Bound>) -> Result<(), StackError> {
        let what = format!("the servers in {} to end", self.dir());
        until(&what, bound, || async {
            let left: Vec<&str> =
                self.servers().iter().map(|s| s.name.as_str()).filter(|n| self.pid(n).is_some()).collect();
            Ok::<_, std::convert::Infallible>(if left.is_empty() {
                Poll::Ready(())
            } else {
                Poll::NotYet(left.join(", "))
            })
        })
        .await?;
        Ok(())
    }
}

/// Makes the folder and those in it.
fn lay_out(dir: &Utf8Path, account: &Account) -> Result<Utf8PathBuf, StackError> {
    if Folder::exists(dir) {
        return Err(StackError::Occupied {
            dir: dir.to_owned(),
            detail: "it holds a stack already".to_owned(),
            hint: format!("`cdc-drill stack status --dir {dir}` shows it; choose another folder"),
        });
    }
    std::fs::create_dir_all(dir).map_err(|e| StackError::io("make folder", dir, e))?;
    let dir = dir.canonicalize_utf8().map_err(|e| StackError::io("resolve", dir, e))?;
    let mut entries = dir.read_dir_utf8().map_err(|e| StackError::io("list", &dir, e))?;
    if let Some(Ok(first)) = entries.next() {
        return Err(StackError::Occupied {
            detail: format!("it is not empty: it holds {}", first.file_name()),
            hint: "choose an empty or a new folder".to_owned(),
            dir,
        });
    }
    // The folder itself stays with whoever runs the harness: it describes what is run as root.
    for name in ["pids", "logs"] {
        let path = dir.join(name);
        std::fs::create_dir(&path).map_err(|e| StackError::io("make folder", &path, e))?;
    }
    for name in ["tmp", "repository"] {
        account.folder(&dir.join(name))?;
    }
    Ok(dir)
}

/// Takes back what [`lay_out`] and the servers' preparation made: a mistake that is corrected must not meet a folder in use.
fn clear(dir: &Utf8Path) {
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir_all(entry.path());
    }
    let _ = std::fs::remove_dir(dir);
}

/// A stack while it is laid out.
struct Making<'a> {
    place: Place<'a>,
    backend: &'a dyn Backend,
    spec: &'a StackSpec,
    leases: Vec<PortLease>,
    servers: Vec<ServerPlan>,
    addresses: Addresses,
}

impl Making<'_> {
    fn port(&mut self, server: &str) -> Result<u16, StackError> {
        let asked = self.spec.ports.get(server);
        let lease = asked.map_or_else(|| PortLease::any(server), |port| PortLease::of(server, *port))?;
        let port = lease.port();
        self.leases.push(lease);
        Ok(port)
    }

    fn second_port(&mut self, server: &str) -> Result<u16, StackError> {
        let lease = PortLease::any(server)?;
        let port = lease.port();
        self.leases.push(lease);
        Ok(port)
    }

    fn kafka(&mut self) -> Result<(), StackError> {
        match &self.spec.kafka {
            Part::Absent => {}
            Part::External(config) => self.addresses.kafka = Some(config.bootstrap.clone()),
            Part::Local(()) => {
                let (cluster, controller_port) = (kafka_uuid(), self.second_port("kafka")?);
                let mut endpoints = Vec::new();
                for node in 1..=self.spec.brokers.max(1) {
                    let port = self.port(&numbered("kafka", node))?;
                    let broker = Broker { node, port, controller_port, cluster: &cluster };
                    let plan = self.backend.broker(&self.place, &broker, &self.spec.kafka_settings)?;
                    endpoints.push(plan.endpoint.clone());
                    self.servers.push(plan);
                }
                self.addresses.kafka = Some(endpoints.join(","));
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), StackError> {
        match &self.spec.connect {
            Part::Absent => {}
            Part::External(config) => self.addresses.connect = Some(config.url.clone()),
            Part::Local(()) => {
                let bootstrap = self.addresses.kafka.clone().ok_or_else(|| absent("kafka"))?;
                let mut endpoints = Vec::new();
                for number in 1..=self.spec.workers.max(1) {
                    let port = self.port(&numbered("connect", number))?;
                    let plan = self.backend.worker(&self.place, &self.spec.worker, number, port, &bootstrap)?;
                    endpoints.push(plan.endpoint.clone());
                    self.servers.push(plan);
                }
                self.addresses.connect = Some(endpoints.join(","));
            }
        }
        Ok(())
    }

    fn registry(&mut self) -> Result<Option<RegistryStorage>, StackError> {
        let spec = self.spec;
        match &spec.registry {
            Part::Absent => Ok(None),
            Part::External(config) => {
                self.addresses.registry = Some(config.url.clone());
                Ok(config.storage.clone())
            }
            Part::Local(registry) => {
                let ports = [self.port("registry")?, self.second_port("registry")?];
                let bootstrap = self.addresses.kafka.clone();
                let (plan, storage) = self.backend.registry(&self.place, registry, ports, bootstrap.as_deref())?;
                self.addresses.registry = Some(plan.endpoint.clone());
                self.servers.push(plan);
                Ok(Some(storage))
            }
        }
    }

    fn postgres(&mut self) -> Result<Option<Cluster>, StackError> {
        let Some(spec) = &self.spec.postgres else { return Ok(None) };
        let port = self.port("postgres")?;
        let cluster = self.backend.cluster(&self.place, spec, port, random_password())?;
        self.addresses.postgres = Some(cluster.url());
        self.servers.push(cluster.plan());
        Ok(Some(cluster))
    }
}

/// Letters and digits only: it stands in URLs.
fn random_password() -> Secret {
    let text: String = (0..24).map(|_| rand::random_range(0..36)).filter_map(|d| char::from_digit(d, 36)).collect();
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    fn open_folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        (temp, path)
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let (_temp, path) = open_folder();
        std::fs::write(path.join("thesis.txt"), "x").unwrap();
        let account = Account::choose().unwrap();
        let error = lay_out(&path, &account).unwrap_err();
        assert!(error.to_string().contains("thesis.txt"), "{error}");
        assert_eq!(error.exit(), cdc_model::units::Exit::Refused);
    }
}
