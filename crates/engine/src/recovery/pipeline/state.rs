//! The pipeline around one cluster, as far as a recovery is concerned with it.

use std::collections::BTreeSet;

use super::{
    active::ActiveGroup,
    found::{Found, GroupOffsets, Sink, Source},
};
use crate::recovery::{RecoveryError, Watch, course::Course};
use cdc_pipeline::{
    client::{
        connect::Connect,
        kafka::{Kafka, TopicSpec},
        postgres::Postgres,
    },
    config::Config,
};

/// The pipeline around one cluster.
#[derive(Debug)]
pub struct Pipeline {
    /// The configuration.
    pub config: Config,
    /// The worker.
    pub connect: Connect,
    /// The broker.
    pub(crate) kafka: Kafka,
    /// The steps that are taken, once the procedure is composed.
    pub(crate) course: Course,
    /// Source connectors whose topics are rebuilt, by name.
    pub sources: Vec<Source>,
    /// Source connectors that are stopped meanwhile and go on where they were.
    pub(crate) others: Vec<Source>,
    /// Sinks on the data topics, by name.
    pub(crate) sinks: Vec<Sink>,
    /// The data topics with their settings.
    pub(crate) topics: Vec<TopicSpec>,
    /// Groups with offsets on them.
    pub(crate) groups: Vec<GroupOffsets>,
    /// Everything as it was before the recovery, of which a repair may concern a part.
    pub(crate) found: Found,
    /// The groups that read the data topics when it was looked.
    pub(super) active: Vec<ActiveGroup>,
    /// Takes what steps tell of their progress.
    pub(crate) watch: Watch,
}

impl Pipeline {
    /// The pipeline as an earlier run of the same recovery found it: what it destroyed since is not looked at.
    pub(crate) fn of(config: &Config, found: Found) -> Result<Pipeline, RecoveryError> {
        Ok(Pipeline {
            config: config.clone(),
            connect: Connect::of(&config.connect),
            kafka: Kafka::of(&config.kafka)?,
            course: Course::default(),
            sources: found.sources.clone(),
            others: Vec::new(),
            sinks: found.sinks.clone(),
            topics: found.topics.clone(),
            groups: found.groups.clone(),
            found,
            active: Vec::new(),
            watch: Watch::default(),
        })
    }

    /// What a person should know of topics: those that stay as they are, why those of some connectors cannot be told, and the
    /// connectors whose topics may be missing here.
    pub(crate) fn topic_findings(&self) -> Vec<String> {
        let unidentified = self.found.unidentified.iter().map(|(name, why)| {
            format!(
                "connector {name} may read from this cluster, and is no part of this recovery: {why} (name it with --connector if it does)"
            )
        });
        let mut findings: Vec<String> = unidentified.collect();
        findings.extend(self.found.notes.iter().cloned());
        for source in &self.sources {
            let name = &source.name;
            if !source.capture.renames_topics.is_empty() {
                findings.push(format!(
                    "connector {name}: its records may go to other topics than its tables' ({}): every topic that it has written is rebuilt, and `verify`, which does not read such a connector, cannot say whether they hold what the tables hold: compare them yourself",
                    source.capture.renames_topics.join(", ")
                ));
            }
            if !source.left.is_empty() {
                findings.push(format!(
                    "connector {name}: not of a table that it captures, filled by nobody, and left as they are: {}",
                    source.left.join(", ")
                ));
            }
        }
        findings
    }

    /// The names of the data topics.
    pub(crate) fn topic_names(&self) -> Vec<String> {
        self.topics.iter().map(|t| t.name.clone()).collect()
    }

    /// `prefix name` for each source and sink.
    pub(crate) fn named_connectors(&self) -> Vec<String> {
        let sinks = self.sinks.iter().map(|s| format!("tasks of sink connector {}", s.name));
        let sources = self.sources.iter().chain(&self.others);
        sinks.chain(sources.map(|s| format!("tasks of source connector {}", s.name))).collect()
    }

    /// Lets the repair concern only some of the sources, with their topics and groups. The rest are stopped and resumed
    /// with them when `hold` is set, and left alone otherwise.
    pub(crate) fn narrow(&mut self, names: &BTreeSet<String>, hold: bool) {
        let (chosen, rest) = self.found.sources.iter().cloned().partition(|s| names.contains(&s.name));
        self.sources = chosen;
        self.others = if hold { rest } else { Vec::new() };
        let topics: BTreeSet<&String> = self.sources.iter().flat_map(|s| &s.topics).collect();
        self.topics = self.found.topics.iter().filter(|t| topics.contains(&t.name)).cloned().collect();
        let mut groups = self.found.groups.clone();
        for group in &mut groups {
            group.offsets.retain(|(partition, _)| topics.contains(&partition.topic));
        }
        self.groups = groups.into_iter().filter(|g| !g.offsets.is_empty()).collect();
    }

    /// Every source connector of the cluster.
    pub(crate) fn all_sources(&self) -> &[Source] {
        &self.found.sources
    }

    /// A session in the source's database.
    pub async fn session(&self, source: &Source) -> Result<Postgres, RecoveryError> {
        let url = &self.config.postgres.url;
        Ok(Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?)
    }
}
