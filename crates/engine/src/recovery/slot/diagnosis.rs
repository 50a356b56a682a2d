//! What is wrong with a slot, as far as the systems can tell.

use std::{fmt, time::SystemTime};

use camino::Utf8PathBuf;

use super::{folder::data_folder, timeline::Timelines};
use crate::recovery::{
    RecoveryError,
    pipeline::{Source, coverage, must_stream, unstreamed},
    repair::Repair,
};
use cdc_model::{
    units::{Lsn, Offset, TableName, Timeline, TopicPartition},
    vocabulary::TopicsRepair,
};
use cdc_pipeline::{
    client::{
        connect::stored_position,
        kafka::Kafka,
        postgres::{Postgres, Slot},
    },
    debezium::Operations,
};
use cdc_postgres::sql::literal;

/// A slot that is younger than the first record by more than this was made again: the connector makes its slot before its
/// first record.
const YOUNGER_MS: i64 = 2_000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    Missing,
    Invalidated {
        reason: String,
    },
    Stolen {
        pid: i32,
        application: String,
    },
    /// The slot gives nothing before `slot`; the connector needs what follows `stored`.
    Behind {
        stored: Lsn,
        slot: Lsn,
    },
    /// The connector skips everything up to `stored`; the server has not written that far.
    Ahead {
        stored: Lsn,
        end: Lsn,
    },
    PublicationMissing {
        name: String,
    },
    PublicationYounger {
        name: String,
    },
    /// Changes that the connector would write and its publication does not send.
    OperationsUnpublished {
        publication: String,
        operations: Operations,
    },
    /// A table whose changes never arrive.
    Unstreamed {
        table: TableName,
        why: String,
    },
    /// The connector's list of tables names one that is not there, and its topic has records.
    TableGone {
        table: TableName,
        topic: String,
    },
    AbandonedTimeline {
        stored: Lsn,
        switch: Lsn,
        timeline: Timeline,
    },
    /// The slot was made again after records had been written.
    Remade {
        snapshots: bool,
    },
    TaskFailed {
        trace: String,
    },
    /// Whether something is wrong is not known.
    NotLookedAt {
        question: Question,
        why: String,
    },
}

/// What can be left unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Timeline,
    Remade,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Question::Timeline => "whether its stored offset is of an abandoned timeline",
            Question::Remade => "whether its slot was made again",
        })
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnosis::Missing => f.write_str("its slot is missing"),
            Diagnosis::Invalidated { reason } => write!(f, "its slot is invalidated ({reason})"),
            Diagnosis::Stolen { pid, application } => {
                write!(f, "its slot is stolen: process {pid} (`{application}`) streams from it")
            }
            Diagnosis::Behind { stored, slot } => {
                write!(f, "behind: its stored offset {stored} lies before the slot's first position {slot}: what is between is lost")
            }
            Diagnosis::Ahead { stored, end } => {
                write!(f, "ahead: its stored offset {stored} lies after the server's last position {end}: what is written up to it will be skipped")
            }
            Diagnosis::PublicationMissing { name } => write!(f, "publication {name} is missing"),
            Diagnosis::PublicationYounger { name } => {
                write!(
                    f,
                    "publication {name} was created or altered after the slot's position: changes from before may have been skipped"
                )
            }
            Diagnosis::OperationsUnpublished { publication, operations } => {
                write!(f, "publication {publication} does not publish {operations}: such changes never arrive")
            }
            Diagnosis::Unstreamed { table, why } => write!(f, "changes of table {table} never arrive: {why}"),
            Diagnosis::TableGone { table, topic } => {
                write!(f, "there is no table {table} (dropped, or renamed), and topic {topic} has records")
            }
            Diagnosis::AbandonedTimeline { stored, switch, timeline } => {
                write!(f, "its stored offset {stored} is of an abandoned timeline: timeline {timeline} began at {switch}")
            }
            Diagnosis::Remade { snapshots: true } => {
                f.write_str("its slot was made again and a snapshot taken into the old topics: rows deleted in between are still in them")
            }
            Diagnosis::Remade { snapshots: false } => {
                f.write_str("its slot was made again without a snapshot: the changes in between are a hole in the topics")
            }
            Diagnosis::TaskFailed { trace } => f.write_str(&shortened(trace)),
            Diagnosis::NotLookedAt { question, why } => write!(f, "not looked at: {question} ({why})"),
        }
    }
}

/// Debezium prints its whole state into some messages; what it means stands at the beginning and at the end.
fn shortened(trace: &str) -> String {
    const PART: usize = 160;
    let chars: Vec<char> = trace.chars().collect();
    if chars.len() <= 2 * PART {
        return trace.to_owned();
    }
    let part = |chars: &[char]| chars.iter().collect::<String>();
    format!("{} ... {}", part(&chars[..PART]), part(&chars[chars.len() - PART..]))
}

/// Looks at every source. The findings are also written into the repair, for the plan.
pub(crate) async fn diagnose(repair: &mut Repair) -> Result<Vec<(String, Vec<Diagnosis>)>, RecoveryError> {
    repair.pipeline.plan_publications(&repair.request, repair.point.as_ref()).await?;
    let empties = repair.request.topics == TopicsRepair::Purge;
    repair.pipeline.plan_topics(&repair.request, empties).await?;
    repair.pipeline.plan_sessions().await;
    let mut all = Vec::new();
    let url = &repair.pipeline.config.postgres.url;
    let server = Postgres::connect(url, "cdc-drill-recovery").await?;
    let cluster = Cluster {
        folder: data_folder(&repair.pipeline.config, &server).await?,
        timelines: Timelines::of(&server, url).await,
    };
    for source in &repair.pipeline.sources {
        all.push((source.name.clone(), of_source(repair, &cluster, source).await?));
    }
    for (name, found) in &all {
        let (unlooked, wrong): (Vec<&Diagnosis>, Vec<&Diagnosis>) =
            found.iter().partition(|d| matches!(d, Diagnosis::NotLookedAt { .. }));
        repair.findings.extend(wrong.iter().map(|d| format!("connector {name}: {d}")));
        if wrong.is_empty() {
            let seen = if unlooked.is_empty() { "visible" } else { "visible in what was looked at" };
            repair.findings.push(format!(
                "connector {name}: nothing wrong is {seen} in its slot, positions and publication (rows are not compared here: `verify` does that); its topics are rebuilt because it was asked for"
            ));
        }
        repair.not_looked_at.extend(unlooked.iter().map(|d| format!("connector {name}: {d}")));
    }
    let topics = repair.pipeline.topic_findings();
    repair.findings.extend(topics);
    Ok(all)
}

/// What is asked once for all sources, or why it could not be.
struct Cluster {
    folder: Result<Utf8PathBuf, String>,
    timelines: Result<Timelines, String>,
}

async fn of_source(repair: &Repair, cluster: &Cluster, source: &Source) -> Result<Vec<Diagnosis>, RecoveryError> {
    let server = repair.pipeline.session(source).await?;
    let slots = server.slots().await?;
    let slot = slots.iter().find(|s| s.name == source.slot);
    let mut found = Vec::new();
    found.extend(source.status.failure().map(|trace| Diagnosis::TaskFailed { trace }));
    match slot {
        None => found.push(Diagnosis::Missing),
        Some(slot) => {
            found.extend(slot.invalidated().map(|reason| Diagnosis::Invalidated { reason: reason.to_owned() }));
            found.extend(stolen(&server, source, slot).await?);
            found.extend(remade(repair, &cluster.folder, source).await?);
        }
    }
    // A connector that is made again has its offsets when it is there.
    let stored = repair.pipeline.found.offsets.get(&source.name);
    for offset in stored.into_iter().flatten().filter_map(|o| o.offset.as_ref()) {
        let Some(at) = stored_position(offset) else { continue };
        let written = offset.get("ts_usec").and_then(serde_json::Value::as_i64);
        found.extend(misplaced(&server, slot, at).await?);
        found.extend(abandoned(&cluster.timelines, at, written));
    }
    found.extend(publication(&server, source).await?);
    found.extend(uncovered(repair, &server, source).await?);
    Ok(found)
}

/// Debezium names its replication session; anybody else on the slot is a stranger, and so is any session while the
/// connector has no task that lives: a paused one does, and holds its slot.
async fn stolen(server: &Postgres, source: &Source, slot: &Slot) -> Result<Option<Diagnosis>, RecoveryError> {
    let Some(pid) = slot.active_pid.filter(|_| slot.active) else { return Ok(None) };
    let sql = format!("select application_name from pg_stat_activity where pid = {pid}");
    let application = server.text(&sql).await?.unwrap_or_default();
    let own = application.starts_with("Debezium") && source.status.has_live_task();
    Ok((!own).then_some(Diagnosis::Stolen { pid, application }))
}

async fn misplaced(server: &Postgres, slot: Option<&Slot>, stored: Lsn) -> Result<Option<Diagnosis>, RecoveryError> {
    let end: Lsn = server.value("select pg_current_wal_lsn()").await?;
    if stored > end {
        return Ok(Some(Diagnosis::Ahead { stored, end }));
    }
    // The restart position, not the confirmed one: a slot may confirm past WAL that holds nothing for it.
    let first = slot.and_then(|s| s.restart_lsn);
    Ok(first.filter(|first| *first > stored).map(|slot| Diagnosis::Behind { stored, slot }))
}

/// After a restore the offset's LSN is a position on another timeline when it lies beyond the switch and was stored before
/// the switch happened.
fn abandoned(timelines: &Result<Timelines, String>, stored: Lsn, written_us: Option<i64>) -> Option<Diagnosis> {
    let left = timelines.as_ref().map_err(String::clone).and_then(|all| all.left_behind(stored, written_us));
    match left {
        Ok(switch) => switch.map(|s| Diagnosis::AbandonedTimeline { stored, switch: s.at, timeline: s.timeline }),
        Err(why) => Some(Diagnosis::NotLookedAt { question: Question::Timeline, why }),
    }
}

async fn publication(server: &Postgres, source: &Source) -> Result<Option<Diagnosis>, RecoveryError> {
    let name = source.publication.clone();
    let exists = format!("select 1 from pg_publication where pubname = {}", literal(&name));
    if server.text(&exists).await?.is_none() {
        return Ok(Some(Diagnosis::PublicationMissing { name }));
    }
    // The slot still needs catalogue rows from before the publication's.
    let sql = format!(
        "select age(p.xmin) < age(s.catalog_xmin) from pg_publication p, pg_replication_slots s where p.pubname = {} and s.slot_name = {}",
        literal(&name),
        literal(source.slot.as_str())
    );
    Ok((server.text(&sql).await?.as_deref() == Some("t")).then_some(Diagnosis::PublicationYounger { name }))
}

/// What the connector's lists take and its publication does not send.
async fn uncovered(repair: &Repair, server: &Postgres, source: &Source) -> Result<Vec<Diagnosis>, RecoveryError> {
    let capture = &source.capture;
    let coverage = coverage(server, capture).await?;
    let mut found = Vec::new();
    if !coverage.unpublished_operations.is_empty() {
        let operations = coverage.unpublished_operations.clone();
        found.push(Diagnosis::OperationsUnpublished { publication: source.publication.clone(), operations });
    }
    for captured in coverage.unstreamed() {
        let table = captured.relation.name.clone();
        if must_stream(capture, captured) || has_records(repair, &capture.topics.topic(&table)).await? {
            found.push(Diagnosis::Unstreamed { table, why: unstreamed(captured) });
        }
    }
    for topic in repair.pipeline.kafka.topics().await?.into_keys() {
        let Some(table) = coverage.gone(capture, &topic) else { continue };
        if has_records(repair, &topic).await? {
            found.push(Diagnosis::TableGone { table, topic });
        }
    }
    Ok(found)
}

async fn has_records(repair: &Repair, topic: &str) -> Result<bool, RecoveryError> {
    let kafka = &repair.pipeline.kafka;
    if !kafka.topics().await?.contains_key(topic) {
        return Ok(false);
    }
    Ok(kafka.watermarks(topic).await?.iter().any(|(low, high)| low < high))
}

/// A slot does not say when it was made; its folder does, where the file system keeps times of birth.
async fn remade(
    repair: &Repair,
    folder: &Result<Utf8PathBuf, String>,
    source: &Source,
) -> Result<Option<Diagnosis>, RecoveryError> {
    let born = folder.clone().and_then(|folder| {
        let folder = folder.join("pg_replslot").join(source.slot.as_str());
        std::fs::metadata(&folder).and_then(|m| m.created()).map_err(|e| format!("{folder}: {e}"))
    });
    let born = match born {
        Ok(born) => born,
        Err(why) => return Ok(Some(Diagnosis::NotLookedAt { question: Question::Remade, why })),
    };
    let mut first: Option<i64> = None;
    for topic in &source.topics {
        let written = first_written(&repair.pipeline.kafka, topic).await?;
        first = first.into_iter().chain(written).min();
    }
    let snapshots = !matches!(source.snapshot_mode(), "no_data" | "never");
    let younger = first.is_some_and(|first| millis(born) > first + YOUNGER_MS);
    Ok(younger.then_some(Diagnosis::Remade { snapshots }))
}

/// When the oldest record of a topic was written.
async fn first_written(kafka: &Kafka, topic: &str) -> Result<Option<i64>, RecoveryError> {
    if !kafka.topics().await?.contains_key(topic) {
        return Ok(None);
    }
    let marks = kafka.watermarks(topic).await?;
    let ranges: Vec<(TopicPartition, Offset, Offset)> = marks
        .into_iter()
        .enumerate()
        .filter(|(_, (low, high))| low < high)
        .map(|(p, (low, _))| (TopicPartition { topic: topic.to_owned(), partition: p as i32 }, low, Offset(low.0 + 1)))
        .collect();
    let kafka = kafka.clone();
    let found = tokio::task::spawn_blocking(move || {
        let mut first: Option<i64> = None;
        kafka.scan(&ranges, |record| {
            first = first.into_iter().chain(rdkafka::Message::timestamp(record).to_millis()).min();
        })?;
        Ok::<_, RecoveryError>(first)
    });
    found.await.map_err(|e| RecoveryError::Program { program: "read".into(), detail: e.to_string() })?
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
