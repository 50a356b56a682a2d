//! Finds everything that reads from a cluster or from its topics.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use super::{
    absent,
    found::{Found, GroupOffsets, Sink, Source},
    protected::is_protected,
    publication::publication_of,
};
use crate::{
    backup::{Point, Publication, SavedConnector},
    client::{
        catalogue,
        cluster::{Cluster, Readers, is_postgres},
        connect::{Connect, ConnectorConfig, ConnectorStatus},
        kafka::{Group, Kafka, TopicSpec, Untold},
        postgres::Postgres,
        registry::Registry,
    },
    config::Config,
    debezium::{Choice, Connector, Expression, Relation, TopicNames, Unknown},
    recovery::{Playbook, RecoveryError, Request, Watch, course::Course},
    units::{SlotName, TableName, TopicPartition},
};

/// A group that reads data topics now.
#[derive(Clone, Debug)]
struct ActiveGroup {
    name: String,
    state: String,
    members: Vec<String>,
    topics: BTreeSet<String>,
    /// Why it cannot be told whether it has members.
    untold: Option<Untold>,
}

impl ActiveGroup {
    /// A group that has members, or of which nobody can tell, with the topics it has to do with.
    fn of(group: Group, committed: Vec<TopicPartition>) -> Option<ActiveGroup> {
        let Group { name, state, members, mut topics, untold } = group;
        topics.extend(committed.into_iter().map(|p| p.topic));
        (!members.is_empty() || untold.is_some()).then_some(ActiveGroup { name, state, members, topics, untold })
    }

    /// Who is in it, as far as that is known.
    fn seen(&self) -> String {
        match &self.untold {
            Some(why) => why.to_string(),
            None => format!("{} ({})", self.members.join(", "), self.state),
        }
    }

    fn in_the_way(&self, step: &str) -> RecoveryError {
        RecoveryError::unmet(step, format!("no active member of consumer group {}", self.name), self.seen())
    }
}

/// The first of these groups that reads one of the topics, and the names of those of which that cannot be told. A group with
/// offsets on them counts as a reader where the broker would not say more. One of a protocol that cannot be asked about may be
/// at rest as well, and to refuse it would be to refuse its owner every recovery.
fn readers<'g>(active: &'g [ActiveGroup], topics: &[TopicSpec]) -> (Option<&'g ActiveGroup>, Vec<String>) {
    let (mut reader, mut unsure) = (None, Vec::new());
    for group in active.iter().filter(|_| !topics.is_empty()) {
        let reads = topics.iter().any(|t| group.topics.contains(&t.name));
        match &group.untold {
            None | Some(Untold::Failed(_)) if reads => reader = reader.or(Some(group)),
            None => {}
            Some(why) => unsure.push(format!("{} ({why})", group.name)),
        }
    }
    (reader, unsure)
}

/// The pipeline around one cluster.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// The configuration.
    pub(crate) config: Config,
    /// The worker.
    pub(crate) connect: Connect,
    /// The broker.
    pub(crate) kafka: Kafka,
    /// The steps that are taken, once the procedure is composed.
    pub(crate) course: Course,
    /// Source connectors whose topics are rebuilt, by name.
    pub(crate) sources: Vec<Source>,
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
    active: Vec<ActiveGroup>,
    /// Takes what steps tell of their progress.
    pub(crate) watch: Watch,
}

impl Pipeline {
    /// Looks; touches nothing. `server` is the live cluster, where it lives; `point` stands in for what a dead one cannot
    /// tell. Refuses connectors that are left out of a recovery that concerns them.
    pub(crate) async fn discover(
        config: &Config,
        request: &Request,
        server: Option<&Postgres>,
        point: Option<&Point>,
    ) -> Result<Pipeline, RecoveryError> {
        let connect = Connect::of(&config.connect);
        let kafka = Kafka::of(&config.kafka)?;
        // Before the worker, which is of no use without it and does not say so.
        kafka.takes_connections().await?;
        let saved = point.and_then(|p| p.postgres().ok());
        let mut known = saved.map(|p| p.slots.clone()).unwrap_or_default();
        let slots = match server {
            Some(server) => server.slots().await?,
            None => known.clone(),
        };
        // One that is lost still tells whose it was.
        known.retain(|was| slots.iter().all(|is| is.name != was.name));
        known.extend(slots.iter().cloned());
        let system_id = match server {
            Some(server) => Some(server.system_id().await?),
            None => saved.map(|p| p.system_id),
        };
        let subscriptions = match server {
            Some(server) => subscriptions_of(server).await?,
            None => Vec::new(),
        };
        let mut worker = Worker::look(&connect).await?;
        let saved_connectors = absent::saved(point)?;
        let point_id = point.map(|p| p.id().to_string()).unwrap_or_default();
        let (absent, mut notes) = worker.lacks(&saved_connectors, &point_id);
        if request.restore_connectors {
            worker.connectors.extend(absent.iter().map(absent::as_described));
        }
        let there = kafka.topics().await?;
        let cluster = Cluster::new(&config.postgres.url, system_id, known).map_err(|_| {
            RecoveryError::impossible(
                "[postgres] url",
                "a PostgreSQL address",
                "something else",
                "postgres://user@host:port/database",
            )
        })?;
        let (mut sources, unidentified) = worker.sources_on(&cluster, request).await?;
        notes.extend(worker.changed_notes(&sources, &saved_connectors, &point_id));
        let missing = match request.restore_connectors {
            true => Vec::new(),
            false => worker.missing(&cluster, &absent).await,
        };
        if request.playbook != Playbook::Schema {
            absent::refuse_none(sources.len(), &missing, &point_id)?;
        }
        refuse_left_out(&sources, request)?;
        if sources.iter().any(Source::needs_registry) {
            // Without it the topics that are emptied cannot be filled again.
            Registry::of(&config.registry).subjects(false).await?;
        }
        let (mut writers, untold) = worker.writers(&connect, &absent).await?;
        notes.extend(untold);
        for source in &mut sources {
            let written = writers.entry(source.name.clone()).or_default().iter().cloned().collect();
            let tables = Tables::look(config, source, request, server, point).await?;
            let candidates = candidates(config, source, &worker, written, &there, point)?;
            source.divide(candidates, &tables);
        }
        let names: BTreeSet<String> = sources.iter().flat_map(|s| s.topics.iter().cloned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let sinks = worker.sinks_on(&names)?;
        let concerned = sources.iter().map(|s| &s.name).chain(sinks.iter().map(|s| &s.name));
        let restored = match request.restore_connectors {
            true => absent::restored(&absent, concerned),
            false => BTreeMap::new(),
        };
        notes.extend(restored.keys().map(|name| absent::restored_note(name, &point_id)));
        let read = |c: &&SavedConnector| c.kind == "sink" && c.topics.iter().any(|t| names.contains(t));
        let sinks_missing = absent.iter().filter(|_| !request.restore_connectors).filter(read);
        let missing = missing.into_iter().chain(sinks_missing);
        notes.extend(missing.map(|connector| absent::missing_note(connector, &names, &point_id)));
        let topics = specs(&kafka, &names, point).await?;
        let (groups, active) = groups_on(&kafka, &topics, &there, &sinks, false).await?;
        let used: BTreeSet<&SlotName> = sources.iter().map(|s| &s.slot).collect();
        let other_slots = slots.iter().filter(|s| !used.contains(&s.name)).cloned().collect();
        let histories: BTreeSet<String> = sources.iter().filter_map(|s| s.schema_history.clone()).collect();
        let histories = kafka.topic_specs(&histories.into_iter().collect::<Vec<_>>()).await?;
        let mut offsets = BTreeMap::new();
        for source in sources.iter().filter(|s| !restored.contains_key(&s.name)) {
            offsets.insert(source.name.clone(), connect.offsets(&source.name).await?);
        }
        let publications = match server {
            Some(_) => publications_of(config, &sources, request).await?,
            None => BTreeMap::new(),
        };
        let there: Vec<String> = topics.iter().map(|t| &t.name).filter(|n| there.contains_key(*n)).cloned().collect();
        let topic_ids = kafka.topic_ids(&there).await?;
        let found = Found {
            sources,
            sinks,
            topics,
            topic_ids,
            histories,
            groups,
            offsets,
            slots,
            other_slots,
            subscriptions,
            unidentified,
            publications,
            writers,
            restored,
            notes,
        };
        Ok(Pipeline { active, ..Pipeline::of(config, found)? })
    }

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

    /// Leaves out of the recovery what nothing fills again: of a database that has gone back, only now it is known which tables
    /// it has.
    pub(crate) async fn settle_topics(&mut self) -> Result<(), RecoveryError> {
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            let relations = catalogue::relations(&self.session(source).await?).await?;
            let tables = Tables { known: names_of(&relations), all: true };
            let source = &mut self.sources[index];
            let topics = std::mem::take(&mut source.topics);
            source.divide(topics.into_iter().collect(), &tables);
        }
        let kept: BTreeSet<&String> = self.sources.iter().flat_map(|s| &s.topics).collect();
        self.topics.retain(|t| kept.contains(&t.name));
        for group in &mut self.groups {
            group.offsets.retain(|(partition, _)| kept.contains(&partition.topic));
        }
        self.groups.retain(|g| !g.offsets.is_empty());
        Ok(())
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

    /// Requires that nobody but the sinks, which will be stopped, reads the topics that are deleted: a consumer keeps its
    /// position and would skip that many records of the new topic. Groups of which nobody can tell are named.
    pub(crate) fn refuse_active(&self) -> Result<(), RecoveryError> {
        let (reader, untold) = readers(&self.active, &self.topics);
        if !untold.is_empty() {
            tracing::warn!(
                "whether these groups read the data topics cannot be told; stop what does: {}",
                untold.join(", ")
            );
        }
        match reader {
            None => Ok(()),
            Some(group) => Err(RecoveryError::impossible(
                format!("consumer group {}", group.name),
                "no active member on the data topics: its position would skip records of the new topics",
                group.seen(),
                "stop these consumers; they resume from the beginning of the new topics",
            )),
        }
    }

    /// Requires, besides connectors that stand still, the same of now: between the plan and the topics' end lies the
    /// restore, which may take hours.
    pub(crate) async fn unread(&self, step: &str) -> Result<String, RecoveryError> {
        self.refuse_shared()?;
        let still = self.stand_still(step).await?;
        let active = self.active_now().await?;
        match readers(&active, &self.topics) {
            (None, untold) if untold.is_empty() => Ok(format!("{still}; no group reads the data topics")),
            (None, untold) => {
                Ok(format!("{still}; no group is seen to read the data topics; not told of: {}", untold.join(", ")))
            }
            (Some(group), _) => Err(group.in_the_way(step)),
        }
    }

    /// Requires that the groups whose offsets are set have no members: a broker takes offsets for such a group only from
    /// them. One that came to the new topics otherwise is no obstacle any more.
    pub(crate) async fn groups_at_rest(&self, step: &str) -> Result<String, RecoveryError> {
        let still = self.stand_still(step).await?;
        let active = self.active_now().await?;
        let ours = |g: &&ActiveGroup| g.untold.is_none() && self.groups.iter().any(|o| o.name == g.name);
        match active.iter().find(ours) {
            None => Ok(format!("{still}; {} groups without an active member", self.groups.len())),
            Some(group) => Err(group.in_the_way(step)),
        }
    }

    async fn active_now(&self) -> Result<Vec<ActiveGroup>, RecoveryError> {
        let there = self.kafka.topics().await?;
        Ok(groups_on(&self.kafka, &self.topics, &there, &self.sinks, true).await?.1)
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
}

/// Every connector of the worker, as found.
struct Worker {
    connectors: Vec<(ConnectorConfig, ConnectorStatus)>,
}

impl Worker {
    async fn look(connect: &Connect) -> Result<Worker, RecoveryError> {
        let names = connect.connectors().await?;
        let found = futures::future::try_join_all(names.iter().map(|name| connect.described(name))).await?;
        Ok(Worker { connectors: found.into_iter().flatten().collect() })
    }

    /// The saved connectors that it does not have. One whose slot another one has taken over is noted and is not among them.
    fn lacks(&self, saved: &[SavedConnector], point: &str) -> (Vec<SavedConnector>, Vec<String>) {
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
    async fn missing<'a>(&self, cluster: &Cluster, absent: &'a [SavedConnector]) -> Vec<&'a SavedConnector> {
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
    fn changed_notes(&self, sources: &[Source], saved: &[SavedConnector], point: &str) -> Vec<String> {
        let of = |name: &str| saved.iter().find(|c| c.name == name);
        let note = |s: &Source| absent::changed_note(&s.name, &s.config, &of(&s.name)?.config, point);
        sources.iter().filter_map(note).collect()
    }

    /// The topics that each source connector has written to, those of absent ones as they were saved; and which of them the worker
    /// does not tell.
    async fn writers(
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
                    Err(error) if error.status() == Some(403) => {
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
    async fn sources_on(
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

    fn sinks_on(&self, topics: &[String]) -> Result<Vec<Sink>, RecoveryError> {
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
    fn topic_names(&self) -> impl Iterator<Item = (&str, TopicNames)> {
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

fn refuse_left_out(sources: &[Source], request: &Request) -> Result<(), RecoveryError> {
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
    if !request.connectors.is_empty()
        && !left_out.is_empty()
        && request.playbook == crate::recovery::Playbook::Coordinated
    {
        return Err(RecoveryError::impossible(
            format!("connectors of the cluster: {}", all.join(", ")),
            "all of them in the recovery: the cluster goes back as a whole",
            format!("left out: {}", left_out.join(", ")),
            "name them with --connector too, or name none",
        ));
    }
    Ok(())
}

/// The tables of a source's database, as far as they are known before anything is touched.
struct Tables {
    known: Vec<TableName>,
    /// Whether there are no others: the database stays as it is.
    all: bool,
}

impl Tables {
    /// Those that the live server has, and, where it goes back or does not answer, those that the recovery point's publications
    /// had.
    async fn look(
        config: &Config,
        source: &Source,
        request: &Request,
        server: Option<&Postgres>,
        point: Option<&Point>,
    ) -> Result<Tables, RecoveryError> {
        let goes_back = request.playbook == Playbook::Coordinated;
        let live = match server {
            Some(_) => relations(config, source).await.map(Some),
            None => Ok(None),
        };
        let live = match live {
            Ok(live) => live,
            // A damaged catalogue is what such a recovery is for.
            Err(_) if goes_back => None,
            Err(error) => return Err(error),
        };
        let mut known = names_of(live.as_deref().unwrap_or_default());
        if let (true, Some(point)) = (goes_back, point) {
            let databases = point.publications()?.into_iter().filter(|d| d.database == source.database);
            known.extend(databases.flat_map(|d| d.publications).flat_map(|p| p.tables));
        }
        Ok(Tables { known, all: !goes_back })
    }
}

/// The sources' publications, by connector. One that cannot be read because the catalogue is damaged is not known.
async fn publications_of(
    config: &Config,
    sources: &[Source],
    request: &Request,
) -> Result<BTreeMap<String, Publication>, RecoveryError> {
    let mut publications = BTreeMap::new();
    for source in sources {
        let url = &config.postgres.url;
        let looked = async {
            let session = Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?;
            publication_of(&session, &source.publication).await
        };
        match looked.await {
            Ok(found) => publications.extend(found.map(|found| (source.name.clone(), found))),
            Err(_) if request.playbook == Playbook::Coordinated => {}
            Err(error) => return Err(error),
        }
    }
    Ok(publications)
}

async fn relations(config: &Config, source: &Source) -> Result<Vec<Relation>, RecoveryError> {
    let url = &config.postgres.url;
    let session = Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?;
    Ok(catalogue::relations(&session).await?)
}

fn names_of(relations: &[Relation]) -> Vec<TableName> {
    relations.iter().map(|r| r.name.clone()).collect()
}

impl Source {
    /// Divides topics into those of tables that the connector captures, and the others, which nothing would fill again.
    fn divide(&mut self, candidates: BTreeSet<String>, tables: &Tables) {
        let (topics, left): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|topic| is_filled(&self.capture, topic, tables));
        self.topics = topics;
        self.left.extend(left);
    }
}

/// Whether the connector's snapshot fills a topic, or its table is gone and its list of tables still has it by name.
fn is_filled(connector: &Connector, topic: &str, tables: &Tables) -> bool {
    if !connector.renames_topics.is_empty() {
        return true;
    }
    let (names, lists) = (&connector.topics, &connector.lists);
    let taken = |table: &TableName| lists.table(table) == Choice::Taken;
    // The list names tables in either case, and a topic has its table's own.
    let is_named = |table: &TableName| taken(table) && names.topic(table).eq_ignore_ascii_case(topic);
    tables.known.iter().any(|table| taken(table) && names.topic(table) == topic)
        || (topic.starts_with(&names.start()) && lists.named().iter().any(is_named))
        || (!tables.all && names.table(topic).is_some_and(|table| taken(&table)))
}

/// The topics that a source may have written: those that the worker remembers, and those that have a table's name.
fn candidates(
    config: &Config,
    source: &Source,
    worker: &Worker,
    written: Vec<String>,
    there: &BTreeMap<String, i32>,
    point: Option<&Point>,
) -> Result<BTreeSet<String>, RecoveryError> {
    let own = &source.capture.topics;
    let foreign = |topic: &str| {
        worker.topic_names().any(|(name, other)| name != source.name && own.are_preceded_by(&other, topic))
    };
    let start = own.start();
    // The transaction topic has one part more than the prefix; a table's has two.
    let of_table = |topic: &str| {
        let rest = topic.strip_prefix(&start).unwrap_or_default();
        rest.contains(own.delimiter.as_str()) && !foreign(topic)
    };
    let saved = match point {
        Some(point) => point.topics()?.into_iter().map(|t| t.spec.name).collect(),
        None => Vec::new(),
    };
    let named = written.into_iter().chain(there.keys().chain(saved.iter()).filter(|t| of_table(t)).cloned());
    let history = source.schema_history.as_deref();
    Ok(named
        .filter(|t| !is_protected(config, t, slice::from_ref(own)) && history != Some(t.as_str()))
        .filter(|t| there.contains_key(t) || saved.contains(t))
        .collect())
}

/// The topics' settings as they are now; the recovery point's for those that are gone.
async fn specs(kafka: &Kafka, names: &[String], point: Option<&Point>) -> Result<Vec<TopicSpec>, RecoveryError> {
    let mut specs = kafka.topic_specs(names).await?;
    if let Some(point) = point {
        let gone = |t: &TopicSpec| names.contains(&t.name) && !specs.iter().any(|s| s.name == t.name);
        let saved: Vec<TopicSpec> = point.topics()?.into_iter().map(|t| t.spec).filter(gone).collect();
        specs.extend(saved);
    }
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}

/// The groups with offsets on the topics, and those with members, of which a sink's own tasks are none; `stopped` says whether the sinks
/// are stopped.
async fn groups_on(
    kafka: &Kafka,
    topics: &[TopicSpec],
    there: &BTreeMap<String, i32>,
    sinks: &[Sink],
    stopped: bool,
) -> Result<(Vec<GroupOffsets>, Vec<ActiveGroup>), RecoveryError> {
    let all = topics.iter().filter(|t| there.contains_key(&t.name));
    let partitions: Vec<TopicPartition> = all
        .flat_map(|t| (0..t.partitions).map(|partition| TopicPartition { topic: t.name.clone(), partition }))
        .collect();
    let groups: Vec<_> = kafka.groups().await?.into_iter().filter(|g| !g.name.is_empty()).collect();
    let found = groups.into_iter().map(|group| {
        let partitions = &partitions;
        async move {
            let offsets = kafka.group_offsets(&group.name, partitions).await?;
            Ok::<_, RecoveryError>((group, offsets))
        }
    });
    let (mut on_data, mut active) = (Vec::new(), Vec::new());
    for (mut group, offsets) in futures::future::try_join_all(found).await? {
        let partitions: Vec<TopicPartition> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        if !offsets.is_empty() {
            on_data.push(GroupOffsets { name: group.name.clone(), offsets });
        }
        if let Some(sink) = sinks.iter().find(|s| group.name == s.group) {
            if group.untold.is_some() {
                continue;
            }
            group.members = sink.strangers(&group, stopped);
        }
        active.extend(ActiveGroup::of(group, partitions));
    }
    Ok((on_data, active))
}

async fn subscriptions_of(server: &Postgres) -> Result<Vec<String>, RecoveryError> {
    let rows = server.texts("select subname from pg_subscription order by 1").await?;
    Ok(rows.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::captured("shop.public.a", true, true)]
    #[case::name_that_topics_cannot_have("shop.public.O_rder", true, true)]
    #[case::taken_out_of_the_list("shop.public.b", true, false)]
    #[case::another_prefix("old.public.a", true, false)]
    #[case::transactions("shop.transaction", true, false)]
    #[case::named_and_gone("shop.public.gone", true, true)]
    #[case::named_in_another_case_and_gone("shop.public.GONE", true, true)]
    #[case::another_prefix_in_another_case("SHOP.public.gone", true, false)]
    #[case::dropped_long_ago("shop.public.ev_2019", true, false)]
    #[case::dropped_and_perhaps_there_again("shop.public.ev_2019", false, true)]
    #[case::never_of_this_connector("shop.public.b", false, false)]
    fn what_is_emptied_is_what_is_filled_again(#[case] topic: &str, #[case] all: bool, #[case] filled: bool) {
        let list = r"public.a,public\.gone,public\.ev_.*,public.O rder";
        let config = ConnectorConfig::from([
            ("topic.prefix".to_owned(), "shop".to_owned()),
            ("table.include.list".to_owned(), list.to_owned()),
        ]);
        let known = ["a", "b", "ev_2020", "O rder"].map(|name| TableName::new("public", name)).to_vec();
        assert_eq!(is_filled(&Connector::of(&config), topic, &Tables { known, all }), filled);
    }

    #[test]
    fn where_records_go_elsewhere_nobody_knows_which_topic_is_a_table_s() {
        let config = ConnectorConfig::from([
            ("transforms".to_owned(), "r".to_owned()),
            ("transforms.r.type".to_owned(), "org.apache.kafka.connect.transforms.RegexRouter".to_owned()),
        ]);
        assert!(is_filled(&Connector::of(&config), "anything", &Tables { known: vec![], all: true }));
    }

    #[test]
    fn a_group_that_nobody_can_tell_of_is_named_and_one_that_reads_is_refused() {
        let topics = [TopicSpec { name: "t".into(), partitions: 1, replication: 1, settings: BTreeMap::new() }];
        let group = |name: &str, on: &str, untold: Option<Untold>| ActiveGroup {
            name: name.into(),
            state: "Stable".into(),
            members: Vec::new(),
            topics: BTreeSet::from([on.to_owned()]),
            untold,
        };
        let failed = || Some(Untold::Failed("not authorized".into()));
        let found = |groups: &[ActiveGroup]| {
            let (reader, unsure) = readers(groups, &topics);
            (reader.map(|g| g.name.clone()), unsure.len())
        };
        assert_eq!(found(&[group("elsewhere", "u", None), group("app", "t", None)]), (Some("app".into()), 0));
        assert_eq!(found(&[group("silent", "t", failed())]), (Some("silent".into()), 0));
        assert_eq!(found(&[group("silent", "u", failed())]), (None, 1));
        assert_eq!(found(&[group("streams", "t", Some(Untold::Protocol))]), (None, 1));
        assert!(readers(&[group("share", "u", Some(Untold::Protocol))], &[]).1.is_empty(), "no topic, no reader");
    }
}
