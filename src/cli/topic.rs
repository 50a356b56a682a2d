//! `topic`: what a runbook has to do with topics where no tool of the broker is at hand.

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::output::{CliError, DryRun, say};
use crate::{
    attach,
    client::kafka::Kafka,
    config::{Config, Permission, RegistryStorage},
    units::Exit,
};

/// Topics, for runbooks of your own.
#[derive(Debug, clap::Args)]
pub struct Args {
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
}

/// Topics in which the worker and the registry keep what they know.
fn kept_by_servers(config: &Config) -> Vec<String> {
    let mut kept = vec![config.connect.offsets_topic.clone()];
    if let Some(RegistryStorage::Kafkasql { topics }) = &config.registry.storage {
        kept.extend(topics.clone());
    }
    kept
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, CliError> {
    let Verb::Rebuild { config, yes, dry, topics } = args.verb;
    let config = Config::load(&config)?;
    let kept = kept_by_servers(&config);
    if let Some(name) = topics.iter().find(|name| name.starts_with("__") || kept.contains(name)) {
        return Err(CliError::new(
            Exit::Refused,
            format!("refused: topic {name} is where a server keeps its state\nhint: name data topics only"),
        ));
    }
    attach::permit(&config, Permission::Recover).await?;
    attach::within(&config, "topic", topics.iter().map(String::as_str))?;
    let kafka = Kafka::of(&config.kafka)?;
    let specs = kafka.topic_specs(&topics).await?;
    if let Some(absent) = topics.iter().find(|name| specs.iter().all(|s| s.name != **name)) {
        return Err(CliError::new(
            Exit::PlanImpossible,
            format!(
                "topic {absent}: expected a topic, found none\nhint: nothing was touched; what its settings were is unknown"
            ),
        ));
    }
    if dry.told(format!("delete all records of {}", topics.join(", "))) {
        return Ok(Exit::Passed);
    }
    if !yes {
        return Err(CliError::new(
            Exit::Refused,
            format!("refused: this would delete all records of {}\nhint: give --yes", topics.join(", ")),
        ));
    }
    kafka.delete_topics(&topics).await?;
    kafka.create_topics(&specs).await?;
    say(format!("{} topics are empty, with the partitions and settings that they had", specs.len()));
    Ok(Exit::Passed)
}
