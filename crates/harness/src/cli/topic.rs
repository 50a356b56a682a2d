//! `topic`: the records of topics, backed up and replayed, and what a runbook has to do with topics where no tool of the broker is at
//! hand.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;

use super::{
    output::{CliError, DryRun, say},
    protected::refuse_to_change,
    topic_archive,
};
use cdc_model::units::{Exit, counted};
use cdc_pipeline::{client::kafka::Kafka, config::Config};

/// Back up topics' records and replay them; empty topics.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Delete topics and create them again, empty, with the partitions and settings that they had
    Rebuild {
        /// The pipeline's configuration file
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
        /// Agree to lose what is in them
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        dry: DryRun,
        /// The topics
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
    },
    /// Add to the archives of topics what came since their last backup
    Backup(topic_archive::BackupArgs),
    /// List the backups of topics, oldest first
    List(topic_archive::ListArgs),
    /// Check every byte of backups of topics: exits 0, 30 (something is missing) or 31 (checksum)
    Verify(topic_archive::VerifyArgs),
    /// Write a backed up topic into one that is missing or empty; everything is verified before
    Replay(topic_archive::ReplayArgs),
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    match args.verb {
        Verb::Rebuild { config, yes, dry, topics } => rebuild(&config, yes, dry, topics).await,
        Verb::Backup(args) => topic_archive::backup(args).await,
        Verb::List(args) => topic_archive::list(&args),
        Verb::Verify(args) => topic_archive::verify(args).await,
        Verb::Replay(args) => topic_archive::replay(args).await,
    }
}

async fn rebuild(config: &Utf8Path, yes: bool, dry: DryRun, topics: Vec<String>) -> Result<Exit, CliError> {
    let config = Config::load(config)?;
    refuse_to_change(&config, &topics).await?;
    let kafka = Kafka::of(&config.kafka)?;
    let specs = kafka.topic_specs(&topics).await?;
    if let Some(absent) = topics.iter().find(|name| specs.iter().all(|s| s.name != **name)) {
        return Err(CliError::new(Exit::PlanImpossible, format!("topic {absent}: expected a topic, found none"))
            .hint("nothing was touched; what its settings were is unknown"));
    }
    if dry.told(format!("delete all records of {}", topics.join(", "))) {
        return Ok(Exit::Passed);
    }
    if !yes {
        let message = format!("refused: this would delete all records of {}", topics.join(", "));
        return Err(CliError::new(Exit::Refused, message).hint("give --yes"));
    }
    kafka.delete_topics(&topics).await?;
    kafka.create_topics(&specs).await?;
    say(format!("emptied, with the partitions and settings as before: {}", counted(specs.len(), "topic")));
    Ok(Exit::Passed)
}
