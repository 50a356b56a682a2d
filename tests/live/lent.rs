//! Brokers, workers and registries that tests hand on to one another: starting them takes three quarters of what most tests cost. One
//! test at a time has them for itself and gives them back as they were; its PostgreSQL server is its own.
//!
//! A test that stops one of them, or that asks for what an earlier test can leave its mark on (ids of schemas), takes its own.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use camino::Utf8PathBuf;
use cdc_pipeline::{
    client::{connect::Connect, kafka::Kafka, registry::Registry},
    config::Config,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use super::{
    PROGRAM,
    sandbox::{DEADLINE, expect},
};

/// What nobody has at the moment.
static FREE: Mutex<Vec<Servers>> = Mutex::new(Vec::new());

/// Takes a stack down and removes its folder when standard input closes, which it does however the tests end.
const LEASH: &str = r#"read -r _; "$0" stack down --dir "$1" >/dev/null 2>&1; rm -rf "${1%/*}""#;

/// One stack, of which tests use all but its PostgreSQL server.
struct Servers {
    config: Config,
    file: Utf8PathBuf,
    /// The topics that its servers made for themselves.
    topics: BTreeSet<String>,
    groups: BTreeSet<String>,
    // Its standard input is closed with it, which takes the stack down.
    _leash: Child,
}

/// Servers that one test has for itself.
pub(super) struct Lent(Option<Servers>);

impl Lent {
    /// Those that another test gave back, or new ones.
    pub(super) fn take() -> Lent {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent(Some(free.unwrap_or_else(|| apart(Servers::up()))))
    }

    /// The configuration of the stack that they belong to.
    pub(super) fn file(&self) -> &Utf8PathBuf {
        &self.0.as_ref().unwrap().file
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(servers) = self.0.take() else { return };
        // What a test that failed has left is for nobody.
        if std::thread::panicking() {
            return;
        }
        if apart(servers.emptied()) {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(servers);
        }
    }
}

/// Runs this beside the caller's own runtime, and waits.
fn apart<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

impl Servers {
    async fn up() -> Servers {
        let folder = tempfile::Builder::new().prefix("cdc-drill-lent-").tempdir().unwrap().keep();
        let dir = Utf8PathBuf::from_path_buf(folder).unwrap().join("stack");
        let leash = Command::new("sh")
            .args(["-c", LEASH, PROGRAM, dir.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // As `sandbox::Stack` makes them; a server's account gets through its folders.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
        expect(0, &format!("stack up --dir {dir} --registry h2"), "");
        let file = dir.join("cdc-drill.toml");
        let config = Config::load(&file).unwrap();
        let kafka = Kafka::of(&config.kafka).unwrap();
        let topics = kafka.topics().await.unwrap().into_keys().collect();
        let groups = kafka.groups().await.unwrap().into_iter().map(|group| group.name).collect();
        Servers { config, file, topics, groups, _leash: leash }
    }

    /// Removes what a test has left, and says whether nothing of it is there any more.
    async fn emptied(&self) -> bool {
        match self.empty().await {
            Ok(()) => true,
            Err(why) => {
                eprintln!("{}: not handed on to another test: {why}", self.file);
                false
            }
        }
    }

    async fn empty(&self) -> Result<(), Box<dyn std::error::Error>> {
        let connect = Connect::of(&self.config.connect);
        for name in connect.connectors().await? {
            connect.stop(&name).await?;
            connect.stopped(&name, DEADLINE).await?;
            connect.delete_offsets(&name).await?;
            connect.delete(&name).await?;
        }
        let kafka = Kafka::of(&self.config.kafka)?;
        let of_tests = |topic: &String| !self.topics.contains(topic) && !topic.starts_with("__");
        let topics: Vec<String> = kafka.topics().await?.into_keys().filter(of_tests).collect();
        kafka.delete_topics(&topics).await?;
        let groups = kafka.groups().await?.into_iter().map(|group| group.name);
        let groups: Vec<String> = groups.filter(|group| !self.groups.contains(group)).collect();
        if !groups.is_empty() {
            let admin: AdminClient<DefaultClientContext> =
                ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
            let names: Vec<&str> = groups.iter().map(String::as_str).collect();
            for deleted in admin.delete_groups(&names, &AdminOptions::new()).await? {
                deleted.map_err(|(group, why)| format!("group {group}: {why}"))?;
            }
        }
        let registry = Registry::of(&self.config.registry);
        for subject in registry.subjects(true).await? {
            registry.unset_subject_level(&subject).await?;
            if registry.subjects(false).await?.contains(&subject) {
                registry.delete_subject(&subject, true).await?;
            }
        }
        registry.unset_global_level().await?;
        let left = (connect.connectors().await?, registry.subjects(true).await?, registry.global_level().await?);
        match left {
            (connectors, subjects, None) if connectors.is_empty() && subjects.is_empty() => Ok(()),
            left => Err(format!("left: {left:?}").into()),
        }
    }
}
