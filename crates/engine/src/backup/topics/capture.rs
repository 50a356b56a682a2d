//! Reading topics into their archives.

use std::{collections::BTreeSet, ops::ControlFlow};

use tokio::runtime::Handle;

use super::{
    archive::{Loaded, TopicArchive},
    batch::Record,
    convert::copied,
    manifest::{
        CommittedGroup, Continued, FORMAT, Gap, GapReason, PartitionBackup, SchemaMeaning, Schemas, SegmentOf,
        TopicBackup, go_on,
    },
    pruned::PrunedBackups,
    schemas::Met,
    segment::Builder,
};
use crate::backup::{Activity, BackupError, Repository, dated_id};
use cdc_model::{
    moment,
    units::{Offset, SchemaId, TopicPartition, counted},
};
use cdc_pipeline::{
    attach,
    client::{
        connect::Connect,
        kafka::{Extent, Kafka, StretchEnd, TopicSpec},
        registry::Registry,
    },
    config::{Config, Permission},
};

/// The step of which the moments of a backup are.
const STEP: &str = "topic-backup";
/// The moments of step `topic-backup`, in their order: what has just been done. It can be interrupted at each of them.
pub const BACKUP_MOMENTS: [&str; 6] = ["begun", "segment", "partition", "copied", "published", "removed"];

/// How far the copying of a topic has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// Everything before this offset is copied.
    pub at: i64,
    /// Where the copying of the partition ends.
    pub end: i64,
}

/// Adds to the archives of these topics what came since the last backup, and makes a backup of each. A topic that is not there is refused
/// before anything is read. Refused while a backup or a recovery runs, or one is unfinished.
pub async fn back_up_topics(
    config: &Config,
    topics: &[String],
    progress: &(dyn Fn(TopicProgress) + Send + Sync),
) -> Result<Vec<TopicBackup>, BackupError> {
    attach::permit(config, Permission::Backup).await?;
    let backed_up = async {
        let repository = Repository::of(&config.repository)?;
        repository.seal().unlock_if_named()?;
        let _lock = repository.lock(Activity::Create, "topic backup")?;
        copy_topics(config, &repository, topics, progress).await
    };
    let copies = backed_up.await.map_err(BackupError::with_file_system)?;
    Ok(copies.into_iter().map(|copied| copied.backup).collect())
}

/// The topics that connectors have written to or read from, and that are there.
pub async fn connectors_topics(config: &Config) -> Result<Vec<String>, BackupError> {
    let (connect, kafka) = (Connect::of(&config.connect), Kafka::of(&config.kafka)?);
    let there = kafka.topics().await?;
    let mut topics = BTreeSet::new();
    for name in connect.connectors().await? {
        topics.extend(connect.topics(&name).await?.into_iter().filter(|topic| there.contains_key(topic)));
    }
    Ok(topics.into_iter().collect())
}

/// Copies topics, for a caller that holds the lock of a backup.
pub(crate) async fn copy_topics(
    config: &Config,
    repository: &Repository,
    topics: &[String],
    progress: &(dyn Fn(TopicProgress) + Send + Sync),
) -> Result<Vec<Copied>, BackupError> {
    let kafka = Kafka::of(&config.kafka)?;
    let cluster = kafka.own_cluster_id().await?;
    let specs = kafka.topic_specs(topics).await?;
    if let Some(absent) = topics.iter().find(|name| specs.iter().all(|spec| spec.name != **name)) {
        return Err(BackupError::topic(absent, "expected a topic, found none").with_hint("nothing was read"));
    }
    let mut backups = Vec::new();
    for spec in specs {
        let copy = Copy {
            archive: TopicArchive::of(repository.store(), Some(&cluster), &spec.name),
            kafka: kafka.clone(),
            cluster: cluster.clone(),
            spec,
        };
        backups.push(moment::of_step(STEP, copy.run(&Registry::of(&config.registry), progress)).await?);
    }
    Ok(backups)
}

/// What was copied of a topic.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) backup: TopicBackup,
    /// The schema ids that were met for the first time, and that the registry knew then.
    pub(crate) resolved: BTreeSet<SchemaId>,
}

struct Copy {
    kafka: Kafka,
    archive: TopicArchive,
    cluster: String,
    spec: TopicSpec,
}

impl Copy {
    async fn run(
        self,
        registry: &Registry,
        progress: &(dyn Fn(TopicProgress) + Send + Sync),
    ) -> Result<Copied, BackupError> {
        let begin = jiff::Timestamp::now();
        moment::pass("begun").await?;
        let name = self.spec.name.clone();
        let topic_id = self.kafka.topic_ids(std::slice::from_ref(&name)).await?.remove(&name).filter(|id| is_id(id));
        let extents = self.kafka.extents(&name).await?;
        let mut notes = Vec::new();
        let groups = self.groups(extents.len(), &mut notes).await?;
        let earlier = self.archive.newest()?;
        let continued = match &earlier {
            None => None,
            Some(earlier) => match self.anew(&earlier.manifest, topic_id.as_deref(), &extents).await? {
                None => Some(&earlier.manifest),
                Some(why) => {
                    notes.push(format!(
                        "everything was read anew, and nothing of {} is part of it: {why}",
                        earlier.manifest.backup
                    ));
                    None
                }
            },
        };
        let (mut partitions, mut met) = (Vec::new(), Met::default());
        for (number, extent) in (0..).zip(extents) {
            let earlier = continued.and_then(|earlier| earlier.partitions.iter().find(|p| p.partition == number));
            let from = self.goes_on_from(earlier, extent, &mut notes)?;
            let (copied, seen) = self.partition(number, from, extent, progress, met).await?;
            met = seen;
            if copied.high_watermark > copied.end {
                notes.push(format!(
                    "the backup of partition {number} is up to offset {}, before the first open transaction; its log reaches to {}",
                    copied.end, copied.high_watermark
                ));
            }
            partitions.push(copied);
            moment::pass("partition").await?;
        }
        let known = continued.map(|earlier| earlier.schemas.clone()).unwrap_or_default();
        let is_known = |schemas: &Schemas, id: &SchemaId| matches!(schemas.ids.get(id), Some(SchemaMeaning::Schema(_)));
        let mut resolved: BTreeSet<SchemaId> = met.ids.iter().copied().filter(|id| !is_known(&known, id)).collect();
        let schemas = met.with_meaning(known, registry, &mut notes).await;
        resolved.retain(|id| is_known(&schemas, id));
        let manifest = TopicBackup {
            format: FORMAT,
            backup: dated_id(begin),
            previous: earlier.as_ref().map(Loaded::link),
            topic: name,
            topic_id,
            cluster_id: Some(self.cluster),
            begin: begin.to_string(),
            end: jiff::Timestamp::now().to_string(),
            spec: self.spec,
            partitions,
            groups,
            schemas,
            notes,
            unread: continued.map(|earlier| earlier.unread.clone()).unwrap_or_default(),
        };
        moment::pass("copied").await?;
        PrunedBackups::make(&self.archive)?;
        self.archive.publish(&manifest)?;
        moment::pass("published").await?;
        self.archive.remove_leftovers()?;
        moment::pass("removed").await?;
        Ok(Copied { backup: manifest, resolved })
    }

    /// Where the reading of a partition begins, and what is taken over.
    fn goes_on_from(
        &self,
        earlier: Option<&PartitionBackup>,
        extent: Extent,
        notes: &mut Vec<String>,
    ) -> Result<Continued, BackupError> {
        let Some(earlier) = earlier else {
            let mut anew = Continued::default();
            anew.begin_at(extent.start.0);
            return Ok(anew);
        };
        let mut usable = BTreeSet::new();
        for segment in &earlier.segments {
            if self.archive.has(earlier.partition, segment)? {
                usable.insert(segment.from);
            }
        }
        if usable.len() < earlier.segments.len() {
            let lost = earlier.segments.iter().find(|segment| !usable.contains(&segment.from));
            let from = lost.map_or(0, |segment| segment.from);
            notes.push(format!(
                "a segment of partition {} is missing or cut short in the archive: read again from offset {from} on",
                earlier.partition
            ));
        }
        Ok(go_on(earlier, |segment| usable.contains(&segment.from), extent.start.0))
    }

    /// Why a backup is not gone on with: the topic is another one.
    async fn anew(
        &self,
        earlier: &TopicBackup,
        topic_id: Option<&str>,
        extents: &[Extent],
    ) -> Result<Option<String>, BackupError> {
        if let (Some(was), Some(is)) = (&earlier.topic_id, topic_id)
            && was != is
        {
            return Ok(Some(format!("the topic was deleted and made again (id {was} then, {is} now)")));
        }
        if earlier.partitions.len() > extents.len() {
            let (was, is) = (counted(earlier.partitions.len(), "partition"), extents.len());
            return Ok(Some(format!("{was} then, {is} now")));
        }
        for (partition, extent) in earlier.partitions.iter().zip(extents) {
            let number = partition.partition;
            if extent.stable.0 < partition.end {
                let (was, is) = (partition.end, extent.stable);
                return Ok(Some(format!("partition {number} reached to offset {was} then and to {is} now")));
            }
            let Some(last) = partition.segments.last() else { continue };
            if !self.archive.has(number, last)? {
                continue;
            }
            if !self.archive.can_be_read()? {
                // Whoever has no identity goes by the id.
                if topic_id.is_some() && earlier.topic_id.is_some() {
                    continue;
                }
                return Ok(Some("its last record cannot be read without an identity, and the topic has no id".into()));
            }
            let Some(archived) = self.archive.last_record(number, last)? else { continue };
            match self.record_at(number, archived.offset).await? {
                Some(there) if there == archived => {}
                Some(_) => {
                    return Ok(Some(format!("another record at offset {} of partition {number}", archived.offset)));
                }
                // Compacted or removed since: the id tells.
                None if topic_id.is_some() && earlier.topic_id.is_some() => {}
                None => {
                    return Ok(Some(format!("no record at offset {} of partition {number}", archived.offset)));
                }
            }
        }
        Ok(None)
    }

    async fn record_at(&self, partition: i32, offset: i64) -> Result<Option<Record>, BackupError> {
        let (kafka, of) = (self.kafka.clone(), self.tp(partition));
        blocking(move || {
            let mut found = None;
            kafka.read_stretch(&of, Offset(offset), Offset(offset + 1), |message| {
                found = Some(copied(message));
                ControlFlow::Break(())
            })?;
            Ok(found)
        })
        .await
    }

    fn tp(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.spec.name.clone(), partition }
    }

    /// What groups have committed. One that does not say is noted.
    async fn groups(&self, partitions: usize, notes: &mut Vec<String>) -> Result<Vec<CommittedGroup>, BackupError> {
        let all: Vec<TopicPartition> = (0..partitions as i32).map(|partition| self.tp(partition)).collect();
        let mut committed = Vec::new();
        for group in self.kafka.groups().await? {
            match self.kafka.group_offsets(&group.name, &all).await {
                Ok(offsets) if offsets.is_empty() => {}
                Ok(offsets) => {
                    let offsets = offsets.into_iter().map(|(tp, offset)| (tp.partition, offset)).collect();
                    committed.push(CommittedGroup { group: group.name, offsets });
                }
                Err(error) => notes.push(format!("offsets of group {} are not known: {error}", group.name)),
            }
        }
        Ok(committed)
    }

    async fn partition(
        &self,
        number: i32,
        from: Continued,
        extent: Extent,
        progress: &(dyn Fn(TopicProgress) + Send + Sync),
        met: Met,
    ) -> Result<(PartitionBackup, Met), BackupError> {
        let mut reading = Reading {
            archive: self.archive.clone(),
            of: self.tp(number),
            end: extent.stable.0.max(from.from),
            builder: Builder::new(&self.spec.name, number, from.from),
            next: from.from,
            segments: from.segments,
            gaps: from.gaps,
            met,
        };
        loop {
            let kafka = self.kafka.clone();
            let (ended, mut read) = blocking(move || {
                let ended = reading.on(&kafka)?;
                Ok((ended, reading))
            })
            .await?;
            match ended {
                Ended::Partition => {
                    read.close(read.end)?;
                    moment::pass("segment").await?;
                    progress(TopicProgress { partition: read.of.clone(), at: read.next, end: read.end });
                    return Ok(read.finish(extent));
                }
                Ended::Removed => {
                    read.close(read.builder.next())?;
                    let start = self.kafka.extents(&read.of.topic).await?.get(number as usize).map(|now| now.start.0);
                    let start = start.unwrap_or_default().min(read.end);
                    if start <= read.next {
                        let found = format!("offset {} is out of range, and the log begins at {start}", read.next);
                        return Err(BackupError::topic(&read.of.topic, found));
                    }
                    read.pass_over(start);
                }
            }
            reading = read;
        }
    }
}

/// Why the reading of a partition paused.
enum Ended {
    /// Everything was read.
    Partition,
    /// The log begins later now.
    Removed,
}

/// A partition that is being read.
struct Reading {
    archive: TopicArchive,
    of: TopicPartition,
    end: i64,
    builder: Builder,
    /// Everything before this offset was read or is a gap.
    next: i64,
    segments: Vec<SegmentOf>,
    gaps: Vec<Gap>,
    met: Met,
}

impl Reading {
    /// Reads until nothing more is there. Blocks.
    fn on(&mut self, kafka: &Kafka) -> Result<Ended, BackupError> {
        let (of, from, end) = (self.of.clone(), Offset(self.next), Offset(self.end));
        let mut failed = None;
        let ended = kafka.read_stretch(&of, from, end, |message| {
            let record = copied(message);
            match self.take(record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        match (failed, ended) {
            (Some(error), _) => Err(error),
            (None, StretchEnd::Removed(_)) => Ok(Ended::Removed),
            (None, StretchEnd::Reached | StretchEnd::Stopped) => Ok(Ended::Partition),
        }
    }

    fn take(&mut self, record: Record) -> Result<(), BackupError> {
        self.met.see(&record);
        self.builder.push(record).map_err(|why| BackupError::topic(&self.of.topic, why))?;
        if !self.builder.is_full() {
            return Ok(());
        }
        self.close(self.builder.next())?;
        // The moment is passed on this thread, which may block.
        Ok(Handle::current().block_on(moment::of_step(STEP, moment::pass("segment")))?)
    }

    /// Stores what was read up to an offset.
    fn close(&mut self, to: i64) -> Result<(), BackupError> {
        let (number, next) = (self.of.partition, to.max(self.builder.next()));
        let builder = std::mem::replace(&mut self.builder, Builder::new(&self.of.topic, number, next));
        if !builder.is_empty() {
            let segment = builder.finish(to).map_err(|why| BackupError::topic(&self.of.topic, why))?;
            self.segments.push(self.archive.put(&segment)?);
        } else if to > self.next {
            self.gaps.push(Gap { from: self.next, to, why: GapReason::NoRecords });
        }
        self.next = next;
        Ok(())
    }

    fn pass_over(&mut self, start: i64) {
        self.gaps.push(Gap { from: self.next, to: start, why: GapReason::Removed });
        self.next = start;
        self.builder = Builder::new(&self.of.topic, self.of.partition, start);
    }

    fn finish(self, extent: Extent) -> (PartitionBackup, Met) {
        let partition = PartitionBackup {
            partition: self.of.partition,
            log_start: extent.start.0,
            end: self.end,
            high_watermark: extent.end.0.max(self.end),
            segments: self.segments,
            gaps: self.gaps,
        };
        (partition, self.met)
    }
}

/// Brokers without ids of topics answer one of zeros.
fn is_id(id: &str) -> bool {
    !id.chars().all(|c| c == 'A' || c == '=')
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => {
            Err(BackupError::Tool { tool: "a blocking task".into(), status: "ended".into(), detail: join.to_string() })
        }
    }
}
