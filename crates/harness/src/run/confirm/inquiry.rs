//! The questions, finding by finding.

use std::collections::BTreeMap;

use tokio::sync::OnceCell;

use super::{
    answer::{begins_confirm, committed_confirms, history_confirms, remaining, setting_confirms, setting_left},
    row::{self, Column},
    token,
};
use cdc_model::{
    event::{
        About, Cells,
        Confirmation::{self, CannotTell, Confirmed, Refuted},
        Evidence, Finding, FindingKind,
    },
    units::{Lsn, RowKey, SchemaId, Subject, TableName, TopicPartition, counted},
};
use cdc_pipeline::{
    client::{
        ClientError,
        connect::{Connect, ConnectorConfig},
        kafka::Kafka,
        postgres::Postgres,
        registry::Registry,
    },
    config::Config,
};
use cdc_verify::observation::digest;

/// What confirming needs to know of a drill.
pub(super) struct Inquiry<'a> {
    /// How to reach the pipeline.
    pub config: &'a Config,
    /// The connectors.
    pub connectors: &'a [String],
    /// Their configurations as they must be again.
    pub configs: &'a BTreeMap<String, ConnectorConfig>,
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
    /// The values of all records of the data topics, by topic, read when they are first asked for.
    pub values: OnceCell<BTreeMap<String, Vec<Vec<u8>>>>,
}

/// Looks at one finding again.
pub(super) async fn confirm(inquiry: &Inquiry<'_>, check: &str, finding: &Finding) -> Confirmation {
    let outcome = match finding.kind {
        FindingKind::Lost if check == "restored-to-target" => inquiry.gone_from_tables(finding).await,
        FindingKind::Lost if check == "history" => inquiry.gone_from_topic(finding).await,
        FindingKind::Lost => inquiry.gone_from_topics(finding).await,
        FindingKind::Ghost => inquiry.only_in_topics(finding).await,
        FindingKind::Stale | FindingKind::Different if check == "restored-to-target" => {
            inquiry.table_differs(finding, Side::Found).await
        }
        FindingKind::Stale | FindingKind::Different => inquiry.topic_behind_table(finding).await,
        FindingKind::WrongSchema => inquiry.another_schema(finding).await,
        FindingKind::NotRefused | FindingKind::Setting if check == "compatibility" => {
            inquiry.level_differs(finding).await
        }
        FindingKind::Position | FindingKind::Setting => inquiry.position(finding).await,
        FindingKind::Leak => inquiry.left_behind(finding).await,
        FindingKind::Dead => inquiry.dead().await,
        other => Ok(CannotTell(format!("no independent question is known for {other:?}"))),
    };
    outcome.unwrap_or_else(|error| CannotTell(error.to_string()))
}

type Outcome = Result<Confirmation, ClientError>;

/// Which side of a finding is the table's.
#[derive(Clone, Copy)]
enum Side {
    Expected,
    Found,
}

impl Inquiry<'_> {
    async fn sql(&self) -> Result<Postgres, ClientError> {
        Postgres::connect(&self.config.postgres.url, "cdc-drill confirm").await
    }

    async fn columns(&self, db: &Postgres, table: &TableName) -> Result<Vec<Column>, ClientError> {
        Ok(row::columns(db.texts(&row::columns_sql(table)).await?))
    }

    /// How many rows of the captured tables have the token as a value.
    async fn rows_with(&self, token: &str) -> Result<u64, ClientError> {
        let db = self.sql().await?;
        let mut rows = 0;
        for table in self.tables {
            let columns = self.columns(&db, table).await?;
            rows += db.value::<u64>(&row::holders_sql(table, &columns, token)).await?;
        }
        Ok(rows)
    }

    /// The rows of a table with these values, as each type prints them; why they cannot be asked for.
    async fn rows<'v>(
        &self,
        table: &TableName,
        values: impl Iterator<Item = (&'v str, Option<&'v str>)>,
    ) -> Result<Result<Vec<Cells>, String>, ClientError> {
        let db = self.sql().await?;
        let columns = self.columns(&db, table).await?;
        let sql = match row::rows_sql(table, &columns, values) {
            Ok(sql) => sql,
            Err(why) => return Ok(Err(why)),
        };
        Ok(Ok(db.texts(&sql).await?.into_iter().map(|texts| row::cells(&columns, texts)).collect()))
    }

    /// The rows with the finding's key; why they cannot be asked for.
    async fn rows_by_key(&self, finding: &Finding) -> Result<Result<Vec<Cells>, String>, ClientError> {
        match row::asked(finding) {
            Ok((table, key)) => self.rows(table, key.iter()).await,
            Err(why) => Ok(Err(why)),
        }
    }

    /// The values of all records.
    async fn values(&self) -> Result<impl Iterator<Item = &Vec<u8>>, ClientError> {
        Ok(self.values.get_or_try_init(|| self.read_values()).await?.values().flatten())
    }

    async fn read_values(&self) -> Result<BTreeMap<String, Vec<Vec<u8>>>, ClientError> {
        let kafka = Kafka::of(&self.config.kafka)?;
        let there = kafka.topics().await?;
        let mut values = BTreeMap::new();
        for topic in self.topics.iter().filter(|t| there.contains_key(*t)) {
            let records = kafka.read_all(topic).await?;
            values.insert(topic.clone(), records.into_iter().filter_map(|r| r.value).collect());
        }
        Ok(values)
    }

    /// How many records mention the token, be it as a part of another one: none is proof that it is nowhere.
    async fn records_mentioning(&self, token: &str) -> Result<usize, ClientError> {
        Ok(self.values().await?.filter(|value| token::mentions(value, token)).count())
    }

    /// The same of one topic, where a finding names it: a transaction's token is in the records of all tables that it changed.
    async fn records_of_its_topic_mentioning(&self, finding: &Finding, token: &str) -> Result<usize, ClientError> {
        let Some(topic) = finding.topic.as_ref().filter(|topic| self.topics.contains(topic)) else {
            return self.records_mentioning(token).await;
        };
        let values = self.values.get_or_try_init(|| self.read_values()).await?.get(topic);
        Ok(values.into_iter().flatten().filter(|value| token::mentions(value, token)).count())
    }

    /// How many records have the token as a value: one is proof that it is there.
    async fn records_holding(&self, token: &str) -> Result<usize, ClientError> {
        Ok(self.values().await?.filter(|value| token::holds(value, token)).count())
    }

    async fn gone_from_tables(&self, finding: &Finding) -> Outcome {
        if row::asked(finding).is_ok() {
            let rows = match self.rows_by_key(finding).await? {
                Ok(rows) => rows,
                Err(why) => return Ok(CannotTell(why)),
            };
            let key = shown_key(finding);
            let token = finding.token.as_deref();
            return Ok(match token {
                _ if rows.is_empty() => Confirmed(format!("no row with {key}, which was acknowledged")),
                Some(token) if rows.iter().all(|row| !row::carries(row, token)) => {
                    Confirmed(format!("the row with {key} does not carry token {token}, which was acknowledged"))
                }
                _ => Refuted(format!("the row with {key} is there")),
            });
        }
        if let (Some(table), Some(Evidence::Row { expected: Some(image), .. })) = (&finding.table, &finding.evidence) {
            let values = image.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            return Ok(match self.rows(table, values).await? {
                Ok(rows) if rows.is_empty() => Confirmed(format!("no row of {table} is {}", row::words(image))),
                Ok(rows) => Refuted(format!("{} of {table} with {}", counted(rows.len(), "row"), row::words(image))),
                Err(why) => CannotTell(why),
            });
        }
        if let Some(token) = &finding.token {
            let rows = self.rows_with(token).await?;
            return Ok(match rows {
                0 => Confirmed(format!("no row of any captured table carries token {token}, which was acknowledged")),
                n => Refuted(format!("token {token} is in {n}", n = counted(n, "row"))),
            });
        }
        Ok(CannotTell("neither key nor token to ask for".into()))
    }

    async fn gone_from_topics(&self, finding: &Finding) -> Outcome {
        if let Some(token) = &finding.token {
            let rows = self.rows_with(token).await?;
            let records = self.records_of_its_topic_mentioning(finding, token).await?;
            return Ok(match records {
                0 => Confirmed(format!("token {token} is in {rows} and in no record", rows = counted(rows, "row"))),
                n => Refuted(format!("token {token} is in {n}", n = counted(n, "record"))),
            });
        }
        Ok(match self.rows_by_key(finding).await? {
            Ok(rows) if rows.is_empty() => Refuted("the row is not in the table either".into()),
            Ok(_) => Confirmed(format!("the row with {} is in the table", shown_key(finding))),
            Err(why) => CannotTell(why),
        })
    }

    /// Whether a record that a topic held is in it no more, at whatever offset.
    async fn gone_from_topic(&self, finding: &Finding) -> Outcome {
        let (Some(topic), Some(Evidence::Record { key, value })) = (&finding.topic, &finding.evidence) else {
            return Ok(CannotTell("no record to ask for".into()));
        };
        let kafka = Kafka::of(&self.config.kafka)?;
        if !kafka.topics().await?.contains_key(topic) {
            return Ok(Confirmed(format!("there is no topic {topic}")));
        }
        let records = kafka.read_all(topic).await?;
        let all = counted(records.len(), "record");
        let of = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(digest);
        let same = records.iter().filter(|record| of(&record.key) == *key && of(&record.value) == *value).count();
        Ok(match same {
            0 => Confirmed(format!("none of the {all} of {topic} has this key and value")),
            n => Refuted(format!("{n} of the {all} of {topic} with this key and value")),
        })
    }

    async fn only_in_topics(&self, finding: &Finding) -> Outcome {
        let Some(token) = &finding.token else {
            return Ok(match self.rows_by_key(finding).await? {
                Ok(rows) if rows.is_empty() => Confirmed(format!("the table has no row with {}", shown_key(finding))),
                Ok(_) => Refuted("the row is in the table".into()),
                Err(why) => CannotTell(why),
            });
        };
        let (rows, records) = (self.rows_with(token).await?, self.records_holding(token).await?);
        Ok(match (rows, records) {
            (_, 0) => Refuted(format!("no record carries token {token}")),
            (0, n) => Confirmed(format!("token {token} is in {n} and in no row", n = counted(n, "record"))),
            (rows, n) => match self.rows_by_key(finding).await? {
                Ok(of_key) if of_key.is_empty() => Confirmed(format!(
                    "token {token} is in {n} and the row with {} is gone",
                    shown_key(finding),
                    n = counted(n, "record")
                )),
                _ => Refuted(format!("token {token} is in {rows}", rows = counted(rows, "row"))),
            },
        })
    }

    async fn topic_behind_table(&self, finding: &Finding) -> Outcome {
        let rows = match self.rows_by_key(finding).await? {
            Ok(rows) if rows.is_empty() => return Ok(Refuted("the row is not in the table".into())),
            Ok(rows) => rows,
            Err(why) => return Ok(CannotTell(why)),
        };
        match &finding.token {
            Some(token) if rows.iter().any(|row| row::carries(row, token)) => {
                Ok(match self.records_mentioning(token).await? {
                    0 => Confirmed(format!("the row carries token {token}, no record does")),
                    n => Refuted(format!("the row's token {token} is in {n}", n = counted(n, "record"))),
                })
            }
            _ => self.table_differs(finding, Side::Expected).await,
        }
    }

    /// Whether the row with the finding's key has the cells that the finding says the table has, and not the others.
    async fn table_differs(&self, finding: &Finding, table_side: Side) -> Outcome {
        let (table, key) = match row::asked(finding) {
            Ok(asked) => asked,
            Err(why) => return Ok(CannotTell(why)),
        };
        let Some(Evidence::Row { expected: Some(expected), found: Some(found) }) = &finding.evidence else {
            return Ok(CannotTell("the finding carries no two states of a row to compare with".into()));
        };
        let (says, denies) = match table_side {
            Side::Expected => (expected, found),
            Side::Found => (found, expected),
        };
        if says.is_empty() {
            return Ok(CannotTell("the finding names no column of the table".into()));
        }
        let rows = match self.rows(table, key.iter()).await? {
            Ok(rows) if rows.is_empty() => return Ok(Refuted("the row is not in the table".into())),
            Ok(rows) => rows,
            Err(why) => return Ok(CannotTell(why)),
        };
        if !rows.iter().any(|row| row::has(row, says)) {
            return Ok(Refuted(format!("the row in the table does not have {}", row::words(says))));
        }
        if let Some(denies) = row::comparable(says, denies) {
            match self.rows(table, with(key, denies)).await? {
                Ok(rows) if rows.is_empty() => {}
                Ok(_) => return Ok(Refuted(format!("the row in the table has {} as well", row::words(denies)))),
                Err(why) => return Ok(CannotTell(why)),
            }
        }
        Ok(Confirmed(format!("the row in the table has {}, not {}", row::words(says), row::words(denies))))
    }

    async fn another_schema(&self, finding: &Finding) -> Outcome {
        let Some(id) = finding.schema_id else { return Ok(CannotTell("the finding names no schema id".into())) };
        let now = Registry::of(&self.config.registry).schema(id).await?;
        Ok(match (self.schemas.get(&id), now) {
            (_, None) => Confirmed(format!("schema id {id} does not resolve")),
            (Some(then), Some(now)) if *then == now => {
                Refuted(format!("schema id {id} is the schema of the recovery point"))
            }
            (_, Some(now)) => Confirmed(format!("schema id {id} is now {}", now.chars().take(120).collect::<String>())),
        })
    }

    async fn level_differs(&self, finding: &Finding) -> Outcome {
        let registry = Registry::of(&self.config.registry);
        // What counts for a subject without a level of its own is the global one.
        let global_then = self.levels.get(&Subject::new("")).cloned().flatten();
        let Some(name) = finding.subject.as_ref().and_then(About::registry_subject) else {
            let now = registry.global_level().await?;
            return Ok(match global_then == now {
                true => Refuted(format!("the global level is {now:?}, as at the recovery point")),
                false => {
                    Confirmed(format!("the global level was {global_then:?} at the recovery point and is {now:?}"))
                }
            });
        };
        let subject = Subject::new(name);
        let then = self.levels.get(&subject).cloned().flatten().or(global_then);
        let now = match registry.subject_level(&subject).await? {
            Some(level) => Some(level),
            None => registry.global_level().await?,
        };
        if then != now {
            return Ok(Confirmed(format!("the level of {name} was {then:?} at the recovery point and is {now:?}")));
        }
        let versions = registry.versions(&subject, true).await?;
        Ok(match versions.is_empty() {
            true if self.levels.contains_key(&subject) => Confirmed(format!("the registry has no subject {name}")),
            true => Refuted(format!("the recovery point has no subject {name} either")),
            false => {
                let listed: Vec<String> = versions.iter().map(ToString::to_string).collect();
                let found = finding.found.as_deref().unwrap_or_default();
                match self.levels.contains_key(&subject) && finding.kind == FindingKind::Setting {
                    true => Confirmed(format!("{name} has versions [{}]; {found}", listed.join(", "))),
                    false => Refuted(format!("the level of {name} is {now:?}, as at the recovery point")),
                }
            }
        })
    }

    async fn position(&self, finding: &Finding) -> Outcome {
        let kafka = Kafka::of(&self.config.kafka)?;
        if let (Some(table), None) = (&finding.table, &finding.topic) {
            let Some(About::Publication(publication)) = &finding.subject else {
                return Ok(CannotTell(format!("no publication to ask for {table}")));
            };
            let sql = row::published_sql(publication, table);
            return Ok(match self.sql().await?.value::<u64>(&sql).await? {
                0 => Confirmed(format!("publication {publication} does not have {table}")),
                _ => Refuted(format!("publication {publication} has {table}")),
            });
        }
        if let (Some(topic), Some(About::Group(group))) = (&finding.topic, &finding.subject) {
            return self.group_skips(&kafka, group, topic, finding).await;
        }
        if let (Some(topic), Some(About::TopicSetting(setting))) = (&finding.topic, &finding.subject) {
            let now = self.topic_setting(&kafka, topic, setting).await?;
            let about = if setting == "topic" { topic.clone() } else { format!("{setting} of {topic}") };
            return Ok(setting_confirms(&about, finding, now.as_deref()));
        }
        if let Some(topic) = &finding.topic {
            return self.history_stands(&kafka, topic, finding).await;
        }
        match &finding.subject {
            Some(About::Slot(name)) => self.slot_stands(name).await,
            Some(About::Connector(name)) => self.offset_ahead(name).await,
            _ => Ok(CannotTell("neither topic, slot nor connector to ask for".into())),
        }
    }

    /// What the broker says now of a topic, or of one of its settings, as findings have it.
    async fn topic_setting(&self, kafka: &Kafka, topic: &str, setting: &str) -> Result<Option<String>, ClientError> {
        let specs = kafka.topic_specs(&[topic.to_owned()]).await?;
        Ok(specs.first().and_then(|spec| match setting {
            "topic" => Some("a topic".into()),
            "partitions" => Some(spec.partitions.to_string()),
            "replication" => Some(spec.replication.to_string()),
            name => spec.settings.get(name).cloned(),
        }))
    }

    /// How many of the records that stood in a schema history when its recovery began stand there still.
    async fn history_stands(&self, kafka: &Kafka, topic: &str, finding: &Finding) -> Outcome {
        let Some(before) = self.histories.get(topic) else {
            return Ok(CannotTell(format!("no independent question is known for topic {topic}")));
        };
        if !kafka.topics().await?.contains_key(topic) {
            return Ok(history_confirms(topic, finding, None));
        }
        let records = kafka.read_all(topic).await?;
        let values: Vec<Vec<u8>> = records.into_iter().filter_map(|record| record.value).collect();
        Ok(history_confirms(topic, finding, Some(remaining(before, &values))))
    }

    /// What the server says of a slot, against the end of its WAL.
    async fn slot_stands(&self, name: &str) -> Outcome {
        let db = self.sql().await?;
        let end: Lsn = db.value("select pg_current_wal_lsn()").await?;
        let Some(slot) = db.slots().await?.into_iter().find(|slot| slot.name.as_str() == name) else {
            return Ok(Confirmed(format!("the server has no slot {name}")));
        };
        let status = slot.wal_status.as_deref().unwrap_or("none");
        let confirmed = slot.confirmed_flush_lsn.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
        let said = format!("slot {name}: wal_status {status}, confirmed {confirmed}; the WAL ends at {end}");
        let sound = matches!(status, "reserved" | "extended") && slot.confirmed_flush_lsn <= Some(end);
        Ok(if sound { Refuted(said) } else { Confirmed(said) })
    }

    /// What the worker stores as a connector's position, against the end of the server's WAL.
    async fn offset_ahead(&self, name: &str) -> Outcome {
        let end: Lsn = self.sql().await?.value("select pg_current_wal_lsn()").await?;
        let offsets = Connect::of(&self.config.connect).offsets(name).await?;
        let stored = offsets.iter().filter_map(|o| o.offset.as_ref()?.get("lsn")?.as_u64()).max().map(Lsn);
        Ok(match stored {
            Some(stored) if stored > end => Confirmed(format!("{name} stored {stored}, the WAL ends at {end}")),
            Some(stored) => Refuted(format!("{name} stored {stored}, the WAL ends at {end}")),
            None => CannotTell(format!("{name} stored no position")),
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
            return Ok(CannotTell(format!("no question is known for {about}")));
        };
        let Some(wanted) = self.configs.get(connector) else {
            return Ok(CannotTell(format!("connector {connector} is none of the drill's")));
        };
        let now = Connect::of(&self.config.connect).config(connector).await?;
        Ok(setting_left(key, wanted.get(key), now.get(key)))
    }

    async fn dead(&self) -> Outcome {
        let connect = Connect::of(&self.config.connect);
        let mut running = Vec::new();
        for connector in self.connectors {
            let status = connect.status(connector).await?;
            if !status.all_running() {
                return Ok(Confirmed(status.failure().unwrap_or_else(|| status.summary())));
            }
            running.push(status.summary());
        }
        Ok(Refuted(running.join("; ")))
    }
}

fn shown_key(finding: &Finding) -> String {
    finding.key.as_ref().map_or_else(|| "that key".to_owned(), ToString::to_string)
}

/// The key's values and these.
fn with<'v>(key: &'v RowKey, cells: &'v Cells) -> impl Iterator<Item = (&'v str, Option<&'v str>)> {
    key.iter().chain(cells.iter().map(|(name, value)| (name.as_str(), value.as_deref())))
}
