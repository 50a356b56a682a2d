//! `stack`: a stack for a person to play with, on which every other command works by `--config DIR/cdc-drill.toml`.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    sync::Arc,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;

use super::{
    CliError,
    output::{DryRun, Terminal, say},
    print_json, words,
};
use crate::stack::{
    Backend as StackBackend, BackendChoice, CONFIG_FILE, ConnectorRequest, Folder, LocalStack, Native, OwnerLock, Part,
    PostgresSpec, Programs, Progress, StackError, StackSpec, debezium_config, file_sink_config,
};
use cdc_engine::backup::Repository;
use cdc_model::{
    units::{Exit, IfThere, TableName},
    vocabulary::RegistryStorageKind,
};
use cdc_pipeline::{
    client::limits,
    config::{Config, Means, RestAuth},
};

/// What to do with which stack.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Args)]
struct Dir {
    /// The stack's folder
    #[arg(long)]
    dir: Utf8PathBuf,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The server: postgres, kafka, connect or registry
    name: String,
    #[command(flatten)]
    dir: Dir,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a stack, or start a stopped one, and return when every server answers
    Up(Up),
    /// Say which servers run and answer
    Status {
        #[command(flatten)]
        dir: Dir,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the end of the servers' logs
    Logs {
        /// Only this server's
        name: Option<String>,
        #[command(flatten)]
        dir: Dir,
        /// How many lines of each
        #[arg(long, default_value_t = 50)]
        lines: usize,
    },
    /// Stop every server; data and logs stay
    Down {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Start one server and return when it answers
    Start {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Stop one server cleanly
    Stop {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Do something to a running server that its data does not notice
    Disturb {
        #[command(flatten)]
        one: One,
        /// What: pause (every process is frozen), disconnect (it is off its network), or memory=MIB
        #[arg(long, value_name = "MEANS")]
        by: Means,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take back what `disturb` did
    Settle {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Exit 0 when the server runs, 1 when it does not
    Running(One),
    /// Print a connector configuration for this stack as JSON
    Connector(Connector),
    /// Print the configuration of a sink connector that writes records of topics to a file, for this stack, as JSON
    Sink(Sink),
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    dir: Dir,
    /// Where the registry keeps its schemas
    #[arg(long, value_parser = words::registry_storage(), default_value_t = RegistryStorageKind::H2)]
    registry: RegistryStorageKind,
    /// How many brokers; the first one is the controller too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// How many Connect workers, in one cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    workers: u16,
    /// Only a PostgreSQL server, beside the brokers, workers and registry of another stack: its configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["brokers", "workers", "registry"])]
    join: Option<Utf8PathBuf>,
    /// A port asked for: postgres=5433, kafka=9092, connect=8083 or registry=8081; free ones are chosen otherwise
    #[arg(long, value_name = "NAME=PORT", value_parser = port_of)]
    port: Vec<(String, u16)>,
    /// Where the servers run
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    backend: Backend,
    /// Stay, and end every server when this command ends, however it ends
    #[arg(long)]
    foreground: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Up {
    async fn backend(&self, progress: &dyn Progress) -> Result<Arc<dyn StackBackend>, CliError> {
        if self.backend == Backend::Docker {
            // Stacks in different folders must not share a network.
            let dir = camino::absolute_utf8(&self.dir.dir).unwrap_or_else(|_| self.dir.dir.clone());
            return Ok(BackendChoice::Docker.open(&network_name(&dir), progress).await?);
        }
        let programs = Programs::ensure(progress).await?;
        programs.ensure_aot_caches(progress).await?;
        Ok(Arc::new(Native::new(programs)))
    }
}

/// Where a stack's servers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// Native processes of this machine
    Local,
    /// Containers of this machine's Docker engine
    Docker,
}

#[derive(Debug, clap::Args)]
struct Connector {
    /// The connector's name; also its topic prefix, and, in lower case, its slot and publication
    #[arg(long)]
    name: String,
    /// The database it reads from
    #[arg(long)]
    database: String,
    /// The tables it captures: schema.table,schema.table
    #[arg(long, value_delimiter = ',', required = true)]
    tables: Vec<String>,
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, clap::Args)]
struct Sink {
    /// The topics it reads: topic,topic
    #[arg(long, value_delimiter = ',', required = true)]
    topics: Vec<String>,
    /// The file it appends to, a line a record; on the worker's machine, writable for the worker's account
    #[arg(long)]
    file: Utf8PathBuf,
    #[command(flatten)]
    of: Of,
}

/// The pipeline that a connector is for.
#[derive(Debug, clap::Args)]
struct Of {
    /// The configuration of the pipeline
    #[arg(long, conflicts_with = "dir", required_unless_present = "dir")]
    config: Option<Utf8PathBuf>,
    /// The stack's folder, instead of `--config`
    #[arg(long)]
    dir: Option<Utf8PathBuf>,
}

impl Of {
    fn load(self) -> Result<Config, CliError> {
        let path = self.config.or_else(|| self.dir.map(|dir| dir.join(CONFIG_FILE)));
        Ok(Config::load(&path.unwrap_or_else(|| CONFIG_FILE.into()))?)
    }
}

/// The servers a port can be asked for.
const SERVERS: [&str; 4] = ["postgres", "kafka", "connect", "registry"];

fn port_of(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').ok_or("expected NAME=PORT")?;
    if !SERVERS.contains(&name) {
        return Err(format!("expected one of {} before `=`", SERVERS.join(", ")));
    }
    let port = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or("expected a port from 1 to 65535")?;
    Ok((name.to_owned(), port))
}

/// Does it.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.action {
        Action::Up(up) => bring_up(up).await,
        Action::Status { dir, json } => status(&dir.dir, json).await,
        Action::Logs { name, dir, lines } => logs(&dir.dir, name.as_deref(), lines),
        Action::Down { dir, dry } => {
            if dry.told(format!("stop every server of the stack in {}", Folder::open(&dir.dir)?.dir())) {
                return Ok(Exit::Passed);
            }
            down(&dir.dir).await
        }
        Action::Start { one, dry } => {
            if dry.told(format!("start {} of the stack in {}", one.name, one.dir.dir)) {
                return Ok(Exit::Passed);
            }
            Folder::open(&one.dir.dir)?.start_and_wait(&one.name).await?;
            Ok(Exit::Passed)
        }
        Action::Stop { one, dry } => {
            if dry.told(format!("stop {} of the stack in {}", one.name, one.dir.dir)) {
                return Ok(Exit::Passed);
            }
            Folder::open(&one.dir.dir)?.stop(&one.name).await?;
            Ok(Exit::Passed)
        }
        Action::Disturb { one, by, dry } => {
            if !dry.told(format!("{by}: {} of the stack in {}", one.name, one.dir.dir)) {
                Folder::open(&one.dir.dir)?.disturb(&one.name, by).await?;
            }
            Ok(Exit::Passed)
        }
        Action::Settle { one, dry } => {
            if !dry.told(format!("settle {} of the stack in {}", one.name, one.dir.dir)) {
                Folder::open(&one.dir.dir)?.settle(&one.name).await?;
            }
            Ok(Exit::Passed)
        }
        Action::Running(one) => {
            let running = Folder::open(&one.dir.dir)?.running(&one.name)?;
            Ok(if running { Exit::Passed } else { Exit::Internal })
        }
        Action::Connector(request) => connector(request),
        Action::Sink(request) => sink(request),
    }
}

async fn bring_up(up: Up) -> Result<Exit, CliError> {
    let progress = Terminal::new();
    let dir = up.dir.dir.clone();
    let again = if Folder::exists(&dir) { "start the stack again that is" } else { "make a stack and start it" };
    if up.dry.told(format!("{again} in {dir}")) {
        return Ok(Exit::Passed);
    }
    if Folder::exists(&dir) {
        return bring_up_again(&Folder::open(&dir)?, up.foreground, &progress).await;
    }
    let backend = up.backend(&progress).await?;
    let spec = match &up.join {
        Some(file) => beside(&Config::load(file)?)?,
        None => StackSpec { brokers: up.brokers, workers: up.workers, ..StackSpec::whole(up.registry) },
    };
    let spec = StackSpec { ports: up.port.into_iter().collect(), ..spec };
    let mut stack = LocalStack::create(&dir, spec, &*backend)?;
    let folder = stack.folder().clone();
    let owner = OwnerLock::take(folder.dir())?;
    let config = stack.write_config()?;
    // Before PostgreSQL archives its first segment: a refused one is offered again only after a minute.
    let repository = Config::load(&config)?.repository;
    Repository::init_for(&repository.path, &repository.recipients)?;
    let started = tokio::select! {
        started = stack.start_all(&progress) => started.map(drop).map_err(CliError::from),
        _ = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Interrupted, "interrupted while the servers started")),
    };
    if started.is_err() {
        folder.forget()?;
    } else {
        progress.line(&format!("ready: --config {config}"));
    }
    finish_up(&folder, owner, started, up.foreground, &progress).await
}

/// A name for a folder's network: the folder's own name, and what tells it from others of that name.
fn network_name(dir: &Utf8Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = dir.file_name().unwrap_or("stack").chars().map(plain).collect();
    let mut hash = DefaultHasher::new();
    dir.hash(&mut hash);
    format!("{name}-{:08x}", hash.finish() as u32)
}

/// A PostgreSQL server that shares everything else with another pipeline.
fn beside(other: &Config) -> Result<StackSpec, CliError> {
    let plain = other.kafka.security_protocol.is_none()
        && other.connect.auth == RestAuth::default()
        && other.registry.auth == RestAuth::default();
    if other.attach.is_some() || !plain {
        let message = "the configuration to join: expected one that `stack up` wrote, found one of somebody's pipeline";
        return Err(CliError::new(Exit::Refused, message));
    }
    let registry = other.control.get("registry").map(|hook| ("registry".to_owned(), hook.clone()));
    Ok(StackSpec {
        postgres: Some(PostgresSpec::default()),
        kafka: Part::External(other.kafka.clone()),
        connect: Part::External(other.connect.clone()),
        registry: Part::External(other.registry.clone()),
        control: registry.into_iter().collect(),
        ..StackSpec::default()
    })
}

/// A stopped stack starts again on its data.
async fn bring_up_again(folder: &Folder, foreground: bool, progress: &dyn Progress) -> Result<Exit, CliError> {
    let running: Vec<&str> =
        folder.servers().iter().map(|s| s.name.as_str()).filter(|n| folder.pid(n).is_some()).collect();
    if !running.is_empty() {
        let dir = folder.dir().to_owned();
        let hint = format!(
            "`cdc-drill stack status --dir {dir}` shows it, `down` stops it; another stack needs another folder"
        );
        return Err(
            StackError::Occupied { dir, detail: format!("a stack runs in it ({})", running.join(", ")), hint }.into()
        );
    }
    let owner = OwnerLock::take(folder.dir())?;
    for line in folder.call_this_program()? {
        progress.line(&line);
    }
    let started = tokio::select! {
        started = folder.start_all() => started.map_err(CliError::from),
        _ = tokio::signal::ctrl_c() => Err(CliError::new(Exit::Interrupted, "interrupted while the servers started")),
    };
    if started.is_ok() {
        progress.line(&format!("ready again: --config {}", folder.dir().join(CONFIG_FILE)));
    }
    finish_up(folder, owner, started, foreground, progress).await
}

/// Lets the servers run without an owner when all answer; otherwise leaves none running. Until then, and in the foreground
/// until the end, a `kill -9` of this program ends them too.
async fn finish_up(
    folder: &Folder,
    owner: OwnerLock,
    started: Result<(), CliError>,
    foreground: bool,
    progress: &dyn Progress,
) -> Result<Exit, CliError> {
    let dir = folder.dir();
    if started.is_ok() && !foreground {
        owner.release_servers()?;
        progress.line(&format!("stop it with `cdc-drill stack down --dir {dir}`"));
        return Ok(Exit::Passed);
    }
    if started.is_ok() {
        progress.line("Ctrl-C ends it");
        // Without a handler the signal's default, to end at once, is as good: the servers' supervisors notice.
        let _ = tokio::signal::ctrl_c().await;
        folder.stop_all().await?;
    }
    drop(owner);
    folder.all_gone(limits::servers::ALL_GONE).await?;
    started.map(|()| Exit::Interrupted)
}

async fn status(dir: &Utf8Path, json: bool) -> Result<Exit, CliError> {
    let servers = Folder::open(dir)?.status().await?;
    let ready = servers.iter().all(|s| s.ready);
    if json {
        print_json(&serde_json::json!({ "ready": ready, "servers": servers }))?;
        return Ok(Exit::Passed);
    }
    for s in &servers {
        let state = if s.ready {
            "ready"
        } else if s.pid.is_some() {
            "running"
        } else {
            "down"
        };
        let pid = s.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        say(format!("{:<9} {:<8} {:>8}  {}  {}", s.name, state, pid, s.endpoint, s.log));
    }
    Ok(Exit::Passed)
}

/// The logs are what was asked for, so they go to standard output.
fn logs(dir: &Utf8Path, name: Option<&str>, lines: usize) -> Result<Exit, CliError> {
    let folder = Folder::open(dir)?;
    let servers: Vec<_> = match name {
        Some(name) => vec![folder.server(name)?],
        None => folder.servers().iter().collect(),
    };
    let mut out = std::io::stdout().lock();
    for server in servers {
        let text = std::fs::read(&server.log).if_there();
        let text = text.map_err(|e| CliError::new(Exit::Inconclusive, format!("read log {}: {e}", server.log)))?;
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        let _ = writeln!(out, "==> {} <==", server.log);
        for line in &all[all.len().saturating_sub(lines)..] {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(Exit::Passed)
}

async fn down(dir: &Utf8Path) -> Result<Exit, CliError> {
    let folder = Folder::open(dir)?;
    folder.stop_all().await?;
    say(format!("stopped; data and logs remain in {}", folder.dir()));
    Ok(Exit::Passed)
}

fn connector(request: Connector) -> Result<Exit, CliError> {
    let config = request.of.load()?;
    let tables: Result<Vec<TableName>, _> =
        request.tables.iter().filter(|t| !t.is_empty()).map(|t| t.trim().parse()).collect();
    let tables = tables.map_err(|e| CliError::new(Exit::Usage, e.to_string()))?;
    let request = ConnectorRequest { name: request.name, database: request.database, tables };
    print_json(&debezium_config(&config, &request)?)?;
    Ok(Exit::Passed)
}

fn sink(request: Sink) -> Result<Exit, CliError> {
    let topics = request.topics.iter().map(|topic| topic.trim().to_owned()).filter(|topic| !topic.is_empty());
    let file = camino::absolute_utf8(&request.file).map_err(|e| StackError::io("resolve", &request.file, e))?;
    print_json(&file_sink_config(&request.of.load()?, &topics.collect::<Vec<_>>(), &file)?)?;
    Ok(Exit::Passed)
}
