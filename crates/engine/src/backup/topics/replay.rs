//! Writing an archived topic again: into a topic that is missing, empty, or holds the beginning of the same replay.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    archive::{Loaded, TopicArchive},
    batch::Record,
    capture::blocking,
    convert::copied,
    manifest::{PartitionBackup, discontinuities},
    mapping::{Positions, Run, Runs},
    schemas,
    target::{Comparison, fitted, held},
    until::{Cut, Until},
};
use crate::backup::{
    Activity, BackupError, Lock, Repository, files,
    hash::Hashing,
    storage::{self, Draft},
};
use cdc_model::{
    moment,
    units::{Offset, TopicPartition, counted},
};
use cdc_pipeline::{
    attach,
    client::{
        ClientError,
        connect::{Connect, ConnectorConfig},
        kafka::{Copied, Kafka, Refusal, StretchEnd, TopicSpec},
        registry::Registry,
    },
    config::{Config, Permission},
};

/// The step of which the moments of a replay are.
const STEP: &str = "topic-replay";
/// The moments of step `topic-replay`, in their order: what has just been done. It can be interrupted at each of them.
pub const REPLAY_MOMENTS: [&str; 8] =
    ["begun", "created", "half-way", "written", "compared", "mapped", "committed", "settings"];

/// What to replay, and how.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// The archived topic.
    pub topic: String,
    /// Which backup of it; the newest when absent.
    pub backup: Option<String>,
    /// The topic to write to; the archived one's name when absent.
    pub target: Option<String>,
    /// Up to where.
    pub until: Until,
    /// Whether to set what groups had committed.
    pub groups: bool,
    /// Where to write the mapping of offsets besides the repository.
    pub mapping: Option<Utf8PathBuf>,
    /// Whether schema ids that the registry does not know, or knows as something else, are accepted.
    pub accept_unknown_schemas: bool,
    /// Whether nothing is to be changed: only what refuses readers refuses then.
    pub dry_run: bool,
    /// Whether the brokers are a scratch stack's: the repository is only read, and no mapping is left in it.
    pub scratch: bool,
}

/// What a replay does to a committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedOffset {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: i32,
    /// What was committed for the archived topic.
    pub from: i64,
    /// The position of the first record at or after it in the topic that was written.
    pub to: i64,
}

/// What a replay has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The topic that was written.
    pub target: String,
    /// The backup that it was written from.
    pub backup: String,
    /// How many records the topic has of it.
    pub records: u64,
    /// How many of them were there before.
    pub found: u64,
    /// Records that are in the backup and beyond `--until`.
    pub left_out: u64,
    /// Records that were read back and are equal.
    pub compared: u64,
    /// The file that maps offsets; none for a scratch stack.
    pub mapping: Option<Utf8PathBuf>,
    /// What became of committed offsets.
    pub groups: Vec<MovedOffset>,
    /// What is not as in the archived topic, or was not looked at.
    pub notes: Vec<String>,
}

/// A partition of a replay.
#[derive(Clone, Debug)]
struct Part {
    archived: PartitionBackup,
    /// Records that are replayed.
    records: u64,
    left_out: u64,
    /// Committed offsets, each with the number of the first record at or after it.
    positions: BTreeMap<i64, i64>,
    /// The first offset in the target.
    base: i64,
    /// Records that are there.
    found: u64,
}

/// A replay that nothing speaks against: everything that it will write was verified, and nothing was touched.
#[derive(Debug)]
pub struct Replay {
    kafka: Kafka,
    backup: Loaded,
    options: ReplayOptions,
    parts: Vec<Part>,
    /// The topic that is made; none where it is there.
    new: Option<TopicSpec>,
    /// The settings that the topic gets in the end; none where it keeps those that it has.
    settings: Option<BTreeMap<String, String>>,
    comparison: Comparison,
    largest: usize,
    notes: Vec<String>,
    _lock: Lock,
}

/// Looks at everything that a replay depends on, and touches nothing: reads and verifies the whole backup, the topic to write to, the
/// registry and the groups. Refuses (40) what cannot be done.
pub async fn plan_replay(config: &Config, options: &ReplayOptions) -> Result<Replay, BackupError> {
    attach::permit(config, Permission::Recover).await?;
    let target = options.target.clone().unwrap_or_else(|| options.topic.clone());
    attach::within(config, "topic", [target.as_str()])?;
    let repository = Repository::of(&config.repository)?;
    repository.unlock()?;
    if let Some(folder) = options.mapping.as_deref().and_then(Utf8Path::parent).filter(|f| !f.as_str().is_empty())
        && !files::is_there(folder)?
    {
        return Err(BackupError::topic(&target, format!("the mapping cannot be written: there is no folder {folder}")));
    }
    let lock = match options.dry_run || options.scratch {
        true => repository.lock(Activity::Restore, "topic replay --dry-run")?,
        false => repository.lock(Activity::Recover, "topic replay")?,
    };
    let kafka = Kafka::of(&config.kafka)?;
    let cluster = kafka.own_cluster_id().await?;
    let backup = chosen(&repository, options, &cluster)?;
    let mut notes = backup.manifest.notes.clone();
    let (reading, until, of_groups) = (backup.clone(), options.until.clone(), options.groups);
    let (mut parts, largest, timeless) = blocking(move || verified(&reading, &until, of_groups)).await?;
    for part in &parts {
        notes.extend(part.archived.gaps.iter().map(|gap| format!("partition {}: {gap}", part.archived.partition)));
    }
    if timeless > 0 {
        let records = counted(timeless, "record");
        notes.push(format!("{records} of the first millisecond of 1970: the client writes the present time instead"));
    }
    known_schemas(config, &backup, options, &target, &mut notes).await?;
    no_writer(config, &target, &mut notes).await?;
    let (spec, fit) = fitted(&backup.manifest.spec, &target, kafka.brokers().await?);
    let there = kafka.topic_specs(std::slice::from_ref(&target)).await?.into_iter().next();
    let mut comparison = Comparison { stamped_anew: false };
    let (new, settings) = match there {
        None => {
            let creating = kafka.brokers_that_create_topics().await?;
            if !creating.is_empty() {
                let by = creating.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                notes.push(format!(
                    "a client that asks for {target} meanwhile makes it, with defaults (auto.create.topics.enable of broker {by}): the replay then ends before it has written anything"
                ));
            }
            let made = TopicSpec { settings: held(&spec.settings), ..spec.clone() };
            // One after the other: a request must not name a topic twice.
            for asked in [&made, &spec] {
                for (_, refusal) in kafka.refused_topics(std::slice::from_ref(asked)).await? {
                    match refusal {
                        Refusal::Refused(why) => {
                            return Err(BackupError::topic(&target, format!("it cannot be made: {why}")));
                        }
                        Refusal::Unknown(why) => {
                            notes.push(format!("whether {target} can be made is not known: {why}"));
                        }
                    }
                }
            }
            notes.extend(fit);
            (Some(made), Some(spec.settings))
        }
        Some(there) => {
            if there.partitions != spec.partitions {
                let why =
                    format!("expected {}, found {}", counted(spec.partitions as u64, "partition"), there.partitions);
                return Err(BackupError::topic(&target, why).with_hint("replay under another name: `--as OTHER`"));
            }
            let settings = if there.settings == held(&spec.settings) {
                notes.extend(fit);
                Some(spec.settings)
            } else {
                comparison = stamping(&kafka, &target, &mut notes).await?;
                if there.settings != spec.settings {
                    notes.push(format!("{target} keeps its settings, which are not those of the archived topic"));
                }
                None
            };
            compare_beginnings(&kafka, &backup, &target, comparison, &mut parts).await?;
            (None, settings)
        }
    };
    if options.groups {
        idle_groups(&kafka, &backup).await?;
    }
    let options = ReplayOptions { target: Some(target), ..options.clone() };
    Ok(Replay { kafka, backup, options, parts, new, settings, comparison, largest, notes, _lock: lock })
}

/// The backup that is meant: the newest of this cluster's topic, or of the only cluster that has one of this name.
fn chosen(repository: &Repository, options: &ReplayOptions, cluster: &str) -> Result<Loaded, BackupError> {
    let topic = options.topic.as_str();
    let archives = TopicArchive::all(repository.store(), Some(topic))?;
    let none = |there: Vec<String>| BackupError::NoSuchTopicBackup {
        repository: repository.path().to_owned(),
        wanted: match &options.backup {
            Some(backup) => format!("topic {topic} with id {backup}"),
            None => format!("topic {topic}"),
        },
        there: if there.is_empty() { "none".to_owned() } else { there.join(", ") },
    };
    if let Some(wanted) = &options.backup {
        let mut there = Vec::new();
        for archive in &archives {
            for backup in archive.backups()? {
                match backup {
                    Ok(backup) if backup.manifest.backup == *wanted => return Ok(backup),
                    Ok(backup) => there.push(backup.manifest.backup),
                    Err(error) => tracing::warn!(%error, "a backup of the topic is passed over"),
                }
            }
        }
        return Err(none(there));
    }
    let here = TopicArchive::of(repository.store(), Some(cluster), topic);
    let own = archives.iter().find(|archive| archive.folder == here.folder);
    match (own, archives.as_slice()) {
        (Some(archive), _) | (None, [archive]) => archive.newest()?.ok_or_else(|| none(Vec::new())),
        (None, []) => Err(none(Vec::new())),
        (None, several) => {
            let ids: Vec<String> =
                several.iter().filter_map(|a| a.newest().ok().flatten()).map(|b| b.manifest.backup).collect();
            let why = format!("backups of several clusters, of which none is this one: {}", ids.join(", "));
            Err(BackupError::topic(topic, why).with_hint("name one with `--backup`"))
        }
    }
}

/// Reads everything that a replay will write, so that damage is met before anything is written. Blocks.
fn verified(backup: &Loaded, until: &Until, of_groups: bool) -> Result<(Vec<Part>, usize, u64), BackupError> {
    let (mut parts, mut largest, mut timeless) = (Vec::new(), 0, 0);
    for archived in &backup.manifest.partitions {
        if let Some(wrong) = discontinuities(archived).into_iter().next() {
            let what = format!("{} partition {}: {wrong}", backup.archive.folder, archived.partition);
            return Err(BackupError::malformed(&backup.archive.folder, what));
        }
        let groups = backup.manifest.groups.iter().filter(|_| of_groups);
        let mut positions = Positions::new(groups.filter_map(|group| group.offsets.get(&archived.partition).copied()));
        let mut cut = Cut::new(until, archived.partition);
        let (mut records, mut all) = (0_u64, 0_u64);
        for record in backup.records(archived) {
            let record = record?;
            all += 1;
            if cut.takes(&record) {
                positions.see(record.offset, records as i64);
                records += 1;
                largest = largest.max(record.size());
                timeless += u64::from(record.timestamp.number() == 0);
            }
        }
        let expected: u64 = archived.segments.iter().map(|segment| segment.records).sum();
        if all != expected {
            let what = format!("expected {}, found {all}", counted(expected, "record"));
            return Err(BackupError::malformed(&backup.archive.folder, what));
        }
        let positions = positions.finish(records as i64);
        let left_out = cut.left_out;
        parts.push(Part { archived: archived.clone(), records, left_out, positions, base: 0, found: 0 });
    }
    Ok((parts, largest, timeless))
}

async fn known_schemas(
    config: &Config,
    backup: &Loaded,
    options: &ReplayOptions,
    target: &str,
    notes: &mut Vec<String>,
) -> Result<(), BackupError> {
    let archived = &backup.manifest.schemas;
    let verdict = match schemas::compare(archived, &Registry::of(&config.registry)).await {
        Ok(verdict) => verdict,
        Err(error) if options.accept_unknown_schemas => {
            notes.push(format!("schema ids were not compared with the registry: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    notes.extend(verdict.notes);
    match (verdict.wrong.is_empty(), options.accept_unknown_schemas) {
        (true, _) => Ok(()),
        (false, true) => {
            notes.extend(verdict.wrong);
            Ok(())
        }
        (false, false) => {
            Err(BackupError::topic(target, format!("its records cannot be read: {}", verdict.wrong.join("; ")))
                .with_hint(
                    "restore the registry first (`cdc-drill recover run schema`), or give --accept-unknown-schemas",
                ))
        }
    }
}

/// Requires that no source connector runs that writes to the topic: it would make the topic again, or write beside the replay.
async fn no_writer(config: &Config, target: &str, notes: &mut Vec<String>) -> Result<(), BackupError> {
    let connect = Connect::of(&config.connect);
    let looked = async {
        let mut running = Vec::new();
        for name in connect.connectors().await? {
            let Some((settings, status)) = connect.described(&name).await? else { continue };
            if status.stands_still() || is_sink(&settings) {
                continue;
            }
            let has_prefix = settings.get("topic.prefix").is_some_and(|prefix| below(prefix, target));
            if has_prefix || connect.topics(&name).await?.iter().any(|topic| topic == target) {
                running.push(format!("{name} ({})", status.summary()));
            }
        }
        Ok::<_, ClientError>(running)
    };
    match looked.await {
        Ok(running) if running.is_empty() => Ok(()),
        Ok(running) => {
            let why = format!("expected that no connector writes to it, found {}", running.join(", "));
            Err(BackupError::topic(target, why)
                .with_hint("stop it (`PUT /connectors/<name>/stop`), and resume it when the replay is done"))
        }
        Err(error) => {
            notes.push(format!("whether a connector writes to {target} is not known: {error}"));
            Ok(())
        }
    }
}

fn is_sink(settings: &ConnectorConfig) -> bool {
    settings.contains_key("topics") || settings.contains_key("topics.regex")
}

/// Whether a topic's name begins with a connector's prefix.
fn below(prefix: &str, topic: &str) -> bool {
    topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether the brokers stamp records of a topic that keeps its settings, and what else these do to records.
async fn stamping(kafka: &Kafka, target: &str, notes: &mut Vec<String>) -> Result<Comparison, BackupError> {
    let effective = kafka.effective_settings(&[target.to_owned()]).await?.remove(target).unwrap_or_default();
    let stamped_anew = effective.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");
    if stamped_anew {
        notes.push(format!(
            "records are stamped anew by {target} (message.timestamp.type): timestamps are not those of the archive"
        ));
    }
    Ok(Comparison { stamped_anew })
}

/// Compares what is in the topic with the beginning of what is to be written: nothing else may be there.
async fn compare_beginnings(
    kafka: &Kafka,
    backup: &Loaded,
    target: &str,
    comparison: Comparison,
    parts: &mut [Part],
) -> Result<(), BackupError> {
    for (part, extent) in parts.iter_mut().zip(kafka.extents(target).await?) {
        part.base = extent.start.0;
        let other = |what: String| {
            BackupError::topic(target, format!("it has other content: partition {}: {what}", part.archived.partition))
                .with_hint("replay under another name (`--as OTHER`), or delete the topic")
        };
        if extent.stable != extent.end {
            return Err(other("a transaction is open in it".to_owned()));
        }
        let there = extent.end.0 - extent.start.0;
        if there > part.records as i64 {
            return Err(other(format!(
                "{} in use, and only {} to replay",
                counted(there as u64, "offset"),
                counted(part.records, "record")
            )));
        }
        let (found, differs) = compared(kafka, backup, target, comparison, part, extent.end.0).await?;
        if let Some(differs) = differs {
            return Err(other(differs));
        }
        if found as i64 != there {
            return Err(other(format!("{} in use, by {}", counted(there as u64, "offset"), counted(found, "record"))));
        }
        part.found = found;
    }
    Ok(())
}

/// Compares the records of a partition up to an offset, one by one, with the archive; returns how many are equal, and how the next one
/// differs.
async fn compared(
    kafka: &Kafka,
    backup: &Loaded,
    target: &str,
    comparison: Comparison,
    part: &Part,
    to: i64,
) -> Result<(u64, Option<String>), BackupError> {
    let (kafka, backup, part) = (kafka.clone(), backup.clone(), part.clone());
    let of = TopicPartition { topic: target.to_owned(), partition: part.archived.partition };
    blocking(move || {
        let mut archived = backup.records(&part.archived);
        let (mut equal, mut differs, mut failed) = (0_u64, None, None);
        let ended = kafka.read_stretch(&of, Offset(part.base), Offset(to), |message| {
            let there = copied(message);
            let expected = match archived.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                None => {
                    differs = Some(format!("a record at offset {} that is not in the backup", there.offset));
                    return ControlFlow::Break(());
                }
            };
            let at = part.base + equal as i64;
            let what = match there.offset == at {
                true => comparison.difference(&expected, &there),
                false => Some("a record is missing before it"),
            };
            if let Some(what) = what {
                differs =
                    Some(format!("offset {}: {what} than at offset {} of the backup", there.offset, expected.offset));
                return ControlFlow::Break(());
            }
            equal += 1;
            ControlFlow::Continue(())
        })?;
        match (failed, ended) {
            (Some(error), _) => Err(error),
            (None, StretchEnd::Removed(at)) => {
                Ok((equal, Some(format!("records from offset {at} on are being removed"))))
            }
            (None, StretchEnd::Reached | StretchEnd::Stopped) => Ok((equal, differs)),
        }
    })
    .await
}

/// Offsets of a group that has members would be moved under them.
async fn idle_groups(kafka: &Kafka, backup: &Loaded) -> Result<(), BackupError> {
    let there = kafka.groups().await?;
    for group in &backup.manifest.groups {
        let active = there
            .iter()
            .find(|known| known.name == group.group && !(known.members.is_empty() && known.untold.is_none()));
        if let Some(active) = active {
            let who = match &active.untold {
                Some(untold) => untold.to_string(),
                None => format!("members {}", active.members.join(", ")),
            };
            let why = format!("offsets of group {} cannot be set: {who}", group.group);
            return Err(
                BackupError::topic(&backup.manifest.topic, why).with_hint("stop its consumers, or leave --groups out")
            );
        }
    }
    Ok(())
}

impl Replay {
    /// The topic that it writes to.
    pub fn target(&self) -> &str {
        self.options.target.as_deref().unwrap_or(&self.options.topic)
    }

    /// What it would do, in the words of a person.
    pub fn describe(&self) -> String {
        let records: u64 = self.parts.iter().map(|part| part.records - part.found).sum();
        let into = match &self.new {
            Some(spec) => format!("a new topic {}, with {}", spec.name, counted(spec.partitions as u64, "partition")),
            None => format!("topic {}", self.target()),
        };
        let found: u64 = self.parts.iter().map(|part| part.found).sum();
        let already = if found > 0 { format!(" ({found} are there already)") } else { String::new() };
        let backup = &self.backup.manifest;
        format!("write {} of {} ({}) into {into}{already}", counted(records, "record"), backup.topic, backup.backup)
    }

    /// Committed offsets, as they will be set.
    pub fn moved(&self) -> Vec<MovedOffset> {
        let mut moved = Vec::new();
        for group in self.backup.manifest.groups.iter().filter(|_| self.options.groups) {
            for part in &self.parts {
                let Some(from) = group.offsets.get(&part.archived.partition) else { continue };
                let Some(number) = part.positions.get(&from.0) else { continue };
                let partition = part.archived.partition;
                let to = part.base + number;
                moved.push(MovedOffset { group: group.group.clone(), partition, from: from.0, to });
            }
        }
        moved
    }

    /// Whether every record that it would write is in the topic already.
    pub fn is_complete(&self) -> bool {
        self.new.is_none() && self.parts.iter().all(|part| part.found == part.records)
    }

    /// What is not as in the archived topic, or was not looked at.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes the records, reads them back, gives the groups their offsets, and then the topic its settings. The same replay goes on
    /// with what an interrupted one has written.
    pub async fn run(self, progress: &(dyn Fn(i32, u64) + Send + Sync)) -> Result<Replayed, BackupError> {
        moment::of_step(STEP, self.carried_out(progress)).await
    }

    async fn carried_out(self, progress: &(dyn Fn(i32, u64) + Send + Sync)) -> Result<Replayed, BackupError> {
        moment::pass("begun").await?;
        let target = self.target().to_owned();
        if let Some(spec) = &self.new {
            self.kafka.create_topics(std::slice::from_ref(spec)).await?;
        }
        moment::pass("created").await?;
        let mut mapping = match self.options.scratch {
            true => None,
            false => Some(Mapping::begin(&self.backup, &target)?),
        };
        let mut copier = self.kafka.copier(&target, self.largest)?;
        for part in &self.parts {
            let number = part.archived.partition;
            let mut runs = Runs::default();
            let mut records = self.backup.records(&part.archived);
            let mut block = Vec::new().into_iter();
            for nth in 0..part.records {
                let record: Record = loop {
                    if let Some(record) = block.next() {
                        break record;
                    }
                    let read;
                    (read, records) = blocking(move || Ok((records.next_block(), records))).await?;
                    let read: Vec<Record> = read.ok_or_else(|| self.wrong("the archive has become shorter"))??;
                    block = read.into_iter();
                };
                let at = part.base + nth as i64;
                if let (Some(run), Some(mapping)) = (runs.push(number, record.offset, at), &mut mapping) {
                    mapping.push(&run)?;
                }
                if nth >= part.found {
                    let copy = Copied {
                        timestamp_ms: record.timestamp.number(),
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        headers: &record.headers,
                    };
                    copier.write(number, Offset(at), copy).await?;
                }
            }
            if let (Some(run), Some(mapping)) = (runs.finish(), &mut mapping) {
                mapping.push(&run)?;
            }
            progress(number, part.records);
            if part.found < part.records {
                copier.wait().await?;
                moment::pass("half-way").await?;
            }
        }
        copier.finish().await?;
        moment::pass("written").await?;
        let compared = self.read_back(&target).await?;
        moment::pass("compared").await?;
        let copy = self.options.mapping.as_deref();
        let mapping = mapping.map(|mapping| mapping.publish(copy)).transpose()?;
        moment::pass("mapped").await?;
        let groups = self.moved();
        self.commit(&target, &groups).await?;
        moment::pass("committed").await?;
        // At last: from then on retention may remove what the same command would compare.
        if let Some(settings) = &self.settings {
            self.kafka.set_topic_settings(&target, settings).await?;
        }
        moment::pass("settings").await?;
        Ok(Replayed {
            backup: self.backup.manifest.backup.clone(),
            records: self.parts.iter().map(|part| part.records).sum(),
            found: self.parts.iter().map(|part| part.found).sum(),
            left_out: self.parts.iter().map(|part| part.left_out).sum(),
            compared,
            mapping,
            groups,
            notes: self.notes,
            target,
        })
    }

    fn wrong(&self, why: impl Into<String>) -> BackupError {
        BackupError::Replay { topic: self.target().to_owned(), why: why.into() }
    }

    /// Reads everything back and compares it with the archive.
    async fn read_back(&self, target: &str) -> Result<u64, BackupError> {
        let extents = self.kafka.extents(target).await?;
        let mut compared_records = 0;
        for part in &self.parts {
            let number = part.archived.partition;
            let end = part.base + part.records as i64;
            let found = extents.get(number as usize).map_or(0, |extent| extent.end.0);
            if found != end {
                return Err(self.wrong(format!("partition {number}: expected the end {end}, found {found}")));
            }
            let (equal, differs) = compared(&self.kafka, &self.backup, target, self.comparison, part, end).await?;
            match differs {
                Some(differs) => return Err(self.wrong(format!("partition {number}: {differs}"))),
                None if equal != part.records => {
                    let expected = counted(part.records, "record");
                    return Err(self.wrong(format!("partition {number}: expected {expected}, found {equal}")));
                }
                None => compared_records += equal,
            }
        }
        Ok(compared_records)
    }

    async fn commit(&self, target: &str, moved: &[MovedOffset]) -> Result<(), BackupError> {
        let mut by_group: BTreeMap<&str, Vec<(TopicPartition, Offset)>> = BTreeMap::new();
        for one in moved {
            let tp = TopicPartition { topic: target.to_owned(), partition: one.partition };
            by_group.entry(&one.group).or_default().push((tp, Offset(one.to)));
        }
        for (group, offsets) in by_group {
            self.kafka.commit_group_offsets(group, &offsets).await?;
            let all: Vec<TopicPartition> = offsets.iter().map(|(tp, _)| tp.clone()).collect();
            let mut there = self.kafka.group_offsets(group, &all).await?;
            there.sort();
            let mut expected = offsets;
            expected.sort();
            if there != expected {
                return Err(self.wrong(format!("offsets of group {group}: expected {expected:?}, found {there:?}")));
            }
        }
        Ok(())
    }
}

/// The file that maps offsets: a line that says what was replayed, and one for each run of records.
struct Mapping {
    archive: TopicArchive,
    file: BufWriter<Hashing<Draft>>,
    id: String,
}

impl Mapping {
    fn begin(backup: &Loaded, target: &str) -> Result<Mapping, BackupError> {
        let (archive, folder) = (backup.archive.clone(), backup.archive.replays());
        archive.store().folder(&folder)?;
        remove_unfinished(&folder)?;
        let id = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let file = BufWriter::new(Hashing::new(Draft::begin(archive.store(), &folder, &id)?));
        let mut mapping = Mapping { archive, file, id };
        let manifest = &backup.manifest;
        mapping.line(&json!({
            "topic": manifest.topic, "backup": manifest.backup, "cluster": manifest.cluster_id, "target": target,
        }))?;
        Ok(mapping)
    }

    fn push(&mut self, run: &Run) -> Result<(), BackupError> {
        self.line(run)
    }

    fn line<T: Serialize>(&mut self, line: &T) -> Result<(), BackupError> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        written.map_err(BackupError::io("write", self.file.get_ref().get_ref().path()))
    }

    fn publish(self, copy: Option<&Utf8Path>) -> Result<Utf8PathBuf, BackupError> {
        let Mapping { archive, file, id } = self;
        let path = file.get_ref().get_ref().path().to_owned();
        let file = file.into_inner().map_err(|e| BackupError::io("write", &path)(e.into_error()))?;
        let (draft, hash, _) = file.into_parts();
        let path = archive.replays().join(format!("{id}-{}.jsonl", &hash[..32]));
        draft.publish(&path)?;
        if let Some(copy) = copy {
            archive.store().copy(&path, copy)?;
        }
        Ok(path)
    }
}

/// Removes what killed replays left: no other replay is at work.
fn remove_unfinished(folder: &Utf8Path) -> Result<(), BackupError> {
    for entry in storage::entries(folder)?.into_iter().flatten() {
        if entry.name().starts_with('.') {
            files::remove(&entry.path)?;
        }
    }
    Ok(())
}
