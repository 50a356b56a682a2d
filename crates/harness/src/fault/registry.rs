//! The schema registry: a subject gone, a level changed, the whole store lost.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{FaultError, Target, hook};
use cdc_model::{
    event::{FaultReport, Landed},
    units::{Offset, SchemaId, Subject, TopicPartition, counted},
};
use cdc_pipeline::{
    client::{
        ClientError, limits,
        registry::Registry,
        wait::{self, Poll},
    },
    config::{RegistryStorage, Verb},
};

const DELETE: &str = "registry-delete-subject";
const LEVEL: &str = "registry-set-level";
const LOSE: &str = "registry-lose-storage";

/// A subject deleted for good.
#[derive(Debug)]
pub(super) struct SubjectGone {
    subject: Subject,
    versions: usize,
    level: Option<String>,
}

impl SubjectGone {
    pub(super) async fn inject(target: &Target, subject: &Subject) -> Result<SubjectGone, FaultError> {
        let registry = target.registry();
        let versions = registry.versions(subject, true).await.map_err(FaultError::client(DELETE))?.len();
        if versions == 0 {
            let hint = "a subject is registered with the first record of its table";
            return Err(FaultError::unfit(DELETE, format!("subject {subject}"), "at least one version", "none", hint));
        }
        let level = registry.subject_level(subject).await.map_err(FaultError::client(DELETE))?;
        registry.delete_subject(subject, true).await.map_err(FaultError::client(DELETE))?;
        Ok(SubjectGone { subject: subject.clone(), versions, level })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let look = async {
            let registry = target.registry();
            let versions = registry.versions(&self.subject, true).await?;
            let listed = registry.subjects(true).await?.contains(&self.subject);
            let level = registry.subject_level(&self.subject).await?;
            Ok::<_, ClientError>((versions, listed, level))
        };
        let (versions, listed, level) = look.await.map_err(FaultError::client(DELETE))?;
        let evidence = format!(
            "subject {}: {} and level {} before; now {}, {}, level {}",
            self.subject,
            counted(self.versions, "version"),
            unset(&self.level),
            counted(versions.len(), "version"),
            if listed { "listed" } else { "not listed (404)" },
            unset(&level)
        );
        let landed = if versions.is_empty() && !listed { Landed::Confirmed } else { Landed::Mismatch };
        Ok((landed, evidence))
    }
}

/// A level that was changed.
#[derive(Debug)]
pub(super) struct LevelSet {
    subject: Option<Subject>,
    before: Option<String>,
    level: String,
}

impl LevelSet {
    pub(super) async fn inject(
        target: &Target,
        subject: Option<&Subject>,
        level: &str,
    ) -> Result<LevelSet, FaultError> {
        let registry = target.registry();
        let set = async {
            let before = read_level(&registry, subject).await?;
            match subject {
                Some(subject) => registry.set_subject_level(subject, level).await?,
                None => registry.set_global_level(level).await?,
            }
            Ok(before)
        };
        let before = set.await.map_err(FaultError::client(LEVEL))?;
        Ok(LevelSet { subject: subject.cloned(), before, level: level.to_owned() })
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let registry = target.registry();
        let now = read_level(&registry, self.subject.as_ref()).await.map_err(FaultError::client(LEVEL))?;
        let whose = self.subject.as_ref().map_or("global level".to_owned(), |s| format!("level of {s}"));
        let mut evidence = format!("{whose}: {} before, {} now", unset(&self.before), unset(&now));
        let mut landed = now.as_deref() == Some(&self.level) && now != self.before;
        if let Some(subject) = &self.subject
            && self.level == "NONE"
        {
            let accepted = registry.compatible(subject, STRANGER).await.map_err(FaultError::client(LEVEL))?;
            evidence.push_str(if accepted { "; an incompatible schema would be accepted" } else { "; still refuses" });
            landed = landed && accepted;
        }
        Ok((if landed { Landed::Confirmed } else { Landed::Mismatch }, evidence))
    }
}

/// A schema that is compatible with none of the connector's.
const STRANGER: &str =
    r#"{"type":"record","name":"Stranger","namespace":"cdc.drill","fields":[{"name":"required","type":"string"}]}"#;

async fn read_level(registry: &Registry, subject: Option<&Subject>) -> Result<Option<String>, ClientError> {
    match subject {
        Some(subject) => registry.subject_level(subject).await,
        None => registry.global_level().await,
    }
}

fn unset(level: &Option<String>) -> &str {
    level.as_deref().unwrap_or("unset")
}

/// What a registry held before it was lost, and where the data topics ended then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryBefore {
    /// The text of each schema by id.
    pub schemas: BTreeMap<SchemaId, String>,
    /// The ids of each subject's versions.
    pub subjects: BTreeMap<Subject, Vec<SchemaId>>,
    /// The end of each data topic's partitions.
    pub ends: Vec<(TopicPartition, Offset)>,
}

/// A registry that lost its store.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) before: RegistryBefore,
    aside: Vec<String>,
    refill: bool,
}

impl Lost {
    pub(super) async fn inject(target: &Target, refill: bool) -> Result<Lost, FaultError> {
        let storage = target.config.registry.storage.clone().ok_or_else(|| {
            let hint = "name it under [registry] storage in the configuration";
            FaultError::unfit(LOSE, "registry", "a known storage", "none", hint)
        })?;
        let before = remember(target).await.map_err(FaultError::client(LOSE))?;
        hook::order(LOSE, target, "registry", Verb::Stop).await?;
        let aside = match &storage {
            RegistryStorage::H2 { path } => set_aside(path)?,
            RegistryStorage::Kafkasql { topics } => {
                let kafka = target.kafka().map_err(FaultError::client(LOSE))?;
                kafka.delete_topics(topics).await.map_err(FaultError::client(LOSE))?;
                topics.iter().map(|topic| format!("topic {topic} deleted")).collect()
            }
        };
        hook::order(LOSE, target, "registry", Verb::Start).await?;
        let registry = target.registry();
        wait::until("registry answering after its loss", limits::registries::START, || async {
            registry.subjects(true).await.map(Poll::Ready)
        })
        .await
        .map_err(FaultError::client(LOSE))?;
        if refill {
            let connect = target.connect();
            // Stopped and resumed, because a restart is answered before it happens, and a task that lives on keeps the ids.
            connect.stopped(&target.connector, limits::faults::RESTARTED).await.map_err(FaultError::client(LOSE))?;
            connect.resume(&target.connector).await.map_err(FaultError::client(LOSE))?;
            connect.running(&target.connector, limits::faults::RESTARTED).await.map_err(FaultError::client(LOSE))?;
        }
        Ok(Lost { before, aside, refill })
    }

    /// The store is empty, or a subject came back under other ids.
    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let now = ids_by_subject(&target.registry()).await.map_err(FaultError::client(LOSE))?;
        let (mut same, mut moved, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (subject, ids) in &now {
            match self.before.subjects.get(subject) {
                Some(old) if old == ids => same.push(subject.as_str()),
                Some(old) => moved.push(format!("{subject} {} -> {}", numbers(old), numbers(ids))),
                None => new.push(format!("{subject} {}", numbers(ids))),
            }
        }
        let filled = if self.refill { "; the connector was restarted" } else { "" };
        let evidence = format!(
            "{} before, {} now; under other ids: {}; under the same: {}; new: {}; set aside: {}{filled}",
            counted(self.before.subjects.len(), "subject"),
            now.len(),
            list(&moved),
            list(&same),
            list(&new),
            list(&self.aside)
        );
        // A subject that was registered first both times has its old id by luck; one that moved, or an empty store, is proof.
        let landed = !self.before.subjects.is_empty() && (!moved.is_empty() || now.is_empty());
        Ok((if landed { Landed::Confirmed } else { Landed::Mismatch }, evidence))
    }
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ") }
}

fn numbers(ids: &[SchemaId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}

async fn remember(target: &Target) -> Result<RegistryBefore, ClientError> {
    let registry = target.registry();
    let mut before = RegistryBefore { subjects: ids_by_subject(&registry).await?, ..RegistryBefore::default() };
    let ids: BTreeSet<SchemaId> = before.subjects.values().flatten().copied().collect();
    for id in ids {
        if let Some(schema) = registry.schema(id).await? {
            before.schemas.insert(id, schema);
        }
    }
    let kafka = target.kafka()?;
    let there = kafka.topics().await?;
    for topic in target.tables.iter().map(|table| target.topic(table)).filter(|topic| there.contains_key(topic)) {
        for (partition, (_, end)) in kafka.watermarks(&topic).await?.into_iter().enumerate() {
            before.ends.push((TopicPartition { topic: topic.clone(), partition: partition as i32 }, end));
        }
    }
    Ok(before)
}

async fn ids_by_subject(registry: &Registry) -> Result<BTreeMap<Subject, Vec<SchemaId>>, ClientError> {
    let mut all = BTreeMap::new();
    for subject in registry.subjects(true).await? {
        let mut ids = Vec::new();
        for version in registry.versions(&subject, true).await? {
            ids.extend(registry.version(&subject, version, true).await?.map(|v| v.id));
        }
        all.insert(subject, ids);
    }
    Ok(all)
}

/// Renames every file of an H2 database; a store that is not there is an error, nothing would be lost.
fn set_aside(path: &Utf8Path) -> Result<Vec<String>, FaultError> {
    let folder = path.parent().unwrap_or(Utf8Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let fail = || FaultError::file(LOSE, "set aside the registry's store", path);
    let mut aside = Vec::new();
    for entry in folder.read_dir_utf8().map_err(fail())? {
        let file = entry.map_err(fail())?.into_path();
        let is_store = file.file_name().is_some_and(|f| f.starts_with(name));
        if is_store {
            let to = free_name(&file);
            std::fs::rename(&file, &to).map_err(fail())?;
            aside.push(to.to_string());
        }
    }
    if aside.is_empty() {
        let hint = "[registry] storage names another path than the registry uses";
        return Err(FaultError::unfit(LOSE, path, "files of the registry's store", "none", hint));
    }
    Ok(aside)
}

/// A name for the lost file that no earlier loss took; it no longer begins with the store's own name.
fn free_name(file: &Utf8Path) -> Utf8PathBuf {
    let name = file.file_name().unwrap_or_default();
    let mut count = 1;
    loop {
        let to = file.with_file_name(format!("lost-{count}-{name}"));
        if !to.exists() {
            return to;
        }
        count += 1;
    }
}

/// Counts the records that were written, since the registry was lost, under ids that it had given to other schemas or
/// never gave; confirmed from `at_least` on.
pub async fn records_under_other_ids(
    target: &Target,
    before: &RegistryBefore,
    at_least: u64,
) -> Result<FaultReport, FaultError> {
    let counts = count_by_id(target, before).await.map_err(FaultError::client(LOSE))?;
    let registry = target.registry();
    let (mut wrong, mut right) = (BTreeMap::new(), 0);
    for (id, count) in counts {
        let now = registry.schema(id).await.map_err(FaultError::client(LOSE))?;
        if now.is_some() && now.as_ref() == before.schemas.get(&id) {
            right += count;
        } else {
            wrong.insert(id, count);
        }
    }
    let total: u64 = wrong.values().sum();
    let ids: Vec<String> = wrong.iter().map(|(id, count)| format!("id {id}: {count}")).collect();
    let evidence = format!(
        "{total} under other ids ({}), {right} under ids that kept their schema",
        list(&ids),
        total = counted(total, "record")
    );
    let landed = if total >= at_least { Landed::Confirmed } else { Landed::Mismatch };
    Ok(FaultReport { fault: LOSE.to_owned(), landed, evidence, hooks: Vec::new() })
}

/// How many records name each schema id in their value, from the ends remembered to the ends now.
async fn count_by_id(target: &Target, before: &RegistryBefore) -> Result<BTreeMap<SchemaId, u64>, ClientError> {
    let kafka = target.kafka()?;
    let began: BTreeMap<&TopicPartition, Offset> = before.ends.iter().map(|(tp, end)| (tp, *end)).collect();
    let there = kafka.topics().await?;
    let mut ranges = Vec::new();
    for topic in target.tables.iter().map(|table| target.topic(table)).filter(|topic| there.contains_key(topic)) {
        for (partition, (start, end)) in kafka.watermarks(&topic).await?.into_iter().enumerate() {
            let tp = TopicPartition { topic: topic.clone(), partition: partition as i32 };
            let from = began.get(&tp).copied().unwrap_or(start).max(start);
            ranges.push((tp, from, end));
        }
    }
    let scan = move || {
        let mut counts: BTreeMap<SchemaId, u64> = BTreeMap::new();
        kafka.scan(&ranges, |message| {
            use rdkafka::Message;
            if let Some(id) = message.payload().and_then(schema_id) {
                *counts.entry(id).or_default() += 1;
            }
        })?;
        Ok(counts)
    };
    let ended = tokio::task::spawn_blocking(scan).await;
    ended.unwrap_or_else(|e| Err(ClientError::unreachable("kafka", &target.config.kafka.bootstrap, e)))
}

/// The id in Confluent's wire format: a zero byte, then four bytes.
fn schema_id(payload: &[u8]) -> Option<SchemaId> {
    let id: [u8; 4] = payload.get(1..5)?.try_into().ok()?;
    (payload[0] == 0).then(|| SchemaId(u32::from_be_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_set_aside_whole_and_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["registry.mv.db", "registry.trace.db", "other.db"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        assert_eq!(set_aside(&dir.join("registry")).unwrap().len(), 2);
        assert!(dir.join("other.db").exists() && dir.join("lost-1-registry.mv.db").exists());
        assert!(set_aside(&dir.join("registry")).is_err(), "nothing is left to lose");
    }

    #[test]
    fn ids_are_read_from_confluents_wire_format() {
        assert_eq!(schema_id(&[0, 0, 0, 1, 2, 9]), Some(SchemaId(258)));
        assert_eq!(schema_id(&[1, 0, 0, 1, 2]), None);
        assert_eq!(schema_id(&[0, 0]), None);
    }
}
