//! The connectors of a worker: which of them read from a cluster, and which from its topics.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    absent,
    found::{Sink, Source},
};
use crate::{
    backup::SavedConnector,
    recovery::{Playbook, RecoveryError, Request},
};
use cdc_pipeline::{
    client::{
        cluster::{Cluster, Readers, is_postgres},
        connect::{Connect, ConnectorConfig, ConnectorStatus},
    },
    debezium::{Connector, Expression, TopicNames, Unknown},
};

/// Every connector of the worker, as found.
pub(super) struct Worker {
    pub(super) connectors: Vec<(ConnectorConfig, ConnectorStatus)>,
}

impl Worker {
    pub(super) async fn look(connect: &Connect) -> Result<Worker, RecoveryError> {
        let names = connect.connectors().await?;
        let found = futures::future::try_join_all(names.iter().map(|name| connect.described(name))).await?;
        Ok(Worker { connectors: found.into_iter().flatten().collect() })
    }

    /// The saved connectors that it does not have. One whose slot another one has taken over is noted and is not among them.
    pub(super) fn lacks(&self, saved: &[SavedConnector], point: &str) -> (Vec<SavedConnector>, Vec<String>) {
        let there = |name: &str| self.connectors.iter().any(|(_, status)| status.name == name);
        let (mut absent, mut notes) = (Vec::new(), Vec::new());
        for connector in saved.iter().filter(|c| !there(&c.name)) {
            let present = self.connectors.iter().filter(|(_, status)| status.kind != "sink");
            let mut same = present.filter(|(config, _)| absent::has_same_slot(config, &connector.config));
            match same.next() {
                Some((_, heir)) if connector.kind != "sink" => {
                    notes.push(format!(
                        "connector {} of recovery point {point} is not on the worker: its slot is connector {}'s now",
                        connector.name, heir.name
                    ));
                }
                _ => absent.push(connector.clone()),
            }
        }
        (absent, notes)
    }

    /// Those of the absent source connectors that read from the cluster.
    pub(super) async fn missing<'a>(&self, cluster: &Cluster, absent: &'a [SavedConnector]) -> Vec<&'a SavedConnector> {
        let sources: Vec<&SavedConnector> =
            absent.iter().filter(|c| c.kind != "sink" && is_postgres(&c.config)).collect();
        if sources.is_empty() {
            return Vec::new();
        }
        // A slot that one of the present connectors names is not that of an absent one.
        let present = self.connectors.iter().filter(|(config, status)| status.kind != "sink" && is_postgres(config));
        let present = present.map(|(config, status)| (status.name.as_str(), config));
        let all = present.chain(sources.iter().map(|c| (c.name.as_str(), &c.config)));
        let readers = cluster.readers(all, &[]).await;
        sources.into_iter().filter(|c| readers.names.contains(&c.name)).collect()
    }

    /// In what the sources differ from what was saved of them.
    pub(super) fn changed_notes(&self, sources: &[Source], saved: &[SavedConnector], point: &str) -> Vec<String> {
        let of = |name: &str| saved.iter().find(|c| c.name == name);
        let note = |s: &Source| absent::changed_note(&s.name, &s.config, &of(&s.name)?.config, point);
        sources.iter().filter_map(note).collect()
    }

    /// The topics that each source connector has written to, those of absent ones as they were saved; and which of them the worker
    /// does not tell.
    pub(super) async fn writers(
        &self,
        connect: &Connect,
        absent: &[SavedConnector],
    ) -> Result<(BTreeMap<String, BTreeSet<String>>, Vec<String>), RecoveryError> {
        let (mut writers, mut untold) = (BTreeMap::new(), Vec::new());
        for (_, status) in self.connectors.iter().filter(|(_, status)| status.kind != "sink") {
            let name = &status.name;
            let written = match absent.iter().find(|c| c.name == *name) {
                Some(saved) => saved.topics.clone(),
                None => match connect.topics(name).await {
                    Ok(topics) => topics,
                    // Deleted since it was listed.
                    Err(error) if error.status() == Some(404) => continue,
                    Err(error) if error.status() == Some(403) || error.is_unaddressable() => {
                        untold.push(format!("which topics connector {name} has written to is not known: {error}"));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            writers.insert(name.clone(), written.into_iter().collect());
        }
        Ok((writers, untold))
    }

    /// The sources that read from the cluster; and those that may, and why their servers are not known.
    pub(super) async fn sources_on(
        &self,
        cluster: &Cluster,
        request: &Request,
    ) -> Result<(Vec<Source>, BTreeMap<String, String>), RecoveryError> {
        let postgres: Vec<(&ConnectorConfig, &ConnectorStatus)> = self
            .connectors
            .iter()
            .filter(|(connector, status)| status.kind != "sink" && is_postgres(connector))
            .map(|(connector, status)| (connector, status))
            .collect();
        let named = postgres.iter().map(|(connector, status)| (status.name.as_str(), *connector));
        let readers = cluster.readers(named, &request.connectors).await;
        refuse_untold(&readers)?;
        let of_cluster = postgres.iter().filter(|(_, status)| readers.names.contains(&status.name));
        let sources = of_cluster.map(|(connector, status)| source_of(connector, status)).collect::<Result<_, _>>()?;
        Ok((sources, readers.unknown))
    }

    pub(super) fn sinks_on(&self, topics: &[String]) -> Result<Vec<Sink>, RecoveryError> {
        let mut sinks = Vec::new();
        for (connector, status) in self.connectors.iter().filter(|(_, s)| s.kind == "sink") {
            let listed = connector.get("topics").map(String::as_str).unwrap_or_default();
            let mut read: BTreeSet<&String> =
                topics.iter().filter(|topic| listed.split(',').any(|t| t.trim() == *topic)).collect();
            if let Some(text) = connector.get("topics.regex").filter(|text| !text.is_empty()) {
                let expression = Expression::with_case(text);
                for topic in topics {
                    let matches = expression.matches(topic).map_err(|why| {
                        let (setting, expression) = ("topics.regex".to_owned(), text.clone());
                        not_understood(&status.name, &Unknown { setting, expression, why })
                    })?;
                    read.extend(matches.then_some(topic));
                }
            }
            if !read.is_empty() {
                let own = format!("connect-{}", status.name);
                let group = connector.get("consumer.override.group.id").cloned().unwrap_or(own);
                sinks.push(Sink {
                    name: status.name.clone(),
                    config: connector.clone(),
                    status: status.clone(),
                    group,
                    topics: read.into_iter().cloned().collect(),
                });
            }
        }
        Ok(sinks)
    }

    /// How every source connector names its topics, on whatever cluster.
    pub(super) fn topic_names(&self) -> impl Iterator<Item = (&str, TopicNames)> {
        let named = self.connectors.iter().filter(|(connector, _)| connector.contains_key("topic.prefix"));
        named.map(|(connector, status)| (status.name.as_str(), Connector::of(connector).topics))
    }
}

fn source_of(connector: &ConnectorConfig, status: &ConnectorStatus) -> Result<Source, RecoveryError> {
    let source = Source::of(connector.clone(), status.clone());
    match source.capture.lists.not_understood() {
        Some(unknown) => Err(not_understood(&status.name, &unknown)),
        None => Ok(source),
    }
}

fn not_understood(connector: &str, unknown: &Unknown) -> RecoveryError {
    RecoveryError::impossible(
        format!("{} of connector {connector}", unknown.setting),
        "expressions whose meaning is known: what is emptied is exactly what is filled again",
        format!("`{}`: {}", unknown.expression, unknown.why),
        "name the tables, or write the expression with groups, sets of characters and look-around alone",
    )
}

/// A database that goes back under a connector nobody knew of loses and invents rows in its topics.
fn refuse_untold(readers: &Readers) -> Result<(), RecoveryError> {
    if let Some((slot, connectors)) = readers.contested.first_key_value() {
        return Err(RecoveryError::impossible(
            format!("slot {slot}"),
            "a slot that one connector names",
            format!("connectors {}, and none of their servers can be told from here", connectors.join(", ")),
            "name the connectors of this cluster with --connector, or let [postgres] url have the host that they name",
        ));
    }
    if readers.names.is_empty() && !readers.unknown.is_empty() {
        let found = readers.unknown.iter().map(|(name, why)| format!("{name}: {why}"));
        return Err(RecoveryError::impossible(
            "the source connectors of the worker",
            "one that reads from this cluster, or all of them known to read from another",
            found.collect::<Vec<_>>().join("; "),
            "name the connectors of this cluster with --connector, or let [postgres] url have the host that they name",
        ));
    }
    Ok(())
}

/// Requires that connectors that are named are there, and that a cluster goes back with all of its own.
pub(super) fn refuse_left_out(sources: &[Source], request: &Request) -> Result<(), RecoveryError> {
    let all: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
    if let Some(stranger) = request.connectors.iter().find(|c| !all.contains(&c.as_str())) {
        return Err(RecoveryError::impossible(
            format!("connector {stranger}"),
            "a source connector on this cluster",
            if all.is_empty() {
                "no source connector on it".into()
            } else {
                format!("source connectors {}", all.join(", "))
            },
            "name the connectors that read from this cluster, or none for all of them",
        ));
    }
    let left_out: Vec<&str> = all.iter().copied().filter(|n| !request.connectors.iter().any(|c| c == n)).collect();
    if !request.connectors.is_empty() && !left_out.is_empty() && request.playbook == Playbook::Coordinated {
        return Err(RecoveryError::impossible(
            format!("connectors of the cluster: {}", all.join(", ")),
            "all of them in the recovery: the cluster goes back as a whole",
            format!("left out: {}", left_out.join(", ")),
            "name them with --connector too, or name none",
        ));
    }
    Ok(())
}
