//! Connectors: configuration, stored offsets where they are safe, and the state that the point has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    PartChange, PartRequest,
    judgement::{self, Server, Whose},
    position::Positions,
};
use crate::{
    backup::{BackupError, Point, SavedConnector, TopicState},
    recovery::{
        RecoveryError,
        pipeline::{Found, Pipeline, Source, has_same_slot, refuse_unaddressable},
        slot::Timelines,
    },
};
use cdc_model::{
    moment,
    units::{Lsn, Offset, Timeline, TopicPartition, counted, is_secret_setting},
};
use cdc_pipeline::{
    attach,
    client::{
        ClientError,
        cluster::{Cluster, is_postgres},
        connect::{AtRest, Connect, ConnectorConfig, ConnectorStatus, StateOf, StoredOffset},
        kafka::Kafka,
        limits,
        postgres::Postgres,
    },
    config::Config,
};

/// What has just been done, of one connector.
pub(super) const MOMENTS: [&str; 7] =
    [moment::BEFORE, "made", "stopped", "configured", "offsets", "changed", moment::AFTER];

/// What a point has of connectors.
#[derive(Debug)]
pub(super) struct Saved {
    connectors: Vec<SavedConnector>,
    /// The topics, by which it is known whether those of now are the same; none in a point without that part.
    topics: Vec<TopicState>,
    /// The timeline on which the server wrote.
    timeline: Result<Timeline, String>,
}

impl Saved {
    pub(super) fn of(point: &Point) -> Result<Saved, BackupError> {
        let topics = match point.manifest.kafka.get() {
            Some(_) => point.topics()?,
            None => Vec::new(),
        };
        let facts = point.manifest.pg.get();
        let timeline =
            facts.map(|facts| facts.timeline).ok_or_else(|| "the point has no part of PostgreSQL".to_owned());
        Ok(Saved { connectors: point.connectors()?, topics, timeline })
    }

    /// The same with other connectors.
    pub(super) fn with(self, connectors: Vec<SavedConnector>) -> Saved {
        Saved { connectors, ..self }
    }
}

/// What becomes of a connector's stored offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Offsets {
    /// They stay as they are on the worker.
    Keep,
    /// They are set to these.
    Set(Vec<StoredOffset>),
    /// There will be none.
    Forget,
}

/// The state in which a connector will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    AtRest(AtRest),
}

impl State {
    /// As it was captured. One whose task had failed, or that no worker had taken up yet, was to run.
    fn of(saved: &str) -> State {
        let rest = [AtRest::Paused, AtRest::Stopped].into_iter().find(|rest| rest.word() == saved);
        rest.map_or(State::Running, State::AtRest)
    }

    fn word(self) -> &'static str {
        match self {
            State::Running => "RUNNING",
            State::AtRest(rest) => rest.word(),
        }
    }

    fn is_that_of(self, status: &ConnectorStatus) -> bool {
        match self {
            State::Running => status.all_running(),
            State::AtRest(rest) => status.at_rest() == Some(rest),
        }
    }
}

/// What is done with one connector.
#[derive(Debug)]
struct Act {
    name: String,
    config: ConnectorConfig,
    offsets: Offsets,
    state: State,
    /// Whether it reads from this PostgreSQL cluster, so that what it streams can be seen there.
    of_cluster: bool,
}

/// What will be done with connectors.
#[derive(Debug)]
pub(super) struct Plan {
    config: Config,
    connect: Connect,
    acts: Vec<Act>,
    pub(super) changes: Vec<PartChange>,
    pub(super) unchanged: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// A connector as the worker has it.
struct Present {
    config: ConnectorConfig,
    status: ConnectorStatus,
}

/// What offsets are judged by, asked once for all connectors.
struct Around<'a> {
    config: &'a Config,
    kafka: &'a Kafka,
    /// The source connectors of the point that read from this cluster.
    readers: BTreeSet<String>,
    server: Result<(Postgres, Result<Timelines, String>), String>,
    /// The worker's own stored offsets, of connectors that were deleted too.
    stored: BTreeMap<String, Vec<StoredOffset>>,
    topics: Positions,
    timeline: Result<Timeline, String>,
}

/// Looks at the worker, the server, slots and topics. Refuses configurations that the worker does not take, and offsets that are not
/// safe.
pub(super) async fn plan(config: &Config, request: &PartRequest, saved: Saved) -> Result<Plan, RecoveryError> {
    let (connect, kafka) = (Connect::of(&config.connect), Kafka::of(&config.kafka)?);
    kafka.takes_connections().await?;
    let Saved { connectors, topics, timeline } = saved;
    let connectors = request.select(connectors, |connector| &connector.name)?;
    permitted(config, &connectors)?;
    let mut present: BTreeMap<String, Present> = BTreeMap::new();
    for name in connect.connectors().await? {
        if let Some((config, status)) = connect.described(&name).await? {
            present.insert(name, Present { config, status });
        }
    }
    for connector in &connectors {
        refuse_unaddressable(&connect, &connector.name, "restore the others by their names").await?;
        refuse_taken_slot(connector, &present)?;
        refuse_invalid(&connect, connector).await?;
    }
    let read_or_written = connectors.iter().flat_map(|c| c.topics.iter().cloned());
    let of_offsets = connectors.iter().flat_map(|c| c.offsets.iter().filter_map(sink_position)).map(|(at, _)| at.topic);
    let around = Around {
        config,
        kafka: &kafka,
        readers: readers(config, &connectors).await,
        server: server(config).await,
        stored: stored(&kafka, &config.connect.offsets_topic).await?,
        topics: Positions::look(&kafka, &topics, read_or_written.chain(of_offsets)).await?,
        timeline,
    };
    let mut plan = Plan {
        config: config.clone(),
        connect,
        acts: Vec::new(),
        changes: Vec::new(),
        unchanged: Vec::new(),
        notes: Vec::new(),
    };
    let mut unsafe_ones = Vec::new();
    for connector in connectors {
        let name = connector.name.clone();
        let there = present.get(&name);
        let (offsets, said) = match around.offsets(&connector, there).await? {
            Judged::Fine(offsets, said) => (offsets, said),
            Judged::Unsafe(why) if request.accept_lost_offsets => {
                plan.notes.push(format!("connector {name}: accepted: {}", why.join("; ")));
                (Offsets::Forget, Some(without_offsets(&connector)))
            }
            Judged::Unsafe(why) => {
                unsafe_ones.push(format!("connector {name}: {}", why.join("; ")));
                continue;
            }
        };
        let of_cluster = around.readers.contains(&name);
        plan.add(connector, there, offsets, said, of_cluster);
    }
    match unsafe_ones.is_empty() {
        true => Ok(plan),
        false => Err(RecoveryError::Refused {
            what: format!("stored offsets that are not safe to go on from: {}", unsafe_ones.join("; ")),
            hint: "--accept-loss offsets restores these connectors without offsets, so that they begin anew as their snapshot.mode says; `recover run slot` does the same and makes their topics right".into(),
        }),
    }
}

fn permitted(config: &Config, connectors: &[SavedConnector]) -> Result<(), RecoveryError> {
    let prefixes = connectors.iter().filter(|c| c.kind != "sink").filter_map(|c| c.config.get("topic.prefix"));
    attach::within(config, "topic prefix", prefixes.map(String::as_str))?;
    let read = connectors.iter().filter(|c| c.kind == "sink").flat_map(|c| &c.topics);
    Ok(attach::within(config, "topic", read.map(String::as_str))?)
}

/// Two connectors cannot read from one slot.
fn refuse_taken_slot(connector: &SavedConnector, present: &BTreeMap<String, Present>) -> Result<(), RecoveryError> {
    let heir = present.iter().find(|(name, other)| {
        **name != connector.name && other.status.kind != "sink" && has_same_slot(&other.config, &connector.config)
    });
    match heir {
        Some((heir, _)) if connector.kind != "sink" => Err(RecoveryError::impossible(
            format!("connector {}", connector.name),
            "a slot that no other connector of the worker names",
            format!("one that is connector {heir}'s now"),
            "restore the others by their names, or delete the connector that took its place",
        )),
        _ => Ok(()),
    }
}

/// The worker is asked whether it takes the configuration, so that nothing is stopped for one that it does not take.
async fn refuse_invalid(connect: &Connect, connector: &SavedConnector) -> Result<(), RecoveryError> {
    let wrong = match connect.validate(&connector.config).await {
        Ok(wrong) => wrong,
        Err(error) if error.status().is_some() => vec![error.to_string()],
        Err(error) => return Err(error.into()),
    };
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(RecoveryError::impossible(
            format!("configuration of connector {}", connector.name),
            "one that the worker takes",
            wrong.join("; "),
            "give the worker what is missing (a plugin, a secret, its server), or choose another point: --point ID",
        )),
    }
}

/// Which of the point's source connectors read from this cluster.
async fn readers(config: &Config, connectors: &[SavedConnector]) -> BTreeSet<String> {
    let sources: Vec<(&str, &ConnectorConfig)> = connectors
        .iter()
        .filter(|c| c.kind != "sink" && is_postgres(&c.config))
        .map(|c| (c.name.as_str(), &c.config))
        .collect();
    let (system_id, slots) = match Postgres::connect(&config.postgres.url, "cdc-drill-restore").await {
        Ok(server) => (server.system_id().await.ok(), server.slots().await.unwrap_or_default()),
        Err(_) => (None, Vec::new()),
    };
    match Cluster::new(&config.postgres.url, system_id, slots) {
        Ok(cluster) => cluster.readers(sources, &[]).await.names,
        Err(_) => BTreeSet::new(),
    }
}

async fn server(config: &Config) -> Result<(Postgres, Result<Timelines, String>), String> {
    let url = &config.postgres.url;
    let server = Postgres::connect(url, "cdc-drill-restore").await.map_err(|e| e.to_string())?;
    let timelines = Timelines::of(&server, url).await;
    Ok((server, timelines))
}

/// The offsets in the workers' topic, by connector. Those of a deleted connector stay there, and a connector that is made again by its
/// name goes on from them.
async fn stored(kafka: &Kafka, topic: &str) -> Result<BTreeMap<String, Vec<StoredOffset>>, RecoveryError> {
    if !kafka.topics().await?.contains_key(topic) {
        return Ok(BTreeMap::new());
    }
    let mut records = kafka.read_all(topic).await?;
    records.sort_by_key(|record| (record.partition, record.offset));
    let mut latest: BTreeMap<(String, String), Option<StoredOffset>> = BTreeMap::new();
    for record in records {
        let parse = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(|b| serde_json::from_slice::<Value>(b).ok());
        let Some(key) = parse(&record.key) else { continue };
        let (Some(name), Some(partition)) = (key[0].as_str(), key[1].as_object()) else { continue };
        let offset = parse(&record.value).and_then(|value| value.as_object().cloned());
        let stored = offset.map(|offset| StoredOffset { partition: partition.clone(), offset: Some(offset) });
        latest.insert((name.to_owned(), key[1].to_string()), stored);
    }
    let mut all: BTreeMap<String, Vec<StoredOffset>> = BTreeMap::new();
    for ((name, _), stored) in latest {
        all.entry(name).or_default().extend(stored);
    }
    Ok(all)
}

/// Topic, partition and next offset of a sink's stored offset.
fn sink_position(stored: &StoredOffset) -> Option<(TopicPartition, Offset)> {
    let topic = stored.partition.get("kafka_topic")?.as_str()?.to_owned();
    let partition = i32::try_from(stored.partition.get("kafka_partition")?.as_i64()?).ok()?;
    let offset = stored.offset.as_ref()?.get("kafka_offset")?.as_i64()?;
    Some((TopicPartition { topic, partition }, Offset(offset)))
}

fn as_sink_offset(at: &TopicPartition, offset: Offset) -> StoredOffset {
    let partition = [
        ("kafka_topic".to_owned(), Value::from(at.topic.clone())),
        ("kafka_partition".to_owned(), at.partition.into()),
    ];
    let offset = [("kafka_offset".to_owned(), Value::from(offset.0))];
    StoredOffset { partition: Map::from_iter(partition), offset: Some(Map::from_iter(offset)) }
}

/// Offsets by what they are of.
fn by_partition(offsets: &[StoredOffset]) -> BTreeMap<String, &Map<String, Value>> {
    let of = |stored: &'_ StoredOffset| Value::Object(stored.partition.clone()).to_string();
    offsets.iter().filter_map(|stored| Some((of(stored), stored.offset.as_ref()?))).collect()
}

fn are_equal(a: &[StoredOffset], b: &[StoredOffset]) -> bool {
    by_partition(a) == by_partition(b)
}

/// Whether and how a connector goes on.
enum Judged {
    /// What becomes of its offsets, and what is said of that.
    Fine(Offsets, Option<String>),
    /// Why neither those of the point nor those of the worker will do.
    Unsafe(Vec<String>),
}

/// The choice among the offsets of a point and those of the worker, each with what speaks against them.
fn choose(saved: (&[StoredOffset], Vec<String>), own: (&[StoredOffset], Vec<String>), own_is_later: bool) -> Judged {
    let ((saved, against_saved), (own, against_own)) = (saved, own);
    let none = (saved.is_empty(), own.is_empty());
    match none {
        (true, true) => return Judged::Fine(Offsets::Keep, None),
        (false, true) if against_saved.is_empty() => return Judged::Fine(Offsets::Set(saved.to_vec()), None),
        (false, true) => return Judged::Unsafe(against_saved),
        _ => {}
    }
    if are_equal(saved, own) && against_own.is_empty() {
        return Judged::Fine(Offsets::Keep, None);
    }
    if against_own.is_empty() && (own_is_later || !against_saved.is_empty() || saved.is_empty()) {
        let said = "keeps the stored offsets that the worker has: they are safe to go on from, and those of the point are older or not safe";
        return Judged::Fine(Offsets::Keep, Some(said.to_owned()));
    }
    if !saved.is_empty() && against_saved.is_empty() {
        return Judged::Fine(Offsets::Set(saved.to_vec()), None);
    }
    let of_point = against_saved.into_iter().map(|why| format!("of the point: {why}"));
    Judged::Unsafe(of_point.chain(against_own.into_iter().map(|why| format!("of the worker: {why}"))).collect())
}

impl Around<'_> {
    async fn offsets(&self, connector: &SavedConnector, there: Option<&Present>) -> Result<Judged, RecoveryError> {
        let own = self.stored.get(&connector.name).cloned().unwrap_or_default();
        if connector.kind == "sink" {
            return self.of_sink(connector).await;
        }
        let read = |offsets: &[StoredOffset]| used(&connector.config, offsets);
        let (saved, own) = (read(&connector.offsets), read(&own));
        let mut against_saved: Vec<String> =
            connector.unread.iter().map(|why| format!("they could not be captured: {why}")).collect();
        if !self.readers.contains(&connector.name) {
            // Where they are those of the worker nothing is changed, and nothing has to be judged.
            if are_equal(&saved, &own) && against_saved.is_empty() {
                return Ok(Judged::Fine(Offsets::Keep, None));
            }
            against_saved.push(
                "it is not known to read from this PostgreSQL cluster, and its offsets cannot be judged".to_owned(),
            );
            return Ok(Judged::Unsafe(against_saved));
        }
        let server = match self.server_of(connector, there).await {
            Ok(server) => server,
            Err(why) => {
                against_saved.push(format!("its server cannot be asked: {why}"));
                return Ok(Judged::Unsafe(against_saved));
            }
        };
        let timeline = self.timeline.as_ref().copied().map_err(String::as_str);
        if !saved.is_empty() {
            against_saved.extend(judgement::objections(&saved, Whose::Point(timeline), &server));
            against_saved.extend(connector.topics.iter().filter_map(|topic| self.topics.another(topic)));
        }
        let mut against_own = judgement::objections(&own, Whose::Worker, &server);
        if !own.is_empty() {
            // Topics may have been made again since, and filled by the connector: its own offsets are of those.
            against_own.extend(connector.topics.iter().filter_map(|topic| self.topics.absent(topic)));
        }
        let is_later = judgement::position(&own) >= judgement::position(&saved);
        let captured = connector.unread.is_none();
        Ok(match (captured, own.is_empty()) {
            // No offsets were captured, which does not mean that there were none.
            (false, true) => Judged::Unsafe(against_saved),
            _ => choose((&saved, against_saved), (&own, against_own), is_later),
        })
    }

    async fn of_sink(&self, connector: &SavedConnector) -> Result<Judged, RecoveryError> {
        let group = connector.config.get("consumer.override.group.id").cloned();
        let group = group.unwrap_or_else(|| format!("connect-{}", connector.name));
        let saved: Vec<(TopicPartition, Offset)> = connector.offsets.iter().filter_map(sink_position).collect();
        let own = self.kafka.group_offsets(&group, &self.topics.partitions()).await?;
        let objections = |positions: &[(TopicPartition, Offset)]| -> Vec<String> {
            positions.iter().filter_map(|(at, offset)| self.topics.judge(at, *offset).err()).map(|m| m.why).collect()
        };
        // Where the group stands now needs no point to be known: the topic that it has read is the one that is there.
        let in_range = |(at, offset): &(TopicPartition, Offset)| self.topics.range_objection(at, *offset);
        let against_own: Vec<String> = own.iter().filter_map(in_range).collect();
        let mut against_saved: Vec<String> =
            connector.unread.iter().map(|why| format!("they could not be captured: {why}")).collect();
        against_saved.extend(objections(&saved));
        let as_stored = |positions: &[(TopicPartition, Offset)]| -> Vec<StoredOffset> {
            positions.iter().map(|(at, offset)| as_sink_offset(at, *offset)).collect()
        };
        let is_later = saved.iter().all(|(at, offset)| own.iter().any(|(there, now)| there == at && now >= offset));
        Ok(choose((&as_stored(&saved), against_saved), (&as_stored(&own), against_own), is_later))
    }

    async fn server_of(&self, connector: &SavedConnector, there: Option<&Present>) -> Result<Server, String> {
        let (server, timelines) = self.server.as_ref().map_err(String::clone)?;
        let source = source_of(connector);
        let session =
            Postgres::connect_database(&self.config.postgres.url, &source.database, "cdc-drill-restore").await;
        let slots = session.map_err(|e| e.to_string())?.slots().await.map_err(|e| e.to_string())?;
        let end: Lsn = server.value("select pg_current_wal_lsn()").await.map_err(|e: ClientError| e.to_string())?;
        let slot = slots.into_iter().find(|slot| slot.name == source.slot);
        let mut has_live_task = there.is_some_and(|there| there.status.has_live_task());
        let is_to_run = there.is_some_and(|there| there.status.connector.state == "RUNNING");
        // One that was changed a moment ago is handed out anew: its process may still stream while it has no task.
        if slot.as_ref().is_some_and(|slot| slot.active) && !has_live_task && is_to_run {
            let connect = Connect::of(&self.config.connect);
            has_live_task = connect.running(&connector.name, limits::connectors::RUNNING).await.is_ok();
        }
        Ok(Server { timelines: timelines.clone(), end, slot, has_live_task })
    }
}

/// The offsets that a source connector goes on from: those under its topic prefix. Others are of an earlier configuration.
fn used(config: &ConnectorConfig, offsets: &[StoredOffset]) -> Vec<StoredOffset> {
    let Some(prefix) = config.get("topic.prefix") else { return offsets.to_vec() };
    let own = |stored: &&StoredOffset| stored.partition.get("server").is_none_or(|server| server == prefix.as_str());
    offsets.iter().filter(own).cloned().collect()
}

fn source_of(connector: &SavedConnector) -> Source {
    let status = ConnectorStatus {
        name: connector.name.clone(),
        connector: StateOf { state: connector.state.clone(), trace: None },
        tasks: Vec::new(),
        kind: connector.kind.clone(),
    };
    Source::of(connector.config.clone(), status)
}

fn without_offsets(connector: &SavedConnector) -> String {
    let mode = connector.config.get("snapshot.mode").map_or("initial", String::as_str);
    match connector.kind.as_str() {
        "sink" => "has no offsets then: it begins where its consumer's auto.offset.reset says".to_owned(),
        _ => format!(
            "has no offsets then: it begins anew (snapshot.mode={mode}), in topics that keep what they have: rows that were deleted meanwhile stay in them (`recover run slot` purges them)"
        ),
    }
}

/// In what a configuration differs from another, key by key; secrets are not shown.
fn differences(now: &ConnectorConfig, wanted: &ConnectorConfig) -> Vec<String> {
    let keys: BTreeSet<&String> = now.keys().chain(wanted.keys()).collect();
    let shown = |config: &ConnectorConfig, key: &String| match config.get(key) {
        Some(_) if is_secret_setting(key) => "***".to_owned(),
        Some(value) => value.clone(),
        None => "unset".to_owned(),
    };
    let differing = keys.into_iter().filter(|key| now.get(*key) != wanted.get(*key));
    differing.map(|key| format!("sets {key} from {} to {}", shown(now, key), shown(wanted, key))).collect()
}

impl Plan {
    fn add(
        &mut self,
        connector: SavedConnector,
        there: Option<&Present>,
        offsets: Offsets,
        said: Option<String>,
        of_cluster: bool,
    ) {
        let SavedConnector { name, config, state, .. } = connector;
        let state = State::of(&state);
        let (mut does, mut destroys) = (Vec::new(), Vec::new());
        match there {
            None => does.push("makes it, STOPPED, with its configuration".to_owned()),
            Some(there) => {
                does.extend(differences(&there.config, &config));
                if !does.is_empty() || offsets != Offsets::Keep {
                    does.insert(0, "stops it".to_owned());
                    destroys.push(format!("tasks of connector {name}, while it is changed"));
                }
            }
        }
        match &offsets {
            Offsets::Keep => {}
            Offsets::Set(offsets) => {
                let at = judgement::position(offsets).map(|at| format!(", at {at}")).unwrap_or_default();
                does.push(format!("sets the point's stored offsets{at}: nothing speaks against going on from them"));
            }
            Offsets::Forget => {
                does.push("deletes its stored offsets".to_owned());
                destroys.push(format!("stored offsets of connector {name}"));
            }
        }
        let is_so = there.is_some_and(|there| state.is_that_of(&there.status));
        if does.is_empty() && is_so {
            self.unchanged.push(name);
            return;
        }
        does.extend(said);
        if !(state == State::AtRest(AtRest::Stopped) && there.is_none()) {
            does.push(format!("brings it to the state that the point has: {}", state.word()));
        }
        self.changes.push(PartChange { name: name.clone(), does, destroys });
        self.acts.push(Act { name, config, offsets, state, of_cluster });
    }

    /// Makes and changes connectors while they are stopped, reads that back, and then lets them go on.
    pub(super) async fn run(&self) -> Result<Vec<String>, RecoveryError> {
        let mut said = Vec::new();
        for act in &self.acts {
            self.change(act).await?;
            moment::pass("changed").await?;
            let offsets = match &act.offsets {
                Offsets::Keep => "stored offsets as they were on the worker".to_owned(),
                Offsets::Set(offsets) => format!("{} of the point", counted(offsets.len(), "stored offset")),
                Offsets::Forget => "no stored offsets".to_owned(),
            };
            self.release(act).await?;
            moment::pass(moment::AFTER).await?;
            said.push(format!(
                "connector {}: configuration, {offsets} and state {} read back",
                act.name,
                act.state.word()
            ));
        }
        Ok(said)
    }

    async fn change(&self, act: &Act) -> Result<(), RecoveryError> {
        let name = &act.name;
        let now = match self.connect.exists(name).await? {
            true => Some(self.connect.config(name).await?),
            false => None,
        };
        match now {
            Some(now) if now == act.config && act.offsets == Offsets::Keep => return Ok(()),
            Some(_) => {}
            None => {
                self.connect.create(name, &act.config, AtRest::Stopped.word()).await?;
                // It has no state until a worker has taken it up.
                self.connect.described(name).await?;
                moment::pass("made").await?;
            }
        }
        self.connect.stopped(name, limits::connectors::STOPPED).await?;
        if self.connect.workers().await? > 1 {
            self.connect.settled(std::iter::once(name), limits::connectors::STOPPED).await?;
        }
        moment::pass("stopped").await?;
        if self.connect.config(name).await? != act.config {
            self.connect.put_config(name, &act.config).await?;
            // The workers hand it out anew: it is UNASSIGNED for a moment.
            self.connect.stopped(name, limits::connectors::STOPPED).await?;
            moment::pass("configured").await?;
        }
        match &act.offsets {
            Offsets::Keep => {}
            Offsets::Set(offsets) => self.connect.patch_offsets(name, offsets).await?,
            Offsets::Forget => self.connect.delete_offsets(name).await?,
        }
        moment::pass("offsets").await?;
        let now = self.connect.config(name).await?;
        if let Some(differs) = differences(&act.config, &now).first() {
            return Err(unmet(format!("the point's configuration of connector {name}"), format!("one that {differs}")));
        }
        let status = self.connect.status(name).await?;
        if !status.stands_still() {
            return Err(unmet(format!("connector {name} STOPPED without tasks"), status.summary()));
        }
        let stored = self.connect.offsets(name).await?;
        match &act.offsets {
            Offsets::Keep => Ok(()),
            Offsets::Set(wanted) => {
                let (stored, wanted) = (by_partition(&stored), by_partition(wanted));
                match wanted.iter().find(|(partition, offset)| stored.get(*partition) != Some(offset)) {
                    None => Ok(()),
                    Some((partition, _)) => {
                        let found = stored
                            .get(partition)
                            .map_or_else(|| "none".to_owned(), |o| Value::Object((*o).clone()).to_string());
                        Err(unmet(format!("the point's offset of connector {name} for {partition}"), found))
                    }
                }
            }
            Offsets::Forget if stored.iter().all(|o| o.offset.is_none()) => Ok(()),
            Offsets::Forget => {
                Err(unmet(format!("no stored offsets of connector {name}"), counted(stored.len(), "offset")))
            }
        }
    }

    /// Brings a connector into the state of the point.
    async fn release(&self, act: &Act) -> Result<(), RecoveryError> {
        let name = &act.name;
        match act.state {
            State::AtRest(AtRest::Stopped) => Ok(self.connect.stopped(name, limits::connectors::STOPPED).await?),
            State::AtRest(AtRest::Paused) => Ok(self.connect.paused(name, limits::connectors::STOPPED).await?),
            State::Running => {
                self.connect.resume(name).await?;
                if self.connect.status(name).await?.failure().is_some() {
                    // A task that failed does not come back by being resumed.
                    self.connect.restart(name).await?;
                }
                match act.of_cluster {
                    true => self.streams(act).await,
                    false => Ok(self.connect.running(name, limits::connectors::RUNNING).await?),
                }
            }
        }
    }

    /// A connector that says RUNNING streams only if its slot is held.
    async fn streams(&self, act: &Act) -> Result<(), RecoveryError> {
        let status = self.connect.status(&act.name).await?;
        let source = Source::of(act.config.clone(), status);
        let pipeline = Pipeline::of(&self.config, Found { sources: vec![source.clone()], ..Found::default() })?;
        pipeline.streaming(&source, false).await?;
        let status = self.connect.status(&act.name).await?;
        match status.all_running() {
            true => Ok(()),
            false => Err(unmet(format!("connector {} RUNNING", act.name), status.summary())),
        }
    }
}

fn unmet(expected: impl Into<String>, found: impl Into<String>) -> RecoveryError {
    RecoveryError::unmet("restore connectors", expected, found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offsets(lsn: u64) -> Vec<StoredOffset> {
        let map = |value: Value| value.as_object().cloned().unwrap();
        vec![StoredOffset { partition: map(json!({"server": "shop"})), offset: Some(map(json!({"lsn": lsn}))) }]
    }

    fn chosen(
        saved: (&[StoredOffset], &[&str]),
        own: (&[StoredOffset], &[&str]),
    ) -> Result<(Offsets, bool), Vec<String>> {
        let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let later = judgement::position(own.0) >= judgement::position(saved.0);
        match choose((saved.0, words(saved.1)), (own.0, words(own.1)), later) {
            Judged::Fine(offsets, said) => Ok((offsets, said.is_some())),
            Judged::Unsafe(why) => Err(why),
        }
    }

    #[test]
    fn offsets_are_taken_from_where_nothing_speaks_against_them() {
        let (old, new) = (offsets(5), offsets(9));
        // The worker lost its own.
        assert_eq!(chosen((&old, &[]), (&[], &[])), Ok((Offsets::Set(old.clone()), false)));
        assert_eq!(chosen((&old, &["x"]), (&[], &[])), Err(vec!["x".to_owned()]));
        assert_eq!(chosen((&[], &[]), (&[], &[])), Ok((Offsets::Keep, false)), "it had none, and takes its snapshot");
        // They are the same.
        assert_eq!(chosen((&old, &["the slot is ahead"]), (&old, &[])), Ok((Offsets::Keep, false)));
        assert_eq!(
            chosen((&old, &["x"]), (&old, &["y"])),
            Err(vec!["of the point: x".into(), "of the worker: y".into()])
        );
        // The connector has gone on since.
        assert_eq!(chosen((&old, &["the slot is ahead"]), (&new, &[])), Ok((Offsets::Keep, true)));
        assert_eq!(chosen((&old, &[]), (&new, &[])), Ok((Offsets::Keep, true)));
        assert_eq!(chosen((&[], &[]), (&new, &[])), Ok((Offsets::Keep, true)));
        // The worker's are behind, or of an abandoned timeline.
        assert_eq!(chosen((&new, &[]), (&old, &[])), Ok((Offsets::Set(new.clone()), false)));
        assert_eq!(chosen((&old, &[]), (&new, &["abandoned"])), Ok((Offsets::Set(old.clone()), false)));
        assert!(chosen((&old, &["x"]), (&new, &["abandoned"])).is_err());
        assert!(chosen((&[], &[]), (&new, &["abandoned"])).is_err(), "it would go on from them");
    }

    #[test]
    fn a_state_that_was_no_rest_is_to_run() {
        let word = |saved| State::of(saved).word();
        assert_eq!(
            ["RUNNING", "PAUSED", "STOPPED", "FAILED", "UNASSIGNED"].map(word),
            ["RUNNING", "PAUSED", "STOPPED", "RUNNING", "RUNNING"]
        );
    }

    #[test]
    fn secrets_are_not_shown_and_offsets_of_an_earlier_prefix_are_not_used() {
        let config = |password: &str| {
            ConnectorConfig::from([
                ("database.password".to_owned(), password.to_owned()),
                ("topic.prefix".to_owned(), "shop".to_owned()),
            ])
        };
        assert_eq!(differences(&config("a"), &config("hunter2")), ["sets database.password from *** to ***"]);
        let mut all = offsets(5);
        all.push(StoredOffset {
            partition: json!({"server": "old"}).as_object().cloned().unwrap(),
            ..offsets(1)[0].clone()
        });
        assert_eq!(used(&config("a"), &all), offsets(5));
    }

    #[test]
    fn a_sinks_offset_is_a_position_in_a_topic() {
        let at = TopicPartition { topic: "t".into(), partition: 2 };
        assert_eq!(sink_position(&as_sink_offset(&at, Offset(7))), Some((at, Offset(7))));
        assert_eq!(sink_position(&offsets(5)[0]), None);
    }
}
