//! Confirms a control's finding by a way that shares nothing with `verify`: plain SQL on the table, a search for the
//! token's bytes in raw records, a direct question to the registry or the broker.

use std::collections::BTreeMap;

use tokio::sync::OnceCell;

use crate::{
    client::{ClientError, connect::Connect, kafka::Kafka, postgres::Postgres, registry::Registry},
    config::Config,
    event::{About, Finding, FindingKind},
    units::{Lsn, Offset, SchemaId, Subject, TableName, TopicPartition},
};

/// What confirming needs to know of a drill.
pub struct Evidence<'a> {
    /// How to reach the pipeline.
    pub config: &'a Config,
    /// The connectors.
    pub connectors: &'a [String],
    /// The data topics.
    pub topics: &'a [String],
    /// The captured tables.
    pub tables: &'a [TableName],
    /// The schema texts of the recovery point, by id.
    pub schemas: &'a BTreeMap<SchemaId, String>,
    /// Settings of the data topics at the recovery point.
    pub levels: &'a BTreeMap<Subject, Option<String>>,
    /// What stood in each schema-history topic when a recovery that clears it began.
    pub histories: &'a BTreeMap<String, Vec<String>>,
    /// The values of all records of the data topics, read when they are first asked for.
    pub values: OnceCell<Vec<Vec<u8>>>,
}

/// Looks at one finding again. `Ok` says what confirms it, `Err` what speaks against it.
pub async fn confirm(evidence: &Evidence<'_>, check: &str, finding: &Finding) -> Result<String, String> {
    let outcome = match finding.kind {
        FindingKind::Lost if check == "restored-to-target" => evidence.gone_from_tables(finding).await,
        FindingKind::Lost => evidence.gone_from_topics(finding).await,
        FindingKind::Ghost => evidence.only_in_topics(finding).await,
        FindingKind::Stale | FindingKind::Different if check == "restored-to-target" => {
            evidence.table_differs(finding, finding.found.as_deref(), finding.expected.as_deref()).await
        }
        FindingKind::Stale | FindingKind::Different => evidence.topic_behind_table(finding).await,
        FindingKind::WrongSchema => evidence.another_schema(finding).await,
        FindingKind::NotRefused | FindingKind::Setting if check == "compatibility" => {
            evidence.level_differs(finding).await
        }
        FindingKind::Position | FindingKind::Setting => evidence.position(finding).await,
        FindingKind::Leak => evidence.left_behind(finding).await,
        FindingKind::Dead => evidence.dead().await,
        other => Ok(Err(format!("no independent question is known for {other:?}"))),
    };
    outcome.unwrap_or_else(|error| Err(error.to_string()))
}

type Outcome = Result<Result<String, String>, ClientError>;

impl Evidence<'_> {
    async fn sql(&self) -> Result<Postgres, ClientError> {
        Postgres::connect(&self.config.postgres.url, "cdc-drill confirm").await
    }

    /// Rows whose text contains the token, over the captured tables.
    async fn rows_with(&self, token: &str) -> Result<u64, ClientError> {
        let db = self.sql().await?;
        let mut rows = 0;
        for table in self.tables {
            let token = token.replace('\'', "''");
            let sql = format!("select count(*) from {} t where t::text like '%{token}%'", table.quoted());
            rows += db.value::<u64>(&sql).await?;
        }
        Ok(rows)
    }

    /// The rows of a table that carry the token, each as `column=value, ...` with columns by name, as findings show rows.
    async fn images_with(&self, table: &TableName, token: &str) -> Result<Vec<String>, ClientError> {
        let db = self.sql().await?;
        let columns = db
            .texts(&format!(
                "select attname from pg_attribute where attrelid = '{}'::regclass and attnum > 0 and not attisdropped \
                 order by attname collate \"C\"",
                table.quoted()
            ))
            .await?;
        let columns: Vec<String> = columns.into_iter().flatten().flatten().collect();
        let list: Vec<String> = columns.iter().map(|c| format!("t.\"{}\"::text", c.replace('"', "\"\""))).collect();
        let token = token.replace('\'', "''");
        let sql = format!("select {} from {} t where t::text like '%{token}%'", list.join(", "), table.quoted());
        let image = |row: Vec<Option<String>>| {
            let cells = columns.iter().zip(row).map(|(c, v)| format!("{c}={}", v.unwrap_or_else(|| "NULL".into())));
            cells.collect::<Vec<_>>().join(", ")
        };
        Ok(db.texts(&sql).await?.into_iter().map(image).collect())
    }

    /// The row with the finding's key, as text.
    async fn row_by_key(&self, finding: &Finding) -> Result<Option<String>, ClientError> {
        let (Some(table), Some(key)) = (&finding.table, &finding.key) else { return Ok(None) };
        let Some(condition) = key_condition(key) else { return Ok(None) };
        self.sql().await?.text(&format!("select t::text from {} t where {condition}", table.quoted())).await
    }

    /// How many raw records contain these bytes in their value.
    async fn records_with(&self, token: &str) -> Result<u64, ClientError> {
        let values = self.values.get_or_try_init(|| self.read_values()).await?;
        let holds = |value: &&Vec<u8>| value.windows(token.len()).any(|w| w == token.as_bytes());
        Ok(values.iter().filter(holds).count() as u64)
    }

    async fn read_values(&self) -> Result<Vec<Vec<u8>>, ClientError> {
        let kafka = Kafka::of(&self.config.kafka)?;
        let there = kafka.topics().await?;
        let mut values = Vec::new();
        for topic in self.topics.iter().filter(|t| there.contains_key(*t)) {
            values.extend(kafka.read_all(topic).await?.into_iter().filter_map(|r| r.value));
        }
        Ok(values)
    }

    async fn gone_from_tables(&self, finding: &Finding) -> Outcome {
        if let (Some(key), Some(_)) = (&finding.key, &finding.table) {
            let token = finding.token.as_deref().unwrap_or_default();
            return Ok(match self.row_by_key(finding).await? {
                None => Ok(format!("no row with {key}, which was acknowledged")),
                Some(row) if token.is_empty() || row.contains(token) => Err(format!("the row with {key} is there")),
                Some(_) => Ok(format!("the row with {key} does not carry token {token}, which was acknowledged")),
            });
        }
        if let (Some(table), Some(token), Some(image)) = (&finding.table, &finding.token, &finding.expected) {
            let images = self.images_with(table, token).await?;
            return Ok(match images.contains(image) {
                false => Ok(format!("{} rows of {table} carry token {token}, none of them is {image}", images.len())),
                true => Err(format!("{table} has a row {image}")),
            });
        }
        if let Some(token) = &finding.token {
            let rows = self.rows_with(token).await?;
            return Ok(match rows {
                0 => Ok(format!("no row of any captured table carries token {token}, which was acknowledged")),
                n => Err(format!("{n} rows carry token {token}")),
            });
        }
        Ok(Err("neither key nor token to ask for".into()))
    }

    async fn gone_from_topics(&self, finding: &Finding) -> Outcome {
        if let Some(token) = &finding.token {
            let (rows, records) = (self.rows_with(token).await?, self.records_with(token).await?);
            return Ok(match records {
                0 => Ok(format!("{rows} rows carry token {token}, no record does")),
                n => Err(format!("{n} records carry token {token}")),
            });
        }
        Ok(match self.row_by_key(finding).await? {
            Some(_) => Ok(format!("the row with {} is in the table", finding.key.as_deref().unwrap_or("that key"))),
            None => Err("the row is not in the table either".into()),
        })
    }

    async fn only_in_topics(&self, finding: &Finding) -> Outcome {
        if finding.key.is_some() && finding.table.is_some() && finding.token.is_none() {
            return Ok(match self.row_by_key(finding).await? {
                None => Ok("no such row in the table, while the topic has it".into()),
                Some(_) => Err("the row is in the table".into()),
            });
        }
        let Some(token) = &finding.token else { return Ok(Err("neither key nor token to ask for".into())) };
        let (rows, records) = (self.rows_with(token).await?, self.records_with(token).await?);
        Ok(match (rows, records) {
            (_, 0) => Err(format!("no record carries token {token}")),
            (0, n) => Ok(format!("{n} records carry token {token}, no row does")),
            (rows, n) => match self.row_by_key(finding).await? {
                None => Ok(format!(
                    "{n} records carry token {token} and the row with {} is gone",
                    finding.key.as_deref().unwrap_or("that key")
                )),
                Some(_) => Err(format!("{rows} rows carry token {token}")),
            },
        })
    }

    async fn topic_behind_table(&self, finding: &Finding) -> Outcome {
        let Some(row) = self.row_by_key(finding).await? else { return Ok(Err("the row is not in the table".into())) };
        match &finding.token {
            Some(token) if row.contains(token.as_str()) => Ok(match self.records_with(token).await? {
                0 => Ok(format!("the row carries token {token}, no record does")),
                n => Err(format!("{n} records carry the row's token {token}")),
            }),
            _ => self.table_differs(finding, finding.expected.as_deref(), finding.found.as_deref()).await,
        }
    }

    /// Whether the row with the finding's key has the cells that the finding says the table has, and not the others.
    async fn table_differs(&self, finding: &Finding, says: Option<&str>, denies: Option<&str>) -> Outcome {
        let (Some(table), Some(key)) = (&finding.table, &finding.key) else {
            return Ok(Err("no key to ask for".into()));
        };
        let (Some(says), Some(denies)) = (says, denies) else { return Ok(Err("no cells to compare with".into())) };
        let Some(row) = self.cells_by_key(table, key).await? else {
            return Ok(Err("the row is not in the table".into()));
        };
        Ok(cells_confirm(&row, says, denies))
    }

    /// The row with this key, column by column, as each type prints itself.
    async fn cells_by_key(&self, table: &TableName, key: &str) -> Result<Option<Cells>, ClientError> {
        let db = self.sql().await?;
        let columns = db
            .texts(&format!(
                "select attname from pg_attribute where attrelid = {}::regclass and attnum > 0 and not attisdropped order by attnum",
                quoted(&table.quoted())
            ))
            .await?;
        let columns: Vec<String> = columns.into_iter().flatten().flatten().collect();
        // A cast to text would print a boolean, and a padded text, otherwise than COPY does.
        let printed = |c: &String| {
            let name = format!("t.\"{}\"", c.replace('"', "\"\""));
            format!("case when {name} is not null then format('%s', {name}) end")
        };
        let list: Vec<String> = columns.iter().map(printed).collect();
        let Some(condition) = key_condition(key) else { return Ok(None) };
        let rows = db.texts(&format!("select {} from {} t where {condition}", list.join(", "), table.quoted())).await?;
        Ok(rows.into_iter().next().map(|row| columns.into_iter().zip(row).collect()))
    }

    async fn another_schema(&self, finding: &Finding) -> Outcome {
        let Some(id) = finding.schema_id else { return Ok(Err("the finding names no schema id".into())) };
        let now = Registry::of(&self.config.registry).schema(id).await?;
        Ok(match (self.schemas.get(&id), now) {
            (_, None) => Ok(format!("schema id {id} does not resolve")),
            (Some(then), Some(now)) if *then == now => {
                Err(format!("schema id {id} is the schema of the recovery point"))
            }
            (_, Some(now)) => Ok(format!("schema id {id} is now {}", now.chars().take(120).collect::<String>())),
        })
    }

    async fn level_differs(&self, finding: &Finding) -> Outcome {
        let registry = Registry::of(&self.config.registry);
        // What counts for a subject without a level of its own is the global one.
        let global_then = self.levels.get(&Subject::new("")).cloned().flatten();
        let Some(name) = finding.subject.as_ref().and_then(About::registry_subject) else {
            let now = registry.global_level().await?;
            return Ok(match global_then == now {
                true => Err(format!("the global level is {now:?}, as at the recovery point")),
                false => Ok(format!("the global level was {global_then:?} at the recovery point and is {now:?}")),
            });
        };
        let subject = Subject::new(name);
        let then = self.levels.get(&subject).cloned().flatten().or(global_then);
        let now = match registry.subject_level(&subject).await? {
            Some(level) => Some(level),
            None => registry.global_level().await?,
        };
        if then != now {
            return Ok(Ok(format!("the level of {name} was {then:?} at the recovery point and is {now:?}")));
        }
        let versions = registry.versions(&subject, true).await?;
        Ok(match versions.is_empty() {
            true if self.levels.contains_key(&subject) => Ok(format!("the registry has no subject {name}")),
            true => Err(format!("the recovery point has no subject {name} either")),
            false => {
                let listed: Vec<String> = versions.iter().map(ToString::to_string).collect();
                let found = finding.found.as_deref().unwrap_or_default();
                match self.levels.contains_key(&subject) && finding.kind == FindingKind::Setting {
                    true => Ok(format!("{name} has versions [{}]; {found}", listed.join(", "))),
                    false => Err(format!("the level of {name} is {now:?}, as at the recovery point")),
                }
            }
        })
    }

    async fn position(&self, finding: &Finding) -> Outcome {
        let kafka = Kafka::of(&self.config.kafka)?;
        if let (Some(table), None) = (&finding.table, &finding.topic) {
            let sql = format!(
                "select count(*) from pg_publication_tables where schemaname = '{}' and tablename = '{}'",
                table.schema, table.name
            );
            return Ok(match self.sql().await?.value::<u64>(&sql).await? {
                0 => Ok(format!("no publication has {table}")),
                n => Err(format!("{n} publications have {table}")),
            });
        }
        if let (Some(topic), Some(About::Group(group))) = (&finding.topic, &finding.subject) {
            return self.group_skips(&kafka, group, topic, finding).await;
        }
        if let (Some(topic), Some(About::TopicSetting(setting))) = (&finding.topic, &finding.subject) {
            let now = self.topic_setting(&kafka, topic, setting).await?;
            let about = if setting == "topic" { topic.clone() } else { format!("{setting} of {topic}") };
            return Ok(setting_confirms(&about, finding, &now));
        }
        if let Some(topic) = &finding.topic {
            return self.history_stands(&kafka, topic, finding).await;
        }
        match &finding.subject {
            Some(About::Slot(name)) => self.slot_stands(name).await,
            Some(About::Connector(name)) => self.offset_ahead(name).await,
            _ => Ok(Err("neither topic, slot nor connector to ask for".into())),
        }
    }

    /// What the broker says now of a topic, or of one of its settings, in the words of findings.
    async fn topic_setting(&self, kafka: &Kafka, topic: &str, setting: &str) -> Result<String, ClientError> {
        let specs = kafka.topic_specs(&[topic.to_owned()]).await?;
        let Some(spec) = specs.first() else { return Ok("no such topic".into()) };
        Ok(match setting {
            "topic" => "a topic".into(),
            "partitions" => spec.partitions.to_string(),
            "replication" => spec.replication.to_string(),
            name => spec.settings.get(name).cloned().unwrap_or_else(|| "unset".into()),
        })
    }

    /// How many of the records that stood in a schema history when its recovery began stand there still.
    async fn history_stands(&self, kafka: &Kafka, topic: &str, finding: &Finding) -> Outcome {
        let Some(before) = self.histories.get(topic) else {
            return Ok(Err(format!("no independent question is known for topic {topic}")));
        };
        if !kafka.topics().await?.contains_key(topic) {
            return Ok(history_confirms(topic, finding.found.as_deref(), None));
        }
        let records = kafka.read_all(topic).await?;
        let values: Vec<Vec<u8>> = records.into_iter().filter_map(|record| record.value).collect();
        Ok(history_confirms(topic, finding.found.as_deref(), Some(remaining(before, &values))))
    }

    /// What the server says of a slot, against the end of its WAL.
    async fn slot_stands(&self, name: &str) -> Outcome {
        let db = self.sql().await?;
        let end: Lsn = db.value("select pg_current_wal_lsn()").await?;
        let Some(slot) = db.slots().await?.into_iter().find(|slot| slot.name.as_str() == name) else {
            return Ok(Ok(format!("the server has no slot {name}")));
        };
        let status = slot.wal_status.as_deref().unwrap_or("none");
        let confirmed = slot.confirmed_flush_lsn.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
        let said = format!("slot {name}: wal_status {status}, confirmed {confirmed}; the WAL ends at {end}");
        let sound = matches!(status, "reserved" | "extended") && slot.confirmed_flush_lsn <= Some(end);
        Ok(if sound { Err(said) } else { Ok(said) })
    }

    /// What the worker stores as a connector's position, against the end of the server's WAL.
    async fn offset_ahead(&self, name: &str) -> Outcome {
        let end: Lsn = self.sql().await?.value("select pg_current_wal_lsn()").await?;
        let offsets = Connect::of(&self.config.connect).offsets(name).await?;
        let stored = offsets.iter().filter_map(|o| o.offset.as_ref()?.get("lsn")?.as_u64()).max().map(Lsn);
        Ok(match stored {
            Some(stored) if stored > end => Ok(format!("{name} stored {stored}, the WAL ends at {end}")),
            Some(stored) => Err(format!("{name} stored {stored}, the WAL ends at {end}")),
            None => Err(format!("{name} stored no position")),
        })
    }

    /// Where the broker says that a group goes on: in the finding's partition against what the finding says, else in those
    /// with records against where they begin.
    async fn group_skips(&self, kafka: &Kafka, group: &str, topic: &str, finding: &Finding) -> Outcome {
        let there = kafka.topics().await?.contains_key(topic);
        let marks = if there { kafka.watermarks(topic).await? } else { Vec::new() };
        let partition = |partition| TopicPartition { topic: topic.to_owned(), partition };
        let partitions: Vec<TopicPartition> = (0..marks.len() as i32).map(partition).collect();
        let committed: BTreeMap<_, _> = match there {
            true => kafka.group_offsets(group, &partitions).await?.into_iter().collect(),
            false => BTreeMap::new(),
        };
        if let Some(number) = finding.partition {
            let now = committed.get(&partition(number)).copied();
            return Ok(committed_confirms(&format!("{group} in {topic}-{number}"), finding, now));
        }
        let begins: Vec<_> = partitions.iter().map(|tp| committed.get(tp).copied()).zip(marks).collect();
        Ok(begins_confirm(group, topic, &begins))
    }

    /// A setting of the connector, asked of the worker again.
    async fn left_behind(&self, finding: &Finding) -> Outcome {
        let Some(About::ConnectorSetting { connector, setting: key }) = &finding.subject else {
            let about = finding.subject.as_ref().map(ToString::to_string).unwrap_or_default();
            return Ok(Err(format!("no question is known for {about}")));
        };
        let now = Connect::of(&self.config.connect).config(connector).await?.get(key).cloned();
        let now = now.unwrap_or_else(|| "unset".into());
        Ok(match finding.expected.as_deref() == Some(now.as_str()) {
            true => Err(format!("the worker has {key} = {now}, as it was")),
            false => Ok(format!("the worker has {key} = {now}")),
        })
    }

    async fn dead(&self) -> Outcome {
        let connect = Connect::of(&self.config.connect);
        let mut running = Vec::new();
        for connector in self.connectors {
            let status = connect.status(connector).await?;
            if !status.all_running() {
                return Ok(Ok(status.failure().unwrap_or_else(|| status.summary())));
            }
            running.push(status.summary());
        }
        Ok(Err(running.join("; ")))
    }
}

/// What findings put behind the beginning of a long value.
const CLIPPED: &str = "... (";

/// A row's columns by name.
type Cells = BTreeMap<String, Option<String>>;

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A finding's key as a condition; none where it names no column.
fn key_condition(key: &str) -> Option<String> {
    let equal =
        |(column, value): (&str, &str)| format!("\"{}\"::text = {}", column.replace('"', "\"\""), quoted(value));
    let parts: Vec<String> = key.split(',').filter_map(|part| part.split_once('=')).map(equal).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// The cells that a finding shows as `a=1, b=2`. A value may hold a comma: only one before a column's name ends a cell.
fn shown_cells<'t>(text: &'t str, row: &Cells) -> Vec<(&'t str, &'t str)> {
    let column = |at: usize| text[at..].split_once('=').map(|(name, _)| name).filter(|name| row.contains_key(*name));
    let next = text.match_indices(", ").map(|(at, separator)| at + separator.len());
    let begins: Vec<(usize, &str)> = std::iter::once(0).chain(next).filter_map(|at| Some((at, column(at)?))).collect();
    let ends = begins.iter().skip(1).map(|(at, _)| at - ", ".len()).chain([text.len()]);
    begins.iter().zip(ends).map(|((at, name), end)| (*name, &text[at + name.len() + 1..end])).collect()
}

/// The row must have every cell of `says`, and not all of `denies`.
fn cells_confirm(row: &Cells, says: &str, denies: &str) -> Result<String, String> {
    let has = |(name, shown): &(&str, &str)| {
        let now = row.get(*name).cloned().flatten().unwrap_or_else(|| "NULL".into());
        match shown.split_once(CLIPPED) {
            Some((begin, _)) => now.starts_with(begin),
            None => now == *shown,
        }
    };
    let (wanted, others) = (shown_cells(says, row), shown_cells(denies, row));
    if wanted.is_empty() {
        return Err(format!("the finding names no column of the table: {says}"));
    }
    if !wanted.iter().all(has) {
        return Err(format!("the row in the table does not have {says}"));
    }
    match !others.is_empty() && others.iter().all(has) {
        true => Err(format!("the row in the table has {denies} as well")),
        false => Ok(format!("the row in the table has {says}, not {denies}")),
    }
}

/// The broker must say what the finding found, and not what it expected.
fn setting_confirms(about: &str, finding: &Finding, now: &str) -> Result<String, String> {
    let (expected, found) = (finding.expected.as_deref(), finding.found.as_deref());
    match now {
        now if expected == Some(now) => Err(format!("the broker has {about}: {now}, as expected")),
        now if found == Some(now) => Ok(format!("the broker has {about}: {now}")),
        now => Err(format!("the broker has {about}: {now}, neither as expected nor as found")),
    }
}

/// How many of these records are among the values.
fn remaining(before: &[String], values: &[Vec<u8>]) -> usize {
    values.iter().filter(|value| before.iter().any(|record| record.as_bytes() == value.as_slice())).count()
}

/// `left` is none where the topic is gone.
fn history_confirms(topic: &str, found: Option<&str>, left: Option<usize>) -> Result<String, String> {
    let said = match left {
        None => format!("the broker has no topic {topic}"),
        Some(left) => format!("{topic} has {left} of the records from before the recovery"),
    };
    let counted = found.and_then(|text| text.split_once(' ')).and_then(|(number, _)| number.parse::<usize>().ok());
    match (left, counted) {
        (None, None) if found == Some("no such topic") => Ok(said),
        (Some(left), Some(counted)) if left > 0 && left == counted => Ok(said),
        _ => Err(format!("{said}, the finding says {}", found.unwrap_or("nothing"))),
    }
}

/// What the group committed must be what the finding found, and not what it expected.
fn committed_confirms(place: &str, finding: &Finding, now: Option<Offset>) -> Result<String, String> {
    let said = format!("committed by {place}: {}", now.map_or("none".to_owned(), |offset| offset.to_string()));
    let as_expected =
        now.is_some_and(|now| finding.expected.as_deref() == Some(format!("committed offset {now}").as_str()));
    match finding.offset == now && !as_expected {
        true => Ok(said),
        false => Err(format!("{said}, the finding says {}", finding.found.as_deref().unwrap_or("nothing"))),
    }
}

/// A partition without records has nothing that could be skipped.
fn begins_confirm(
    group: &str,
    topic: &str,
    partitions: &[(Option<Offset>, (Offset, Offset))],
) -> Result<String, String> {
    let mut with_records = partitions.iter().filter(|(_, (low, high))| low < high).peekable();
    if with_records.peek().is_none() {
        return Err(format!("{topic} has no record that {group} could miss"));
    }
    let others: Vec<String> = with_records
        .filter(|(committed, (low, _))| *committed != Some(*low))
        .map(|(committed, (low, _))| {
            format!("{} where {low} is the first", committed.map_or("nothing".into(), |c| c.to_string()))
        })
        .collect();
    match others.is_empty() {
        true => Err(format!("{group} committed the first offset of every partition of {topic}")),
        false => Ok(format!("{group} committed in {topic}: {}", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(expected: &str, found: &str) -> Finding {
        Finding {
            expected: Some(expected.to_owned()),
            found: Some(found.to_owned()),
            ..Finding::new(FindingKind::Position)
        }
    }

    #[test]
    fn a_setting_that_is_as_expected_is_not_confirmed() {
        let changed = finding("3", "1");
        assert!(setting_confirms("partitions of t", &changed, "1").is_ok());
        assert!(setting_confirms("partitions of t", &changed, "3").is_err());
        assert!(setting_confirms("partitions of t", &changed, "2").is_err());
        let gone = finding("a topic", "no such topic");
        assert!(setting_confirms("t", &gone, "no such topic").is_ok());
        assert!(setting_confirms("t", &gone, "a topic").is_err());
    }

    #[test]
    fn a_history_that_was_cleared_is_not_confirmed() {
        let before = ["one".to_owned(), "two".to_owned()];
        let values = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(remaining(&before, &values(&["one", "two", "new"])), 2);
        let stale = Some("2 records from before the recovery");
        assert!(history_confirms("t", stale, Some(2)).is_ok());
        for left in [None, Some(0), Some(1)] {
            assert!(history_confirms("t", stale, left).is_err(), "{left:?}");
        }
        assert!(history_confirms("t", Some("0 records"), Some(0)).is_err());
        assert!(history_confirms("t", Some("no such topic"), None).is_ok());
        assert!(history_confirms("t", Some("no such topic"), Some(2)).is_err());
    }

    #[test]
    fn a_group_that_begins_at_the_first_record_is_not_confirmed() {
        let marks = |low, high| (Offset(low), Offset(high));
        let at = |offset| Some(Offset(offset));
        assert!(begins_confirm("g", "t", &[(None, marks(0, 7))]).is_ok());
        assert!(begins_confirm("g", "t", &[(at(4), marks(0, 7)), (at(0), marks(0, 2))]).is_ok());
        assert!(begins_confirm("g", "t", &[(at(0), marks(0, 7))]).is_err());
        assert!(
            begins_confirm("g", "t", &[(at(0), marks(0, 7)), (None, marks(0, 0))]).is_err(),
            "nothing to miss there"
        );
        assert!(begins_confirm("g", "t", &[]).is_err(), "no such topic");

        let wrong = Finding { offset: at(428), ..finding("committed offset 0", "428") };
        assert!(committed_confirms("g", &wrong, at(428)).is_ok());
        for now in [None, at(0), at(7)] {
            assert!(committed_confirms("g", &wrong, now).is_err(), "{now:?}");
        }
        let none = finding("committed offset 0", "none");
        assert!(committed_confirms("g", &none, None).is_ok());
        assert!(committed_confirms("g", &none, at(0)).is_err());
    }

    #[test]
    fn a_row_that_is_as_the_topic_has_it_is_not_confirmed() {
        let row: Cells = [("id", Some("7")), ("note", Some("a, b=c")), ("score", None)]
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .into();
        assert_eq!(shown_cells("note=a, b=c, score=NULL", &row), [("note", "a, b=c"), ("score", "NULL")]);
        assert!(cells_confirm(&row, "note=a, b=c, score=NULL", "note=x, score=5").is_ok());
        assert!(cells_confirm(&row, "note=x", "note=a, b=c").is_err());
        assert!(cells_confirm(&row, "note=a, b=c", "note=a, b=c").is_err());
        assert!(cells_confirm(&row, "no such row", "note=x").is_err());
    }
}
