//! Kafka: topics, settings, groups, and reading partitions to a fixed end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use rdkafka::{
    ClientConfig, Message, Offset as RdOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::{
    ClientError,
    consumer_groups::{self, Described},
    limits::{Bound, asking, pacing},
    topic_ids,
    wait::{self, Poll},
};
use crate::{
    config::KafkaConfig,
    units::{Offset, TopicPartition},
};

/// A connection to a broker.
#[derive(Clone)]
pub struct Kafka {
    bootstrap: String,
    base: ClientConfig,
    admin: Arc<AdminClient<DefaultClientContext>>,
    inquirer: Arc<BaseConsumer>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

/// A topic and what is needed to make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas of each.
    pub replication: i32,
    /// Settings that were set for this topic; broker defaults are not among them.
    pub settings: BTreeMap<String, String>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `Dead`.
    pub state: String,
    /// `client-id@host` of each member.
    pub members: Vec<String>,
    /// The topics that its members subscribed to or were assigned.
    pub topics: BTreeSet<String>,
    /// Why its members cannot be told, where that is so: there may be some.
    pub untold: Option<Untold>,
}

/// Why the members of a group cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untold {
    /// The broker did not say; why.
    Failed(String),
    /// It follows a protocol that the client cannot ask about: that of Kafka Streams, or of share groups.
    Protocol,
}

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Untold::Failed(why) => write!(f, "its members are not told: {why}"),
            Untold::Protocol => f.write_str("neither of the classic nor of the consumer protocol"),
        }
    }
}

impl Group {
    /// The older question has no answer about a group of another protocol: a state as of a group that is not there.
    fn is_of_another_protocol(&self) -> bool {
        self.members.is_empty() && self.state != "Empty" && !self.name.is_empty()
    }

    /// Takes over what the newer question is answered.
    fn complete(&mut self, described: Option<Described>) {
        match described {
            Some(Described::Consumer { state, members, topics }) => {
                (self.state, self.members, self.topics) = (state, members, topics);
            }
            Some(Described::Unknown(why)) => self.untold = Some(Untold::Failed(why)),
            Some(Described::Other) => self.untold = Some(Untold::Protocol),
            None => self.untold = Some(Untold::Failed("no answer about it".into())),
        }
    }
}

/// A record, copied out of the client's buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it stands.
    pub partition: i32,
    /// At which offset.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, as stored.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Records on their way to a broker at the same time.
const RECORDS_AT_ONCE: usize = 10_000;

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: String,
    /// Which partition; by the key's hash when absent.
    pub partition: Option<i32>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    fn copied(message: &BorrowedMessage<'_>) -> Record {
        let headers =
            message.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
        Record {
            partition: message.partition(),
            offset: Offset(message.offset()),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl Kafka {
    /// Speaks, without TLS or credentials, to the brokers at `bootstrap` (`host:port[,host:port]`). Nothing is asked yet.
    pub fn connect(bootstrap: &str) -> Result<Kafka, ClientError> {
        Kafka::of(&KafkaConfig::plain(bootstrap))
    }

    /// Speaks to the brokers of a configuration. Nothing is asked yet.
    pub fn of(config: &KafkaConfig) -> Result<Kafka, ClientError> {
        let bootstrap = config.bootstrap.clone();
        let base = base(config);
        let wrong = |e: rdkafka::error::KafkaError| ClientError::unreachable("kafka", &bootstrap, e);
        let admin = base.create::<AdminClient<_>>().map_err(wrong)?;
        // Without a group: it is never assigned anything, and leaving a group takes a tenth of a second.
        let inquirer = base.create::<BaseConsumer>().map_err(wrong)?;
        Ok(Kafka { base, admin: Arc::new(admin), inquirer: Arc::new(inquirer), bootstrap })
    }

    /// The bootstrap address.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What a client of its own begins with.
    pub(super) fn settings(&self) -> ClientConfig {
        self.base.clone()
    }

    /// Every topic and its number of partitions, internal ones included.
    pub async fn topics(&self) -> Result<BTreeMap<String, i32>, ClientError> {
        self.ask("metadata", |c| c.fetch_metadata(None, asking::BROKER.now()).map(|m| listed(&m))).await
    }

    /// The cluster's id.
    pub async fn cluster_id(&self) -> Result<Option<String>, ClientError> {
        self.ask("cluster id", |c| Ok(c.client().fetch_cluster_id(asking::BROKER.now()))).await
    }

    /// Whether any of the addresses takes a connection: an answer within a moment, where a request would be repeated until its limit,
    /// and a worker that lost its brokers answers late and names other reasons.
    pub async fn takes_connections(&self) -> Result<(), ClientError> {
        let mut refusals = Vec::new();
        let (limit, addresses) = (asking::STATE.now(), addresses(&self.bootstrap));
        for address in &addresses {
            match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => refusals.push(error.to_string()),
                Err(_) => refusals.push(format!("no connection within {} s", limit.as_secs())),
            }
        }
        if let [refusal] = refusals.as_slice() {
            return Err(ClientError::unreachable("kafka", &self.bootstrap, refusal));
        }
        let each = addresses.iter().zip(&refusals).map(|(address, refusal)| format!("{address}: {refusal}"));
        Err(ClientError::unreachable("kafka", &self.bootstrap, each.collect::<Vec<_>>().join("; ")))
    }

    /// The cluster's id, of brokers that must say it.
    pub async fn own_cluster_id(&self) -> Result<String, ClientError> {
        self.takes_connections().await?;
        let id = self.cluster_id().await?;
        id.ok_or_else(|| {
            ClientError::unreachable("kafka", &self.bootstrap, "the brokers did not say their cluster's id")
        })
    }

    /// The ids of these topics; unknown topics are left out. A topic that was deleted and made again has another one.
    pub async fn topic_ids(&self, names: &[String]) -> Result<BTreeMap<String, String>, ClientError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (admin, names, bootstrap) = (self.admin.clone(), names.to_vec(), self.bootstrap.clone());
        blocking(move || {
            topic_ids::ask(&admin, &names, asking::BROKER.now())
                .map_err(|why| ClientError::answer("kafka", &bootstrap, "describe topics", "their ids", why))
        })
        .await
    }

    /// The specifications of these topics, by name; unknown topics are left out.
    pub async fn topic_specs(&self, names: &[String]) -> Result<Vec<TopicSpec>, ClientError> {
        let wanted: Vec<String> = names.to_vec();
        let known: Vec<(String, i32, i32)> = self
            .ask("metadata", move |c| {
                let metadata = c.fetch_metadata(None, asking::BROKER.now())?;
                let topics =
                    metadata.topics().iter().filter(|t| t.error().is_none() && wanted.iter().any(|w| w == t.name()));
                let replicas = |t: &rdkafka::metadata::MetadataTopic| {
                    t.partitions().first().map_or(1, |p| p.replicas().len() as i32)
                };
                Ok(topics.map(|t| (t.name().to_owned(), t.partitions().len() as i32, replicas(t))).collect())
            })
            .await?;
        let resources: Vec<ResourceSpecifier<'_>> = known.iter().map(|(n, ..)| ResourceSpecifier::Topic(n)).collect();
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let answers =
            self.admin.describe_configs(&resources, &options()).await.map_err(|e| self.error("describe topics", e))?;
        let mut specs = Vec::new();
        for ((name, partitions, replication), answer) in known.iter().zip(answers) {
            let resource = answer.map_err(|code| self.refused(format!("describe topic {name}"), code))?;
            let own = resource.entries.into_iter().filter(|e| e.source == ConfigSource::DynamicTopic);
            let settings = own.filter_map(|e| e.value.map(|v| (e.name, v))).collect();
            specs.push(TopicSpec { name: name.clone(), partitions: *partitions, replication: *replication, settings });
        }
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }

    /// The settings of these topics as they hold, the brokers' defaults among them; unknown topics are left out.
    pub async fn effective_settings(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClientError> {
        let there = self.topics().await?;
        let known: Vec<&String> = names.iter().filter(|name| there.contains_key(*name)).collect();
        let mut settings = BTreeMap::new();
        for some in known.chunks(TOPICS_AT_ONCE) {
            let resources: Vec<ResourceSpecifier<'_>> = some.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
            let answers = self.admin.describe_configs(&resources, &options()).await;
            let answers = answers.map_err(|e| self.error("describe topics", e))?;
            for (name, answer) in some.iter().zip(answers) {
                let resource = answer.map_err(|code| self.refused(format!("describe topic {name}"), code))?;
                let values = resource.entries.into_iter().filter_map(|e| e.value.map(|value| (e.name, value)));
                settings.insert((*name).clone(), values.collect());
            }
        }
        Ok(settings)
    }

    /// The brokers that make a topic, with defaults, when a client asks for one that is not there
    /// (`auto.create.topics.enable`), by id.
    pub async fn brokers_that_create_topics(&self) -> Result<Vec<i32>, ClientError> {
        let brokers: Vec<i32> = self
            .ask("metadata", |c| {
                let metadata = c.fetch_metadata(None, asking::BROKER.now())?;
                Ok(metadata.brokers().iter().map(|broker| broker.id()).collect())
            })
            .await?;
        let mut creating = Vec::new();
        for broker in brokers {
            // A broker answers for itself alone.
            let resource = [ResourceSpecifier::Broker(broker)];
            let answers = self.admin.describe_configs(&resource, &options()).await;
            let answers = answers.map_err(|e| self.error(&format!("describe broker {broker}"), e))?;
            for answer in answers {
                let entries = answer.map_err(|code| self.refused(format!("describe broker {broker}"), code))?.entries;
                let creates = |e: &rdkafka::admin::ConfigEntry| {
                    e.name == "auto.create.topics.enable" && e.value.as_deref() == Some("true")
                };
                creating.extend(entries.iter().any(creates).then_some(broker));
            }
        }
        Ok(creating)
    }

    /// Asks the brokers whether they would make these topics, and makes none: name and reason of those that they would not.
    /// Asked under other names, since the topics may be there. A client that may make topics of certain names alone is told
    /// nothing about the others: [`Refusal::Unknown`].
    pub async fn refused_topics(&self, specs: &[TopicSpec]) -> Result<Vec<(String, Refusal)>, ClientError> {
        use rdkafka::types::RDKafkaErrorCode as Code;
        let mut refused = Vec::new();
        for batch in batches(specs) {
            let names: Vec<String> = batch.iter().map(|s| stand_in(&s.name)).collect();
            let topics: Vec<NewTopic<'_>> = batch.iter().zip(&names).map(|(s, name)| new_topic(s, name)).collect();
            let answers = self.admin.create_topics(&topics, &options().validate_only(true)).await;
            let answers = answers.map_err(|e| self.error("validate topics", e))?;
            for (spec, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                    // The controller's own, whatever the name.
                    Err((_, code @ Code::PolicyViolation)) if spec.partitions > PARTITIONS_MAX => {
                        refused.push((spec.name.clone(), Refusal::Refused(code.to_string())));
                    }
                    // By a policy that may look at names, or by what it counts: the real name may pass.
                    Err((
                        _,
                        code @ (Code::TopicAuthorizationFailed
                        | Code::ClusterAuthorizationFailed
                        | Code::PolicyViolation
                        | Code::InvalidTopic),
                    )) => {
                        refused.push((spec.name.clone(), Refusal::Unknown(code.to_string())));
                    }
                    Err((_, code)) => refused.push((spec.name.clone(), Refusal::Refused(code.to_string()))),
                }
            }
        }
        Ok(refused)
    }

    /// Makes topics, in batches. One that exists already is an error.
    pub async fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), ClientError> {
        if specs.is_empty() {
            return Ok(());
        }
        for batch in batches(specs) {
            let topics: Vec<NewTopic<'_>> = batch.iter().map(|s| new_topic(s, &s.name)).collect();
            let answers = self.admin.create_topics(&topics, &options()).await;
            for answer in answers.map_err(|e| self.error("create topics", e))? {
                answer.map_err(|(name, code)| self.refused(format!("create topic {name}"), code))?;
            }
        }
        wait::until("created topics in the metadata of all brokers", asking::BROKER.now(), || async {
            let told = self.told_by_each().await?;
            let missing = |s: &&TopicSpec| told.iter().any(|topics| !topics.contains_key(&s.name));
            Ok::<_, ClientError>(match specs.iter().find(missing) {
                None => Poll::Ready(()),
                Some(missing) => Poll::NotYet(format!("{} is not there", missing.name)),
            })
        })
        .await
    }

    /// Deletes topics, in batches, and waits until the metadata of no broker names them. Unknown ones are fine.
    pub async fn delete_topics(&self, names: &[String]) -> Result<(), ClientError> {
        if names.is_empty() {
            return Ok(());
        }
        for some in names.chunks(TOPICS_AT_ONCE) {
            let refs: Vec<&str> = some.iter().map(String::as_str).collect();
            let answers = self.admin.delete_topics(&refs, &options()).await;
            for answer in answers.map_err(|e| self.error("delete topics", e))? {
                match answer {
                    Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                    Err((name, code)) => return Err(self.refused(format!("delete topic {name}"), code)),
                }
            }
        }
        wait::until("deleted topics to be gone from all brokers", asking::TOPICS_GONE, || async {
            let told = self.told_by_each().await?;
            Ok::<_, ClientError>(match names.iter().find(|n| told.iter().any(|topics| topics.contains_key(*n))) {
                None => Poll::Ready(()),
                Some(name) => Poll::NotYet(format!("{name} is still there")),
            })
        })
        .await
    }

    /// What each broker says of the topics, as [`Kafka::topics`]. A topic that has just been made or deleted is known to some
    /// brokers before others, and any of them may be asked next. One that does not answer misleads nobody and is left out.
    async fn told_by_each(&self) -> Result<Vec<BTreeMap<String, i32>>, ClientError> {
        let (addresses, topics) = self
            .ask("metadata", |c| {
                let metadata = c.fetch_metadata(None, asking::BROKER.now())?;
                let addresses = metadata.brokers().iter().map(|b| format!("{}:{}", b.host(), b.port()));
                Ok((addresses.collect::<Vec<_>>(), listed(&metadata)))
            })
            .await?;
        if addresses.len() < 2 {
            return Ok(vec![topics]);
        }
        let (base, bootstrap) = (self.base.clone(), self.bootstrap.clone());
        blocking(move || {
            let mut told = vec![topics];
            for address in addresses {
                // A client asks the first broker that it is connected to: a new one has no other.
                let config = base.clone().set("bootstrap.servers", &address).clone();
                let wrong = |e: rdkafka::error::KafkaError| ClientError::unreachable("kafka", &bootstrap, e);
                let consumer: BaseConsumer = config.create().map_err(wrong)?;
                match consumer.fetch_metadata(None, asking::FURTHER_BROKER.now()) {
                    Ok(metadata) => told.push(listed(&metadata)),
                    Err(error) => tracing::warn!(%address, %error, "a broker does not tell its topics"),
                }
            }
            Ok(told)
        })
        .await
    }

    /// The first and the next offset of every partition of a topic.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<(Offset, Offset)>, ClientError> {
        let name = topic.to_owned();
        self.ask(format!("offsets of {topic}"), move |c| {
            let metadata = c.fetch_metadata(Some(&name), asking::BROKER.now())?;
            let partitions = metadata.topics().first().map_or(0, |t| t.partitions().len() as i32);
            let marks = (0..partitions).map(|p| c.fetch_watermarks(&name, p, asking::BROKER.now()));
            marks.map(|m| m.map(|(low, high)| (Offset(low), Offset(high)))).collect()
        })
        .await
    }

    /// All groups with their members, by name: those of the classic and those of the consumer protocol.
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        let mut groups = self
            .ask("groups", |c| {
                let list = c.fetch_group_list(None, asking::BROKER.now())?;
                Ok(list.groups().iter().map(classic).collect::<Vec<Group>>())
            })
            .await?;
        let others: Vec<String> =
            groups.iter().filter(|g| g.is_of_another_protocol()).map(|g| g.name.clone()).collect();
        let (admin, bootstrap) = (self.admin.clone(), self.bootstrap.clone());
        let mut described = blocking(move || {
            consumer_groups::describe(&admin, &others, asking::BROKER.now())
                .map_err(|why| ClientError::answer("kafka", &bootstrap, "describe groups", "their members", why))
        })
        .await?;
        for group in groups.iter_mut().filter(|g| g.is_of_another_protocol()) {
            group.complete(described.remove(&group.name));
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// The offsets a group has committed on these partitions; partitions without one are left out.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
        let mut list = TopicPartitionList::new();
        for tp in partitions {
            list.add_partition(&tp.topic, tp.partition);
        }
        let (config, bootstrap, wanted) =
            (self.base.clone().set("group.id", group).clone(), self.bootstrap.clone(), group.to_owned());
        blocking(move || {
            let wrong = |e| {
                ClientError::answer(
                    "kafka",
                    &bootstrap,
                    format!("offsets of group {wanted}"),
                    "offsets",
                    format!("{e}"),
                )
            };
            let consumer: BaseConsumer = config.create().map_err(wrong)?;
            let committed = consumer.committed_offsets(list, asking::BROKER.now()).map_err(wrong)?;
            let found = committed.elements().into_iter().filter_map(|e| match e.offset() {
                RdOffset::Offset(o) => {
                    Some((TopicPartition { topic: e.topic().to_owned(), partition: e.partition() }, Offset(o)))
                }
                _ => None,
            });
            Ok(found.collect())
        })
        .await
    }

    /// Commits offsets for a group that has no active member.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::new();
        for (tp, offset) in offsets {
            list.add_partition_offset(&tp.topic, tp.partition, RdOffset::Offset(offset.0))
                .map_err(|e| self.error("commit offsets", e))?;
        }
        let (config, bootstrap, wanted) =
            (self.base.clone().set("group.id", group).clone(), self.bootstrap.clone(), group.to_owned());
        blocking(move || {
            let wrong = |e| {
                ClientError::answer(
                    "kafka",
                    &bootstrap,
                    format!("commit offsets of group {wanted}"),
                    "committed",
                    format!("{e}"),
                )
            };
            let consumer: BaseConsumer = config.create().map_err(wrong)?;
            consumer.commit(&list, CommitMode::Sync).map_err(wrong)
        })
        .await
    }

    /// Writes one record and waits until it is stored. `key` and `value` of `None` are null.
    pub async fn produce(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Offset, ClientError> {
        let mut config = self.base.clone();
        config.set("message.timeout.ms", asking::BROKER.now().as_millis().to_string()).set("linger.ms", "0");
        let producer: FutureProducer = config.create().map_err(|e| self.error("produce", e))?;
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let sent = producer.send(record, asking::BROKER.now()).await;
        sent.map(|d| Offset(d.offset)).map_err(|(e, _)| self.error(&format!("produce to {topic}"), e))
    }

    /// Writes records, in this order within a partition, and waits until all are stored.
    pub async fn produce_all(&self, records: Vec<Outgoing>) -> Result<(), ClientError> {
        let mut config = self.base.clone();
        config
            .set("message.timeout.ms", asking::BROKER.now().as_millis().to_string())
            .set("linger.ms", "5")
            .set("enable.idempotence", "true");
        let producer: FutureProducer = config.create().map_err(|e| self.error("produce", e))?;
        // librdkafka refuses records beyond its queue's limit (100,000): the next ones wait for those before.
        for some in records.chunks(RECORDS_AT_ONCE) {
            self.produced(&producer, some).await?;
        }
        Ok(())
    }

    async fn produced(&self, producer: &FutureProducer, records: &[Outgoing]) -> Result<(), ClientError> {
        let mut sent = Vec::new();
        for outgoing in records {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&outgoing.topic);
            record.partition = outgoing.partition;
            record.key = outgoing.key.as_deref();
            record.payload = outgoing.value.as_deref();
            if !outgoing.headers.is_empty() {
                let with = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
                    all.insert(Header { key, value: value.as_deref() })
                };
                record.headers = Some(outgoing.headers.iter().fold(OwnedHeaders::new(), with));
            }
            let queued = producer.send_result(record);
            let queued = queued.map_err(|(e, _)| self.error(&format!("produce to {}", outgoing.topic), e))?;
            sent.push((queued, outgoing));
        }
        for (delivery, outgoing) in sent {
            let what = || format!("produce to {}", outgoing.topic);
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((e, _))) => return Err(self.error(&what(), e)),
                Err(_) => return Err(ClientError::unreachable("kafka", &self.bootstrap, what())),
            }
        }
        Ok(())
    }

    /// Reads the partitions of a topic from their first offset to the end each had when the reading began, and copies
    /// every record. For small topics; see [`Kafka::scan`] for data topics.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<Record>, ClientError> {
        let marks = self.watermarks(topic).await?;
        let ranges = marks
            .iter()
            .enumerate()
            .map(|(p, (low, high))| (TopicPartition { topic: topic.to_owned(), partition: p as i32 }, *low, *high));
        let ranges: Vec<_> = ranges.collect();
        let kafka = self.clone();
        blocking(move || {
            let mut records = Vec::new();
            kafka.scan(&ranges, |message| records.push(Record::copied(message)))?;
            Ok(records)
        })
        .await
    }

    /// Hands every record of these partition ranges (first offset, end offset exclusive) to `see`, in offset order
    /// within a partition. Blocks the calling thread: call it from a blocking task. Compacted and transactional topics
    /// have holes: a range is done when its last record or the end of its partition has been reached.
    pub fn scan(
        &self,
        ranges: &[(TopicPartition, Offset, Offset)],
        see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        self.scan_while(ranges, asking::RECORDS.into(), see)
    }

    fn scan_while(
        &self,
        ranges: &[(TopicPartition, Offset, Offset)],
        silence: Bound,
        mut see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let wrong = |e| self.error("read", e);
        let wanted: Vec<_> = ranges.iter().filter(|(_, from, to)| from < to).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let consumer: BaseConsumer = reader(&self.base).create().map_err(wrong)?;
        let mut open: Vec<Range<'_>> =
            wanted.into_iter().map(|(tp, from, to)| Range { tp, next: from.0, end: to.0 }).collect();
        self.scan_open(&consumer, &mut open, false, silence, &mut see)?;
        // What is left ends in holes, or comes slowly. An end of partition names the partition's number and not its topic,
        // so only with one topic at a time does it tell whose end it is.
        while let Some(topic) = open.first().map(|r| r.tp.topic.clone()) {
            let (mut one, rest) = open.into_iter().partition(|r| r.tp.topic == topic);
            open = rest;
            self.scan_open(&consumer, &mut one, true, silence, &mut see)?;
        }
        Ok(())
    }

    /// Reads on in the open ranges and removes those that are done. Where `ends` may be believed, returns when all are
    /// done; else also when nothing has come for a while.
    fn scan_open(
        &self,
        consumer: &BaseConsumer,
        open: &mut Vec<Range<'_>>,
        ends: bool,
        silence: Bound,
        see: &mut impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let wrong = |e| self.error("read", e);
        let mut list = TopicPartitionList::new();
        for range in open.iter() {
            let at = RdOffset::Offset(range.next);
            list.add_partition_offset(&range.tp.topic, range.tp.partition, at).map_err(wrong)?;
        }
        consumer.assign(&list).map_err(wrong)?;
        let mut moved = Instant::now();
        while !open.is_empty() {
            match consumer.poll(pacing::RECORD_LOOK) {
                None if !ends && moved.elapsed() > pacing::RECORD_QUIET => return Ok(()),
                None => {}
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) if ends => {
                    open.retain(|r| r.tp.partition != partition);
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                Some(Err(e)) if is_transient(&e) => {}
                Some(Err(e)) => return Err(wrong(e)),
                Some(Ok(message)) => {
                    moved = Instant::now();
                    // Few are open at a time: as many as topics have partitions.
                    let here = |r: &Range<'_>| r.tp.partition == message.partition() && r.tp.topic == message.topic();
                    let Some(index) = open.iter().position(here) else { continue };
                    let range = &mut open[index];
                    let offset = message.offset();
                    if (range.next..range.end).contains(&offset) {
                        see(&message);
                    }
                    // What the caller does with a record, and waits for meanwhile, is no silence of the broker.
                    moved = Instant::now();
                    range.next = range.next.max(offset + 1);
                    if range.next >= range.end {
                        open.swap_remove(index);
                    }
                }
            }
            if moved.elapsed() > silence.now() {
                let left: Vec<String> = open.iter().map(|r| format!("{}-{}", r.tp.topic, r.tp.partition)).collect();
                return Err(ClientError::TimedOut {
                    what: format!("records of {}", left.join(", ")),
                    seconds: moved.elapsed().as_secs_f64(),
                    bound: format!("nothing moved; limit: {silence}"),
                    last: "no record arrived although the end was not reached".into(),
                });
            }
        }
        Ok(())
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        question: impl FnOnce(&BaseConsumer) -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (consumer, bootstrap, what) = (self.inquirer.clone(), self.bootstrap.clone(), what.into());
        blocking(move || {
            question(&consumer).map_err(|e| match is_refusal(&e) {
                true => ClientError::answer("kafka", &bootstrap, what, "an answer", e.to_string()).for_good(),
                false => ClientError::unreachable("kafka", &bootstrap, format!("{what}: {e}")),
            })
        })
        .await
    }

    fn error(&self, what: &str, error: rdkafka::error::KafkaError) -> ClientError {
        let answer = ClientError::answer("kafka", &self.bootstrap, what, "success", error.to_string());
        if is_refusal(&error) { answer.for_good() } else { answer }
    }

    fn refused(&self, what: String, code: rdkafka::types::RDKafkaErrorCode) -> ClientError {
        ClientError::answer("kafka", &self.bootstrap, what, "success", code.to_string())
    }
}

/// The addresses of a bootstrap list, which may name a protocol and leave out the port, as librdkafka reads them.
fn addresses(bootstrap: &str) -> Vec<String> {
    let all = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
    let plain = all.map(|address| address.split_once("://").map_or(address, |(_, address)| address));
    let with_port = |address: &str| match address.rsplit_once(':') {
        Some((_, port)) if port.chars().all(|c| c.is_ascii_digit()) => address.to_owned(),
        _ => format!("{address}:9092"),
    };
    plain.map(with_port).collect()
}

/// Every topic and its number of partitions, as one broker knows them.
fn listed(metadata: &rdkafka::metadata::Metadata) -> BTreeMap<String, i32> {
    let known = metadata.topics().iter().filter(|t| t.error().is_none());
    known.map(|t| (t.name().to_owned(), t.partitions().len() as i32)).collect()
}

/// A stretch of a partition that is being read.
struct Range<'r> {
    tp: &'r TopicPartition,
    /// The first offset that was not seen.
    next: i64,
    /// The offset after the last one that is wanted.
    end: i64,
}

fn base(settings: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.bootstrap).set("client.id", "cdc-drill");
    config.set("log.connection.close", "false");
    if let Some(protocol) = settings.security_protocol {
        config.set("security.protocol", protocol.word());
    }
    if let Some(authority) = &settings.ssl_ca {
        config.set("ssl.ca.location", authority.as_str());
    }
    if let Some(mechanism) = &settings.sasl_mechanism {
        config.set("sasl.mechanism", mechanism);
    }
    if let Some(name) = &settings.sasl_username {
        config.set("sasl.username", name);
    }
    if let Some(password) = &settings.sasl_password {
        config.set("sasl.password", password.expose());
    }
    config
}

/// A group as the older question shows it.
fn classic(group: &rdkafka::groups::GroupInfo) -> Group {
    let topics_of = |member: &rdkafka::groups::GroupMemberInfo| {
        let assigned = member.assignment().map(|b| topics_in(b, true)).unwrap_or_default();
        let subscribed = member.metadata().map(|b| topics_in(b, false)).unwrap_or_default();
        assigned.into_iter().chain(subscribed)
    };
    Group {
        name: group.name().to_owned(),
        state: group.state().to_owned(),
        members: group.members().iter().map(|m| format!("{}@{}", m.client_id(), m.client_host())).collect(),
        topics: group.members().iter().flat_map(topics_of).collect(),
        untold: None,
    }
}

/// The topic names in a member's assignment (each followed by its partitions) or subscription, in the consumer protocol:
/// version, then an array of names. Bytes of another protocol yield nothing.
fn topics_in(bytes: &[u8], with_partitions: bool) -> Vec<String> {
    fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(n)?;
        *rest = tail;
        Some(head)
    }
    fn count(rest: &mut &[u8]) -> Option<usize> {
        let four = take(rest, 4)?;
        usize::try_from(i32::from_be_bytes(four.try_into().ok()?)).ok()
    }
    fn name(rest: &mut &[u8]) -> Option<String> {
        let length = take(rest, 2)?;
        let length = usize::try_from(i16::from_be_bytes(length.try_into().ok()?)).ok()?;
        String::from_utf8(take(rest, length)?.to_vec()).ok()
    }
    let mut rest = bytes;
    let mut names = Vec::new();
    let Some(topics) = take(&mut rest, 2).and_then(|_| count(&mut rest)) else { return names };
    for _ in 0..topics {
        let Some(topic) = name(&mut rest) else { break };
        names.push(topic);
        if with_partitions && count(&mut rest).and_then(|n| take(&mut rest, n.checked_mul(4)?)).is_none() {
            break;
        }
    }
    names
}

/// Large fetches, no checksums (loopback or TCP already has them), no stored position.
fn reader(base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("group.id", "cdc-drill-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.message.max.bytes", "2097152")
        .set("fetch.max.bytes", "16777216")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "32768");
    config
}

/// The client reconnects by itself; a broker that stays away is caught by the stall limit.
pub(super) fn is_transient(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

/// Whether the broker knows who asks, or does not want to, and says no.
fn is_refusal(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::Authentication
        )
    )
}

/// A controller refuses a request that makes more partitions.
const PARTITIONS_MAX: i32 = 10_000;
/// It writes a request as one batch of records, of which each partition is one.
const PARTITIONS_AT_ONCE: i32 = 5_000;
/// Each topic is a record of such a batch, and so is each of its settings.
const TOPICS_AT_ONCE: usize = 500;
/// The longest name of a topic.
const TOPIC_NAME_MAX: usize = 249;

/// Divides topics into those that one request makes.
fn batches(specs: &[TopicSpec]) -> Vec<&[TopicSpec]> {
    let (mut batches, mut from, mut partitions) = (Vec::new(), 0, 0);
    for (at, spec) in specs.iter().enumerate() {
        if at > from && (partitions + spec.partitions > PARTITIONS_AT_ONCE || at - from == TOPICS_AT_ONCE) {
            batches.push(&specs[from..at]);
            (from, partitions) = (at, 0);
        }
        partitions += spec.partitions;
    }
    if from < specs.len() {
        batches.push(&specs[from..]);
    }
    batches
}

fn new_topic<'s>(spec: &'s TopicSpec, name: &'s str) -> NewTopic<'s> {
    let topic = NewTopic::new(name, spec.partitions, TopicReplication::Fixed(spec.replication));
    spec.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
}

/// A name for a topic that is not made. It begins as the topic's own, by which permissions are given.
fn stand_in(name: &str) -> String {
    const END: &str = ".cdc-drill-validate";
    let kept: String = name.chars().take(TOPIC_NAME_MAX - END.len()).collect();
    kept + END
}

/// Why brokers would not make a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Their answer.
    Refused(String),
    /// They do not tell this client; their answer.
    Unknown(String),
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(asking::BROKER.now())).operation_timeout(Some(asking::BROKER.now()))
}

/// librdkafka's questions block: they run on the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(ClientError::Hopeless { what: "a blocking task".into(), why: join.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A broker with one record in each of two partitions of the topic `t`.
    fn two_records() -> (rdkafka::mocking::MockCluster<'static, rdkafka::producer::DefaultProducerContext>, Kafka) {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let kafka = Kafka::connect(&cluster.bootstrap_servers()).unwrap();
        let producer: BaseProducer = kafka.base.clone().create().unwrap();
        for partition in [0, 1] {
            producer
                .send(BaseRecord::<str, str>::to("t").partition(partition).payload("row"))
                .map_err(|(e, _)| e)
                .unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        (cluster, kafka)
    }

    #[test]
    fn what_the_reader_does_with_a_record_is_no_silence_of_the_broker() {
        let (_cluster, kafka) = two_records();
        let whole = |partition| (TopicPartition { topic: "t".into(), partition }, Offset(0), Offset(1));
        let silence = Duration::from_millis(400);
        let mut seen = 0;
        let slowly = |_: &BorrowedMessage<'_>| {
            seen += 1;
            // A registry that lets the reader wait for a schema.
            std::thread::park_timeout(2 * silence);
        };
        kafka.scan_while(&[whole(0), whole(1)], silence.into(), slowly).unwrap();
        assert_eq!(seen, 2);
    }

    #[test]
    fn a_group_that_the_older_question_does_not_know_is_what_the_newer_one_says() {
        let group = |state: &str| Group {
            name: "g".into(),
            state: state.into(),
            members: Vec::new(),
            topics: BTreeSet::new(),
            untold: None,
        };
        assert!(!group("Empty").is_of_another_protocol(), "a classic group without members");
        assert!(group("Dead").is_of_another_protocol());
        let mut seen = group("Dead");
        seen.complete(Some(Described::Consumer {
            state: "Stable".into(),
            members: vec!["app@/10.0.0.1".into()],
            topics: BTreeSet::from(["shop.public.orders".to_owned()]),
        }));
        assert_eq!((seen.state.as_str(), seen.members.len(), seen.topics.len()), ("Stable", 1, 1));
        assert_eq!(seen.untold, None);
        for silent in [None, Some(Described::Other), Some(Described::Unknown("not authorized".into()))] {
            let mut seen = group("Dead");
            seen.complete(silent);
            assert!(seen.untold.is_some(), "silence is not an empty group");
        }
    }

    #[test]
    fn addresses_are_read_as_the_library_reads_them() {
        let of = |bootstrap: &str| addresses(bootstrap).join(" ");
        assert_eq!(of("a:1, SASL_SSL://b:2,c,"), "a:1 b:2 c:9092");
        assert_eq!(of("[::1]:9092,[::1]"), "[::1]:9092 [::1]:9092");
    }

    #[test]
    fn no_request_makes_more_partitions_than_a_controller_takes() {
        let spec = |partitions| TopicSpec { name: "t".into(), partitions, replication: 1, settings: BTreeMap::new() };
        let sizes = |specs: &[TopicSpec]| batches(specs).iter().map(|b| b.len()).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[spec(4_999), spec(1), spec(1)]), [2, 1]);
        assert_eq!(sizes(&[spec(9_000), spec(9_000)]), [1, 1]);
        assert_eq!(sizes(&vec![spec(1); TOPICS_AT_ONCE + 1]), [TOPICS_AT_ONCE, 1]);
        let many = vec![spec(3); 7_000];
        assert!(batches(&many).iter().all(|b| b.iter().map(|s| s.partitions).sum::<i32>() <= PARTITIONS_AT_ONCE));
        assert_eq!(batches(&many).concat(), many);
    }

    #[test]
    fn a_stand_in_is_a_name_that_a_topic_can_have() {
        assert_eq!(stand_in("shop.public.orders"), "shop.public.orders.cdc-drill-validate");
        assert_eq!(stand_in(&"x".repeat(TOPIC_NAME_MAX)).len(), TOPIC_NAME_MAX);
    }

    #[test]
    fn topics_of_a_member_are_read_from_its_protocol_bytes() {
        let mut subscription = vec![0, 1, 0, 0, 0, 2];
        for topic in ["a", "bc"] {
            subscription.extend((topic.len() as i16).to_be_bytes());
            subscription.extend(topic.as_bytes());
        }
        subscription.extend([0, 0, 0, 0]);
        assert_eq!(topics_in(&subscription, false), ["a", "bc"]);
        let assignment = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'b', 0, 0, 0, 0];
        assert_eq!(topics_in(&assignment, true), ["a", "b"]);
        assert!(topics_in(b"{\"json\":1}", true).is_empty());
        assert!(topics_in(&[0], true).is_empty());
    }
}
