//! Backups and recoveries by a scenario's own commands: what they are told, and what the harness keeps of the pipeline so
//! that it can judge them without anything that they could hand over.
//!
//! The contract is in the README. Whatever the exit status says, it is only ever bad news: 0 proves nothing.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    RunError,
    command::{Command, Ended},
    drill::{Drill, Mark},
};
use crate::{
    client::{ClientError, limits, postgres::Postgres, wait},
    config::{Config, recorded},
    event::{StepReport, StepResult, What},
    recovery::RecoveryError,
    scenario::{self, DrillPlan, HumanDuration, Recover, Step, Target},
    stack::{Account, local},
    units::{Exit, TableName},
    verify::{
        PointView,
        observe::{self, Systems},
    },
};

/// Enough WAL for any drill: what a command restores over is gone, and the ledger's order of commits is read from it.
pub(super) const WAL_KEEP: (&str, &str) = ("wal_keep_size", "'2GB'");

/// Whether WAL must be kept for a drill's own commands. A server that keeps it invalidates no slot.
pub(super) fn keeps_wal(plan: &DrillPlan) -> bool {
    let invalidates = plan.steps.iter().any(|s| matches!(s, Step::Fault(scenario::Fault::InvalidateSlot)));
    !plan.commands().is_empty() && !invalidates
}

/// What a control does instead of the recovery, or the recovery itself, where that is a command.
pub(super) fn command_of<'d>(plan: &'d DrillPlan, wanted: &'d Recover) -> Option<(&'d str, Duration)> {
    match (plan.control.as_ref().and_then(|c| c.naive.as_ref()), wanted) {
        (Some(scenario::Naive::Exec(naive)), _) => Some((&naive.command, time_of(naive.timeout))),
        (None, Recover::Exec(runbook)) => Some((&runbook.command, time_of(runbook.timeout))),
        _ => None,
    }
}

/// Takes a backup by a command, and looks at what must be so again after a recovery from it.
pub(super) async fn backup(drill: &mut Drill<'_>, wanted: &scenario::BackupCommand) -> Result<String, RunError> {
    let environment = environment(drill, Some(&wanted.name), None)?;
    let command = prepared(drill, &wanted.command, time_of(wanted.timeout), environment, "backup")?;
    let config = drill.pipeline.config.clone();
    let load = super::steps::load_during_backup();
    let (ended, loaded) = tokio::join!(command.run(|| {}), drill.writers.load(drill.plan, &config, &load));
    let (ended, loaded) = (ended?, loaded?);
    if !ended.well() {
        return Err(RunError::Command {
            what: format!("backup {}", wanted.name),
            found: ended.told(),
            hint: ended.hint().to_owned(),
            exit: Exit::BackupIncomplete,
        });
    }
    drill.command_backup = Some(wanted.name.clone());
    drill.looked = Some(look(drill).await?);
    Ok(format!("{}; meanwhile {loaded}", ended.told()))
}

/// How long a command may take: what the scenario says, or else a time that is longer on a slower machine.
fn time_of(asked: Option<HumanDuration>) -> Duration {
    asked.map_or_else(|| limits::drills::COMMAND.now(), |asked| asked.0)
}

/// The registry and the topics as they are, which a recovery point would otherwise tell.
async fn look(drill: &Drill<'_>) -> Result<PointView, RunError> {
    let systems = Systems::new(&drill.pipeline.config)?;
    let registry = observe::registry(&systems, &drill.pipeline.subject_prefix()).await?;
    let specs = drill.pipeline.kafka()?.topic_specs(&drill.pipeline.topics()).await?;
    let specs = specs.into_iter().map(|s| (s.name.clone(), s)).collect();
    Ok(PointView { registry: Some(registry), specs })
}

/// What a recovery by a command left for the harness.
#[derive(Debug)]
pub(super) struct Left {
    /// Where the WAL of the server lies that was there before, below `pg_wal`.
    pub wal: Utf8PathBuf,
    /// Whether another data folder stands in the place of the one before.
    pub replaced: bool,
}

/// Runs a runbook. Its end and its words are evidence; what it did is for the checks to find out.
pub(super) async fn recover(
    drill: &Drill<'_>,
    wanted: &Recover,
    (text, timeout): (&str, Duration),
    mark: Option<&Mark>,
) -> Result<Result<Left, RecoveryError>, RunError> {
    let environment = environment(drill, drill.command_backup.as_deref(), Some((wanted.target(), mark)))?;
    let command = prepared(drill, text, timeout, environment, "recover")?;
    let wal = Kept::new(drill)?;
    let began = Instant::now();
    let ended = command.run(|| wal.gather()).await?;
    let (answers, hooks) = recorded(async {
        let answers = match ended.well() {
            true => answers(&drill.pipeline.config).await,
            false => Ok(()),
        };
        end_stranger(&drill.pipeline.config).await;
        answers
    })
    .await;
    let failed = match (&answers, ended.well()) {
        (_, false) => Some(RecoveryError::Runbook {
            expected: "exit status 0".into(),
            found: ended.told(),
            hint: ended.hint().into(),
        }),
        (Err(why), true) => Some(RecoveryError::Runbook {
            expected: "a server that answers, started by $CDC_DRILL_PG_START".into(),
            found: format!("{why}; {}", ended.told()),
            hint: "a server that is started otherwise is unknown to whoever must stop it".into(),
        }),
        (Ok(()), true) => None,
    };
    drill.emit.emit(What::RecoveryStep(StepReport {
        name: "exec".into(),
        destroys: Vec::new(),
        precondition: format!("to keep: {}", wanted.target()),
        started_seconds: 0.0,
        seconds: began.elapsed().as_secs_f64(),
        result: if failed.is_none() { StepResult::Done } else { StepResult::Failed },
        detail: evidence(text, &ended),
        hooks,
    }));
    let replaced = wal.replaced();
    Ok(failed.map_or(Ok(Left { wal: wal.home, replaced }), Err))
}

fn evidence(text: &str, ended: &Ended) -> String {
    format!("$ {}\n{} after {:.1} s", text.trim(), ended.told(), ended.seconds)
}

/// A server that answers and that its hook knows.
async fn answers(config: &Config) -> Result<(), String> {
    let waited = wait::until("the server to answer", limits::postgres::BY_COMMAND, || async {
        let db = Postgres::connect(&config.postgres.url, "cdc-drill run").await?;
        Ok::<_, ClientError>(match db.text("select pg_is_in_recovery()::text").await?.as_deref() {
            Some("false") => wait::Poll::Ready(()),
            other => wait::Poll::NotYet(format!("it is in recovery: {}", other.unwrap_or("unknown"))),
        })
    });
    waited.await.map_err(|error| error.to_string())?;
    match hook_knows(config).await? {
        true => Ok(()),
        false => Err("a server answers, and $CDC_DRILL_PG_RUNNING says that none runs".to_owned()),
    }
}

/// Whether the server's hook says that it runs.
async fn hook_knows(config: &Config) -> Result<bool, String> {
    let Some(hook) = config.control.get("postgres") else { return Ok(true) };
    hook.runs("postgres").await.map_err(|error| error.to_string())
}

/// Ends a server on the drill's data folder that was started otherwise than by the hook: nobody else would.
async fn end_stranger(config: &Config) {
    if hook_knows(config).await != Ok(false) {
        return;
    }
    let pgdata = &config.postgres.pgdata;
    let text = std::fs::read_to_string(pgdata.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return };
    // A server works in its data folder; a process of another kind has only taken over the number.
    let works_in = || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == pgdata.as_std_path());
    if !works_in() {
        return;
    }
    tracing::warn!(pid, %pgdata, "a command left a server that its hook does not know; it is ended");
    let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
    let gone = wait::until("that server to end", limits::postgres::BY_COMMAND, || async {
        Ok::<_, std::convert::Infallible>(match works_in() {
            true => wait::Poll::NotYet(format!("process {pid}")),
            false => wait::Poll::Ready(()),
        })
    });
    if let Err(error) = gone.await {
        tracing::warn!(%error, "ending a server");
    }
}

/// A command in an empty folder of its own.
fn prepared<'c>(
    drill: &Drill<'_>,
    text: &'c str,
    timeout: Duration,
    environment: BTreeMap<&'static str, String>,
    kind: &str,
) -> Result<Command<'c>, RunError> {
    let home = &drill.pipeline.dir;
    // Numbered by what is there: a drill may run several.
    let name = (1..).map(|n| format!("{kind}-{n}")).find(|name| !home.join("exec").join(name).exists());
    let name = name.unwrap_or_else(|| kind.to_owned());
    let secret = environment.get("PGPASSWORD").cloned().unwrap_or_default();
    let log = home.join("logs").join(format!("exec-{name}.log"));
    Ok(Command { text, folder: home.join("exec").join(name), environment, timeout, log, secret })
}

/// The contract, as the README has it.
fn environment(
    drill: &Drill<'_>,
    backup: Option<&str>,
    target: Option<(&Target, Option<&Mark>)>,
) -> Result<BTreeMap<&'static str, String>, RunError> {
    let pipeline = &drill.pipeline;
    let config = &pipeline.config;
    let account = Account::choose()?;
    let backups = pipeline.dir.join("exec/backups");
    // The server archives there, as its own account.
    std::fs::create_dir_all(pipeline.dir.join("exec")).map_err(RunError::file("create", &backups))?;
    account.folder(&backups)?;
    let tables: Vec<String> = pipeline.tables.iter().map(TableName::to_string).collect();
    // Connector, prefix, slot and publication have one name.
    let connectors = pipeline.connectors().join(" ");
    let mut all = BTreeMap::from([
        ("CDC_DRILL_BIN", local::find_binary(None)?.into_string()),
        ("CDC_DRILL_CONFIG", pipeline.dir.join(local::CONFIG_FILE).into_string()),
        ("CDC_DRILL_SCENARIO_DIR", drill.plan.folder.to_string()),
        ("CDC_DRILL_BACKUPS", backups.into_string()),
        ("CDC_DRILL_REPOSITORY", config.repository.path.to_string()),
        ("CDC_DRILL_CONNECT_URL", config.connect.url.clone()),
        ("CDC_DRILL_REGISTRY_URL", config.registry.url.clone()),
        ("CDC_DRILL_KAFKA", config.kafka.bootstrap.clone()),
        ("CDC_DRILL_CONNECTOR", connectors.clone()),
        ("CDC_DRILL_SLOT", connectors.clone()),
        ("CDC_DRILL_PUBLICATION", connectors.clone()),
        ("CDC_DRILL_TOPIC_PREFIX", connectors),
        ("CDC_DRILL_TOPICS", pipeline.topics().join(" ")),
        ("CDC_DRILL_TABLES", tables.join(" ")),
        ("CDC_DRILL_PG_ACCOUNT", account.name),
        ("CDC_DRILL_PG_BIN", config.postgres.bin.to_string()),
        ("PGDATA", config.postgres.pgdata.to_string()),
    ]);
    if let Some(hook) = config.control.get("postgres") {
        all.insert("CDC_DRILL_PG_START", hook.start.clone());
        all.insert("CDC_DRILL_PG_STOP", hook.stop.clone());
        all.insert("CDC_DRILL_PG_RUNNING", hook.running.clone());
    }
    if let Some(name) = backup {
        all.insert("CDC_DRILL_BACKUP", name.to_owned());
    }
    if let Some((target, mark)) = target {
        all.insert("CDC_DRILL_TARGET", if mark.is_some() { "mark".into() } else { "latest".into() });
        if let (Target::Mark { .. }, Some(mark)) = (target, mark) {
            all.insert("CDC_DRILL_TARGET_NAME", mark.restore_point.clone());
            all.insert("CDC_DRILL_TARGET_LSN", mark.lsn.to_string());
            all.insert("CDC_DRILL_TARGET_TIME", mark.time.to_string());
        }
    }
    all.extend(libpq(config));
    Ok(all)
}

/// The server's address and password for `psql` and its like, and where those are.
pub(super) fn libpq(config: &Config) -> BTreeMap<&'static str, String> {
    let Ok(url) = config.postgres.url.expose().parse::<tokio_postgres::Config>() else { return BTreeMap::new() };
    let host = url.get_hosts().first().map(|h| match h {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let password = url.get_password().map(|p| String::from_utf8_lossy(p).into_owned());
    let pairs = [
        ("PGHOST", host),
        ("PGPORT", url.get_ports().first().map(ToString::to_string)),
        ("PGUSER", url.get_user().map(str::to_owned)),
        ("PGPASSWORD", password),
        ("PGDATABASE", url.get_dbname().map(str::to_owned)),
    ];
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let path = ("PATH", Some(format!("{}:{path}", config.postgres.bin)));
    pairs.into_iter().chain([path]).filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Holds on to the WAL of a server whose data folder may be deleted at any moment, by links to its segments: what is written
/// into the last one later is seen too.
struct Kept {
    home: Utf8PathBuf,
    pg_wal: Utf8PathBuf,
    folder: Option<u64>,
}

impl Kept {
    fn new(drill: &Drill<'_>) -> Result<Kept, RunError> {
        let home = drill.pipeline.dir.join("exec").join(format!("wal-of-epoch-{}", drill.epoch.0));
        let into = home.join("pg_wal");
        std::fs::create_dir_all(&into).map_err(RunError::file("create", &into))?;
        let pg_wal = drill.pipeline.config.postgres.pgdata.join("pg_wal");
        let kept = Kept { home, folder: inode(&pg_wal), pg_wal };
        kept.gather();
        Ok(kept)
    }

    /// Links what is new, as long as it is the old server's folder. What cannot be linked is not there any more.
    fn gather(&self) {
        if self.replaced() {
            return;
        }
        let Ok(entries) = self.pg_wal.read_dir_utf8() else { return };
        for entry in entries.flatten().filter(|e| is_wal(e.file_name())) {
            let to = self.home.join("pg_wal").join(entry.file_name());
            if !to.exists() && std::fs::hard_link(entry.path(), &to).is_err() {
                let _ = std::fs::copy(entry.path(), &to);
            }
        }
    }

    fn replaced(&self) -> bool {
        inode(&self.pg_wal) != self.folder
    }
}

fn inode(path: &Utf8Path) -> Option<u64> {
    std::fs::metadata(Path::new(path)).ok().map(|m| m.ino())
}

/// Whether a file of `pg_wal` is a segment or a timeline's history.
fn is_wal(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    (name.len() == 24 && hex(name)) || name.strip_suffix(".history").is_some_and(|stem| stem.len() == 8 && hex(stem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    #[test]
    fn segments_and_histories_are_wal() {
        for (name, wal) in [
            ("000000010000000000000003", true),
            ("00000002.history", true),
            ("000000010000000000000003.00000028.backup", false),
            ("archive_status", false),
            ("xlogtemp.77", false),
        ] {
            assert_eq!(is_wal(name), wal, "{name}");
        }
    }

    #[test]
    fn psql_finds_the_server_by_its_environment() {
        let text = "[postgres]\nurl = 'postgres://me:s3cret@127.0.0.1:5433/shop'\npgdata = '/d'\nbin = '/b'\n\
                    [kafka]\nbootstrap = 'k:1'\n[connect]\nurl = 'http://c:1'\n[registry]\nurl = 'http://r:1'\nflavour = 'apicurio'\n\
                    [repository]\npath = '/r'\n";
        let mut config: Config = toml::from_str(text).unwrap();
        config.postgres.url = Secret::new(config.postgres.url.expose());
        let pairs = libpq(&config);
        assert_eq!(pairs["PGPORT"], "5433");
        assert_eq!((pairs["PGUSER"].as_str(), pairs["PGPASSWORD"].as_str()), ("me", "s3cret"));
        assert_eq!((pairs["PGHOST"].as_str(), pairs["PGDATABASE"].as_str()), ("127.0.0.1", "shop"));
    }
}
