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
    /// The values of all records of the data topics, read when they are first asked for.
    pub values: OnceCell<Vec<Vec<u8>>>,
}

/// Looks at one finding again. `Ok` says what confirms it, `Err` what speaks against it.
pub async fn confirm(evidence: &Evidence<'_>, check: &str, finding: &Finding) -> Result<String, String> {
    let outcome = match finding.kind {
        FindingKind::Lost if check == "restored-to-target" => evidence.gone_from_tables(finding).await,
        FindingKind::Lost => evidence.gone_from_topics(finding).await,
        FindingKind::Ghost => evidence.only_in_topics(finding).await,
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
        let condition: Vec<String> = key
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(c, v)| format!("\"{}\"::text = '{}'", c.replace('"', "\"\""), v.replace('\'', "''")))
            .collect();
        if condition.is_empty() {
            return Ok(None);
        }
        self.sql()
            .await?
            .text(&format!("select t::text from {} t where {}", table.quoted(), condition.join(" and ")))
            .await
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
            _ => Ok(Ok("the row is in the table with other values than the topic's".into())),
        }
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
            return self.group_skips(&kafka, group, topic).await;
        }
        if let Some(topic) = &finding.topic {
            let specs = kafka.topic_specs(std::slice::from_ref(topic)).await?;
            let marks = if specs.is_empty() { Vec::new() } else { kafka.watermarks(topic).await? };
            return Ok(Ok(match specs.first() {
                None => format!("the broker has no topic {topic}"),
                Some(s) => {
                    format!("{topic} has {} partitions, settings {:?}, offsets {marks:?}", s.partitions, s.settings)
                }
            }));
        }
        match &finding.subject {
            Some(About::Slot(name)) => self.slot_stands(name).await,
            Some(About::Connector(name)) => self.offset_ahead(name).await,
            _ => Ok(Err("neither topic, slot nor connector to ask for".into())),
        }
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

    /// Where the broker says that a group goes on, against where its topic begins.
    async fn group_skips(&self, kafka: &Kafka, group: &str, topic: &str) -> Outcome {
        if !kafka.topics().await?.contains_key(topic) {
            return Ok(Ok(format!("the broker has no topic {topic}")));
        }
        let marks = kafka.watermarks(topic).await?;
        let partition = |partition| TopicPartition { topic: topic.to_owned(), partition };
        let partitions: Vec<TopicPartition> = (0..marks.len() as i32).map(partition).collect();
        let committed: BTreeMap<_, _> = kafka.group_offsets(group, &partitions).await?.into_iter().collect();
        let at_first = |(tp, (low, _)): (&TopicPartition, &(Offset, Offset))| committed.get(tp) == Some(low);
        let behind = partitions.iter().zip(&marks).filter(|both| !at_first(*both)).count();
        Ok(match behind {
            0 => Err(format!("{group} committed the first offset of every partition of {topic}")),
            n => Ok(format!("{group} does not begin at the first offset of {n} partitions of {topic}: {committed:?}")),
        })
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
