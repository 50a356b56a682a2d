//! Backups and recoveries by a scenario's own commands: what they are told, and what the harness keeps of the pipeline so
//! that it can judge them without anything that they could hand over.
//!
//! The contract is in docs/own-runbook.md. Whatever the exit status says, it is only ever bad news: 0 proves nothing.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Done,
    contract::{environment, prepared},
    kept_wal::KeptWal,
    load::{facts, load_during_backup},
};
use crate::{
    run::{
        Known, RunError,
        chronicle::{Fact, Mark, Means},
        command::Ended,
        rig::{Pipeline, Rig},
    },
    scenario::{self, HumanDuration, Recover},
};
use cdc_engine::recovery::RecoveryError;
use cdc_model::{
    event::{StepOutcome, StepReport, StepResult, What},
    units::Exit,
};
use cdc_pipeline::{
    client::{ClientError, limits, postgres::Postgres, wait},
    config::{Config, recorded},
};
use cdc_verify::{
    PointView,
    look::{self, Systems},
};

/// Takes a backup by a command, and looks at what must be so again after a recovery from it.
pub(super) async fn backup(
    rig: &mut Rig,
    known: Known<'_>,
    wanted: &scenario::BackupCommand,
) -> Result<Done, RunError> {
    let Rig { pipeline, writers, .. } = rig;
    let environment = environment(known.plan, pipeline, Some(&wanted.name), None)?;
    let command = prepared(pipeline, &wanted.command, time_of(wanted.timeout), environment, "backup")?;
    let load = load_during_backup();
    let (ended, loaded) = tokio::join!(command.run(|| {}), writers.load(known.plan, &pipeline.config, &load));
    let (ended, loaded) = (ended?, loaded?);
    if !ended.well() {
        return Err(RunError::Command {
            what: format!("backup {}", wanted.name),
            found: ended.told(),
            hint: ended.hint().to_owned(),
            exit: Exit::BackupIncomplete,
        });
    }
    let seen = look(pipeline).await?;
    let taken = Fact::CommandBackup { name: wanted.name.clone(), seen };
    let facts = facts(&loaded).chain([taken]).collect();
    Ok(Done { facts, outcome: StepOutcome { detail: ended.told(), loaded: Some(loaded) } })
}

/// How long a command may take: what the scenario says, or else a time that is longer on a slower machine.
fn time_of(asked: Option<HumanDuration>) -> Duration {
    asked.map_or_else(|| limits::drills::COMMAND.now(), |asked| asked.0)
}

/// The registry and the topics as they are, which a recovery point would otherwise tell.
async fn look(pipeline: &Pipeline) -> Result<PointView, RunError> {
    let systems = Systems::new(&pipeline.config)?;
    let registry = look::registry(&systems, &pipeline.layout.subject_prefix()).await?;
    let specs = pipeline.kafka()?.topic_specs(&pipeline.layout.topics()).await?;
    let specs = specs.into_iter().map(|s| (s.name.clone(), s)).collect();
    Ok(PointView { registry: Some(registry), specs })
}

/// Runs a runbook. Its end and its words are evidence; what it did is for the checks to find out.
pub(super) async fn recover(
    rig: &Rig,
    known: Known<'_>,
    wanted: &Recover,
    (text, asked): (&str, Option<HumanDuration>),
    mark: Option<&Mark>,
) -> Result<Result<Means, RecoveryError>, RunError> {
    let pipeline = &rig.pipeline;
    let target = Some((wanted.target(), mark));
    let environment = environment(known.plan, pipeline, known.chronicle.command_backup(), target)?;
    let command = prepared(pipeline, text, time_of(asked), environment, "recover")?;
    let wal = KeptWal::new(pipeline, known.chronicle.epoch())?;
    let began = Instant::now();
    let ended = command.run(|| wal.gather()).await?;
    let (answers, hooks) = recorded(async {
        let answers = match ended.well() {
            true => answers(&pipeline.config).await,
            false => Ok(()),
        };
        end_stranger(&pipeline.config).await;
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
    rig.emit.emit(What::RecoveryStep(StepReport {
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
    Ok(failed.map_or(Ok(Means::Command { wal: wal.home, replaced }), Err))
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
