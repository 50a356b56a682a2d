//! `topic backup`, `list`, `verify` and `replay`: the records of topics.

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use cdc_engine::backup::{
    Repository,
    topics::{
        self, ListedBackup, MovedOffset, Replay, ReplayOptions, Replayed, TopicBackup, TopicProgress, TopicReport,
        Until,
    },
};
use cdc_model::units::{Exit, counted};
use cdc_pipeline::config::Config;

use super::{
    interrupt::unless_interrupted,
    output::{CliError, DryRun, print_json, say},
    protected::refuse_to_change,
};

/// Which topics to back up.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// The pipeline's configuration file
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dry: DryRun,
    /// The topics; those that connectors have written to or read from when none is given
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
}

/// Which repository.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// The pipeline's configuration file, which names the repository
    #[arg(long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// The repository's folder, or its address in a bucket: s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR")]
    repository: Option<Utf8PathBuf>,
}

impl Place {
    fn open(&self) -> Result<Repository, CliError> {
        Ok(match (&self.repository, &self.config) {
            (Some(folder), _) => Repository::open(folder)?,
            (None, Some(file)) => Repository::of(&Config::load(file)?.repository)?,
            // Ruled out by the argument group.
            (None, None) => Repository::open(".".into())?,
        })
    }
}

/// What to list.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// Only this topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Print the list as JSON, with every recorded gap
    #[arg(long)]
    json: bool,
}

/// What to verify.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Only this topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only this backup
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What to replay, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The pipeline's configuration file
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// The topic that was backed up
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Which backup of it; the newest when absent
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Write into a topic of this name instead
    #[arg(long = "as", value_name = "TOPIC")]
    target: Option<String>,
    /// Only what precedes the first record of a partition that is beyond this: a time (inclusive), an offset (exclusive) or
    /// offsets by partition (`0:1200,1:900`)
    #[arg(long, value_name = "TIME|OFFSET")]
    until: Option<Until>,
    /// Also set what consumer groups had committed, at the positions that their next records have now
    #[arg(long)]
    groups: bool,
    /// Write the mapping of offsets to this file too
    #[arg(long, value_name = "FILE")]
    mapping: Option<Utf8PathBuf>,
    /// Replay even if the registry does not know schema ids in the records, or knows them as other schemas
    #[arg(long)]
    accept_unknown_schemas: bool,
    /// Agree to write
    #[arg(long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Verify everything, say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `topic backup`.
pub(super) async fn backup(args: BackupArgs) -> Result<Exit, CliError> {
    let config = Config::load(&args.config)?;
    let named = match args.topics.is_empty() {
        true => topics::connectors_topics(&config).await?,
        false => args.topics,
    };
    if named.is_empty() {
        let message = "no connector has written to or read from a topic that is there";
        return Err(CliError::new(Exit::PlanImpossible, message).hint("name the topics"));
    }
    let into = &config.repository.path;
    if args.dry.told(format!("back up the records of {} into {into}", named.join(", "))) {
        return Ok(Exit::Passed);
    }
    let progress = |at: TopicProgress| say(format!("{}: up to offset {}", at.partition, at.at));
    let backups = unless_interrupted(topics::back_up_topics(&config, &named, &progress)).await??;
    for backup in &backups {
        say(taken(backup));
        for note in &backup.notes {
            say(format!("note: {note}"));
        }
    }
    if args.json {
        print_json(&backups)?;
    }
    Ok(Exit::Passed)
}

fn taken(backup: &TopicBackup) -> String {
    let gaps = backup.partitions.iter().map(|partition| partition.gaps.len()).sum::<usize>();
    let gaps = if gaps > 0 { format!(", {}", counted(gaps, "recorded gap")) } else { String::new() };
    let (records, bytes) = (counted(backup.records(), "record"), counted(backup.bytes(), "byte"));
    format!("{}: {} has {records} in {bytes}{gaps}", backup.topic, backup.backup)
}

/// Runs `topic list`.
pub(super) fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let listed = topics::list_topics(&args.place.open()?, args.topic.as_deref())?;
    if args.json {
        print_json(&listed)?;
        return Ok(Exit::Passed);
    }
    for backup in &listed {
        say(line(backup));
        for (partition, gaps) in &backup.gaps {
            for gap in gaps {
                say(format!("  gap in partition {partition}: {gap}"));
            }
        }
        for note in &backup.notes {
            say(format!("  note: {note}"));
        }
    }
    Ok(Exit::Passed)
}

fn line(backup: &ListedBackup) -> String {
    match (&backup.backup, &backup.defect) {
        (Some(id), None) => {
            let (records, bytes) = (counted(backup.records, "record"), counted(backup.bytes, "byte"));
            let cluster = backup.cluster_id.as_deref().unwrap_or("an unknown cluster");
            format!("{}  {id}  {records} in {bytes}, of {cluster}", backup.topic)
        }
        (_, defect) => format!("{}  {}", backup.topic, defect.as_deref().unwrap_or("cannot be read")),
    }
}

/// Runs `topic verify`.
pub(super) async fn verify(args: VerifyArgs) -> Result<Exit, CliError> {
    let repository = args.place.open()?;
    let (topic, backup) = (args.topic.clone(), args.backup.clone());
    let report =
        tokio::task::spawn_blocking(move || topics::verify_topics(&repository, topic.as_deref(), backup.as_deref()));
    let report: TopicReport = report.await.map_err(|e| CliError::new(Exit::Internal, format!("verify: {e}")))??;
    if report.backups == 0 && report.defects.is_empty() {
        let wanted = args.topic.as_deref().unwrap_or("any topic");
        return Err(CliError::new(
            Exit::Invalid,
            format!("the repository has no backup of {wanted} that is asked for"),
        )
        .hint("`cdc-drill topic list` names what is there"));
    }
    let exit = report.exit();
    if args.json {
        let mut value: Value = json!(report);
        value["exit_code"] = json!(exit.code());
        print_json(&value)?;
    }
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    for defect in &report.defects {
        say(defect.to_string());
    }
    let verdict = match report.defects.len() {
        0 => "no defect".to_owned(),
        n => counted(n, "defect"),
    };
    say(format!(
        "{verdict}: {} of {}, {} with {} in {}",
        counted(report.backups, "backup"),
        counted(report.topics.len(), "topic"),
        counted(report.segments, "segment"),
        counted(report.records, "record"),
        format_args!("{} record batches", report.batches),
    ));
    Ok(exit)
}

/// Runs `topic replay`.
pub(super) async fn replay(args: ReplayArgs) -> Result<Exit, CliError> {
    let config = Config::load(&args.config)?;
    let options = ReplayOptions {
        topic: args.topic.clone(),
        backup: args.backup,
        target: args.target.clone(),
        until: args.until.unwrap_or_default(),
        groups: args.groups,
        mapping: args.mapping,
        accept_unknown_schemas: args.accept_unknown_schemas,
        // Without --yes it ends in a refusal, for which nobody else has to give way.
        dry_run: args.dry_run || !args.yes,
        scratch: false,
    };
    refuse_to_change(&config, &[args.target.unwrap_or(args.topic)]).await?;
    let planned = unless_interrupted(topics::plan_replay(&config, &options)).await??;
    for note in planned.notes() {
        say(format!("note: {note}"));
    }
    if args.dry_run {
        say(format!("dry run: would {}", planned.describe()));
        say_moved(&planned.moved());
        return Ok(Exit::Passed);
    }
    if !args.yes {
        let message = format!("refused: this would {}", planned.describe());
        return Err(CliError::new(Exit::Refused, message).hint("give --yes"));
    }
    let done = unless_interrupted(written(planned)).await??;
    if args.json {
        print_json(&done)?;
    }
    say_moved(&done.groups);
    say(format!(
        "{} has {} of {}: {} read back and compared, {} had been there; offsets are mapped in {}",
        done.target,
        counted(done.records, "record"),
        done.backup,
        done.compared,
        done.found,
        done.mapping.map_or_else(|| "no file".to_owned(), Utf8PathBuf::into_string)
    ));
    Ok(Exit::Passed)
}

async fn written(planned: Replay) -> Result<Replayed, cdc_engine::backup::BackupError> {
    planned.run(&|partition, records| say(format!("partition {partition}: {}", counted(records, "record")))).await
}

fn say_moved(moved: &[MovedOffset]) {
    for MovedOffset { group, partition, from, to } in moved {
        say(format!("group {group}, partition {partition}: offset {from} is {to}"));
    }
}
