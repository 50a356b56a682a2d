//! Topics that no command changes because it is told to: servers keep their state in them.

use super::output::CliError;
use cdc_engine::recovery::{self, Protection};
use cdc_model::units::{Exit, Failure};
use cdc_pipeline::{
    attach,
    client::connect::Connect,
    config::{Config, Permission},
    debezium::{Connector, TopicNames},
};

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

/// Refuses topics in which servers keep their state, and changes beside a recovery that is unfinished: it goes on with the topics as it
/// found them, and would find what is changed now in use again.
pub(super) async fn refuse_to_change(config: &Config, topics: &[String]) -> Result<(), CliError> {
    let known = |name: &&String| recovery::protection(config, name) == Some(Protection::Known);
    if let Some(name) = topics.iter().find(known) {
        return Err(protected(name, ""));
    }
    recovery::refuse_unfinished(config)?;
    attach::permit(config, Permission::Recover).await?;
    attach::within(config, "topic", topics.iter().map(String::as_str))?;
    refuse_like_a_workers(config, topics).await
}
