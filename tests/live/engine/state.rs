//! What a recovery must leave as it was, read from the systems themselves, and what is different afterwards.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use cdc_model::units::{Offset, TopicPartition};
use cdc_pipeline::{
    client::{
        connect::{Connect, ConnectorConfig},
        kafka::{Kafka, TopicSpec},
        postgres::Postgres,
        registry::Registry,
    },
    config::Config,
};

use super::play::{CONNECTORS, DATABASES, GROUPS, TABLES};

/// Everything that is compared.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The ids in each table.
    pub(super) rows: BTreeMap<String, BTreeSet<i64>>,
    topics: BTreeMap<String, TopicSpec>,
    topic_ids: BTreeMap<String, String>,
    /// By group and partition.
    offsets: BTreeMap<(String, String, i32), i64>,
    /// At rest, or not: a connector that failed was running when somebody looked last.
    states: BTreeMap<String, String>,
    configs: BTreeMap<String, ConnectorConfig>,
    /// By subject; that of the registry as a whole under an empty name.
    pub(super) levels: BTreeMap<String, Option<String>>,
    /// Text of each version by subject and version, with its id.
    pub(super) versions: BTreeMap<(String, u32), u32>,
    slots: BTreeSet<String>,
    publications: BTreeSet<String>,
    pub(super) timeline: u32,
    /// Files and folders of which none may be left over.
    entries: BTreeSet<Utf8PathBuf>,
}

/// What there is on one pipeline.
pub(super) struct Places {
    /// The folder of the repository.
    pub(super) repository: Utf8PathBuf,
    /// The data folder.
    pub(super) pgdata: Utf8PathBuf,
    /// The folder of the registry's store.
    pub(super) registry: Utf8PathBuf,
    /// The folder for temporary files.
    pub(super) temporary: Utf8PathBuf,
}

impl State {
    pub(super) async fn read(config: &Config, places: &Places) -> State {
        let kafka = Kafka::of(&config.kafka).unwrap();
        let connect = Connect::of(&config.connect);
        let mut rows = BTreeMap::new();
        let (mut slots, mut publications, mut timeline) = (BTreeSet::new(), BTreeSet::new(), 0);
        for database in DATABASES {
            let sql = Postgres::connect_database(&config.postgres.url, database, "test").await.unwrap();
            for (_, table) in TABLES.iter().filter(|(of, _)| *of == database) {
                rows.insert(format!("{database}.{table}"), ids(&sql, table).await);
            }
            let published = "select pubname || ' ' || schemaname || '.' || tablename from pg_publication_tables";
            publications.extend(
                sql.texts(published).await.unwrap().into_iter().flatten().flatten().map(|p| format!("{database} {p}")),
            );
            slots.extend(sql.slots().await.unwrap().into_iter().map(|slot| slot.name.to_string()));
            timeline = sql.timeline().await.unwrap().get();
        }
        let names: Vec<String> = kafka
            .topics()
            .await
            .unwrap()
            .into_keys()
            .filter(|t| CONNECTORS.iter().any(|c| t.starts_with(&format!("{c}."))))
            .collect();
        let topics: BTreeMap<String, TopicSpec> =
            kafka.topic_specs(&names).await.unwrap().into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let topic_ids = kafka.topic_ids(&names).await.unwrap();
        let partitions: Vec<TopicPartition> = topics
            .values()
            .flat_map(|t| (0..t.partitions).map(|partition| TopicPartition { topic: t.name.clone(), partition }))
            .collect();
        let mut offsets = BTreeMap::new();
        for group in GROUPS {
            let found: Vec<(TopicPartition, Offset)> = kafka.group_offsets(group, &partitions).await.unwrap();
            offsets.extend(found.into_iter().map(|(p, at)| ((group.to_owned(), p.topic, p.partition), at.0)));
        }
        let (mut states, mut configs) = (BTreeMap::new(), BTreeMap::new());
        for name in connect.connectors().await.unwrap() {
            let status = connect.status(&name).await.unwrap();
            let state = match (status.at_rest(), status.failure()) {
                (Some(rest), _) => rest.word().to_owned(),
                (None, Some(failure)) => failure,
                (None, None) => status.connector.state.clone(),
            };
            states.insert(name.clone(), state);
            configs.insert(name.clone(), connect.config(&name).await.unwrap());
        }
        let registry = Registry::of(&config.registry);
        let mut levels = BTreeMap::from([(String::new(), registry.global_level().await.unwrap())]);
        let mut versions = BTreeMap::new();
        for subject in registry.subjects(true).await.unwrap() {
            levels.insert(subject.to_string(), registry.subject_level(&subject).await.unwrap());
            for version in registry.versions(&subject, true).await.unwrap() {
                let registered = registry.version(&subject, version, true).await.unwrap();
                versions.insert((subject.to_string(), version.0), registered.map_or(0, |v| v.id.0));
            }
        }
        let entries = places.entries();
        State {
            rows,
            topics,
            topic_ids,
            offsets,
            states,
            configs,
            levels,
            versions,
            slots,
            publications,
            timeline,
            entries,
        }
    }

    /// What is not as it was in `before`. Tables are compared by their rows, topics that were made anew by their settings, and the
    /// groups that read these stand at 0 on each partition.
    pub(super) fn differences(&self, before: &State, rows: &BTreeMap<String, BTreeSet<i64>>) -> Vec<String> {
        let mut found = Vec::new();
        for (table, wanted) in rows {
            let there = &self.rows[table];
            let (lost, more) = (wanted.difference(there).count(), there.difference(wanted).count());
            if lost + more > 0 {
                found.push(format!("rows: {table} lacks {lost} and has {more} too many"));
            }
        }
        unequal("topic", &before.topics, &self.topics, &mut found);
        unequal("state of connector", &before.running(), &self.states, &mut found);
        for (name, wanted) in &before.configs {
            let now = self.configs.get(name).cloned().unwrap_or_default();
            for key in wanted.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
                // Values may be secrets.
                if wanted.get(key) != now.get(key) {
                    found.push(format!("configuration: {key} of connector {name} is another"));
                }
            }
        }
        let anew = |topic: &String| self.is_anew(before, topic);
        for topic in before.topics.values() {
            for group in GROUPS {
                let had = |partition: i32| before.offsets.get(&(group.to_owned(), topic.name.clone(), partition));
                let any = (0..topic.partitions).any(|p| had(p).is_some());
                for partition in 0..topic.partitions {
                    let wanted = if any && anew(&topic.name) { Some(&0) } else { had(partition) };
                    let now = self.offsets.get(&(group.to_owned(), topic.name.clone(), partition));
                    if wanted != now {
                        found.push(format!(
                            "offset: group {group} on {} [{partition}] {wanted:?} -> {now:?}",
                            topic.name
                        ));
                    }
                }
            }
        }
        found
    }

    /// Whether a topic is another one than before.
    pub(super) fn is_anew(&self, before: &State, topic: &str) -> bool {
        self.topic_ids.get(topic) != before.topic_ids.get(topic)
    }

    /// Slots and publications that are not as they were before anything was broken.
    pub(super) fn missing(&self, before: &State) -> Vec<String> {
        let mut found = Vec::new();
        if self.slots != before.slots {
            found.push(format!("slots: {:?} -> {:?}", before.slots, self.slots));
        }
        if self.publications != before.publications {
            found.push(format!("publications: {:?} -> {:?}", before.publications, self.publications));
        }
        found
    }

    /// The same where no connector has failed: what a recovery shall reach.
    fn running(&self) -> BTreeMap<String, String> {
        let state = |state: &String| if state.contains("FAILED") { "RUNNING".to_owned() } else { state.clone() };
        self.states.iter().map(|(name, s)| (name.clone(), state(s))).collect()
    }

    /// The connectors that nobody has brought to rest.
    pub(super) fn connectors_that_run(&self) -> impl Iterator<Item = &str> {
        self.states.iter().filter(|(_, state)| *state != "PAUSED" && *state != "STOPPED").map(|(name, _)| name.as_str())
    }

    /// Whether a file or folder was there.
    pub(super) fn has(&self, path: &Utf8Path) -> bool {
        self.entries.contains(path)
    }

    /// What is there now and was not then.
    pub(super) fn new_entries(&self, before: &State) -> BTreeSet<Utf8PathBuf> {
        self.entries.difference(&before.entries).cloned().collect()
    }
}

/// Names each key whose value is another one.
pub(super) fn unequal<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    found: &mut Vec<String>,
) {
    for key in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        if before.get(key) != now.get(key) {
            found.push(format!("{what} {key:?}: {:?} -> {:?}", before.get(key), now.get(key)));
        }
    }
}

async fn ids(sql: &Postgres, table: &str) -> BTreeSet<i64> {
    let rows = sql.texts(&format!("select id::text from {table}")).await.unwrap();
    rows.into_iter().flatten().flatten().map(|id| id.parse().unwrap()).collect()
}

impl Places {
    /// Everything that a procedure could leave behind, where a procedure writes: beside the data folder, in the registry's store, in the
    /// repository and where temporary files are.
    fn entries(&self) -> BTreeSet<Utf8PathBuf> {
        let beside = self.pgdata.parent().unwrap();
        let in_repository = ["", "points", "locks", "recoveries"].map(|folder| self.repository.join(folder));
        let folders = [beside.to_owned(), beside.join(".cdc-drill"), self.registry.clone(), self.temporary.clone()];
        folders.into_iter().chain(in_repository).flat_map(|folder| list(&folder)).collect()
    }
}

fn list(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    match folder.read_dir_utf8() {
        Ok(entries) => entries.map(|entry| entry.unwrap().into_path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{folder}: {error}"),
    }
}
