//! `topic`: what a runbook has to do with topics where no tool of the broker is at hand.

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::output::{CliError, DryRun, say};
use cdc_engine::recovery::{self, Protection};
use cdc_model::units::{Exit, Failure, counted};
use cdc_pipeline::{
    attach,
    client::{connect::Connect, kafka::Kafka},
    config::{Config, Permission},
    debezium::{Connector, TopicNames},
};

/// Topics, for runbooks of your own.
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
}

fn protected(name: &str, why: &str) -> CliError {
    CliError::new(Exit::Refused, format!("refused: topic {name} is where a server keeps its state{why}"))
        .hint("name data topics only")
}

/// Refuses topics that are named as workers name theirs, unless a connector of the worker writes to topics so named.
async fn refuse_like_a_workers(config: &Config, topics: &[String]) -> Result<(), CliError> {
    let mut doubtful = topics.iter().filter(|name| recovery::protection(config, name).is_some()).peekable();
    let Some(first) = doubtful.peek().copied() else { return Ok(()) };
    let connect = Connect::of(&config.connect);
    let connectors = async {
        let names = connect.connectors().await?;
        futures::future::try_join_all(names.iter().map(|name| connect.described(name))).await
    };
    let connectors = connectors.await.map_err(|error| {
        let unless = ", unless a connector's prefix is like that, and the worker does not say";
        let refused = protected(first, &format!("{unless}: {error}"));
        error.hints().into_iter().fold(refused, CliError::hint)
    })?;
    let with_prefix = connectors.iter().flatten().filter(|(connector, _)| connector.contains_key("topic.prefix"));
    let named: Vec<TopicNames> = with_prefix.map(|(connector, _)| Connector::of(connector).topics).collect();
    match doubtful.find(|name| recovery::is_protected(config, name, &named)) {
        None => Ok(()),
        Some(name) => Err(protected(name, "")),
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<Exit, CliError> {
    let Verb::Rebuild { config, yes, dry, topics } = args.verb;
    let config = Config::load(&config)?;
    let known = |name: &&String| recovery::protection(&config, name) == Some(Protection::Known);
    if let Some(name) = topics.iter().find(known) {
        return Err(protected(name, ""));
    }
    // It goes on with the topics as it found them, and would find what is emptied now in use again.
    recovery::refuse_unfinished(&config)?;
    attach::permit(&config, Permission::Recover).await?;
    attach::within(&config, "topic", topics.iter().map(String::as_str))?;
    refuse_like_a_workers(&config, &topics).await?;
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
