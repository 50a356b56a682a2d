//! Topics: what is there, with which settings, creating and deleting.

use std::collections::BTreeMap;

use rdkafka::{
    Offset as RdOffset, TopicPartitionList,
    admin::{AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer},
};
use serde::{Deserialize, Serialize};

use super::connection::{Kafka, blocking, is_without_leader, options};
use crate::client::{
    ClientError,
    limits::asking,
    topic_ids,
    wait::{self, Poll},
};
use cdc_model::units::{Offset, TopicPartition, counted};

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

/// Why brokers would not make a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Their answer.
    Refused(String),
    /// They do not tell this client; their answer.
    Unknown(String),
}

/// A controller refuses a request that makes more partitions.
const PARTITIONS_MAX: i32 = 10_000;

/// It writes a request as one batch of records, of which each partition is one.
const PARTITIONS_AT_ONCE: i32 = 5_000;

/// Each topic is a record of such a batch, and so is each of its settings.
const TOPICS_AT_ONCE: usize = 500;

/// The longest name of a topic.
const TOPIC_NAME_MAX: usize = 249;

impl Kafka {
    /// Every topic and its number of partitions, internal ones included.
    pub async fn topics(&self) -> Result<BTreeMap<String, i32>, ClientError> {
        self.ask("metadata", |c| c.fetch_metadata(None, asking::BROKER.now()).map(|m| listed(&m))).await
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

    /// How many brokers the cluster has.
    pub async fn brokers(&self) -> Result<usize, ClientError> {
        self.ask("metadata", |c| c.fetch_metadata(None, asking::BROKER.now()).map(|m| m.brokers().len())).await
    }

    /// Why the brokers would not give a topic as many partitions; `None` where they would. Changes nothing.
    pub async fn refused_partitions(&self, name: &str, count: i32) -> Result<Option<String>, ClientError> {
        refusal(self.partitions(name, count, &options().validate_only(true)).await)
    }

    /// Gives a topic as many partitions as that; it must have fewer. Waits until the metadata says so.
    pub async fn add_partitions(&self, name: &str, count: i32) -> Result<(), ClientError> {
        self.partitions(name, count, &options()).await?;
        let what = format!("{} of topic {name}", counted(count as u64, "partition"));
        wait::until(&what, asking::BROKER, || async {
            let found = self.topics().await?.get(name).copied();
            Ok::<_, ClientError>(match found {
                Some(found) if found == count => Poll::Ready(()),
                found => Poll::NotYet(format!("{}", found.unwrap_or_default())),
            })
        })
        .await
    }

    async fn partitions(&self, name: &str, count: i32, options: &AdminOptions) -> Result<(), ClientError> {
        let what = format!("partitions of topic {name}");
        let new = NewPartitions::new(name, usize::try_from(count).unwrap_or_default());
        let answers = self.admin.create_partitions(&[new], options).await;
        for answer in answers.map_err(|e| self.error(&what, e))? {
            answer.map_err(|(_, code)| self.refused(what.clone(), code))?;
        }
        Ok(())
    }

    /// Why the brokers would not give a topic these settings; `None` where they would. Changes nothing.
    pub async fn refused_settings(
        &self,
        name: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Option<String>, ClientError> {
        refusal(self.alter(name, settings, &options().validate_only(true)).await)
    }

    async fn alter(
        &self,
        name: &str,
        settings: &BTreeMap<String, String>,
        options: &AdminOptions,
    ) -> Result<(), ClientError> {
        let new = AlterConfig::new(ResourceSpecifier::Topic(name));
        let new = settings.iter().fold(new, |all, (key, value)| all.set(key, value));
        let answers = self.admin.alter_configs(&[new], options).await;
        for answer in answers.map_err(|e| self.error(&format!("settings of {name}"), e))? {
            answer.map_err(|(_, code)| self.refused(format!("settings of topic {name}"), code))?;
        }
        Ok(())
    }

    /// Gives a topic these settings and no others: any that is set and not named goes back to the brokers' default.
    pub async fn set_topic_settings(&self, name: &str, settings: &BTreeMap<String, String>) -> Result<(), ClientError> {
        self.alter(name, settings, &options()).await?;
        let what = format!("settings of topic {name}");
        wait::until(&what, asking::BROKER, || async {
            let there = self.topic_specs(&[name.to_owned()]).await?;
            Ok::<_, ClientError>(match there.first() {
                Some(spec) if spec.settings == *settings => Poll::Ready(()),
                Some(spec) => Poll::NotYet(format!("{:?}", spec.settings)),
                None => Poll::NotYet("no such topic".to_owned()),
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

    /// Deletes the records of partitions that stand before these offsets: their logs begin there then.
    pub async fn delete_records(&self, before: &[(TopicPartition, Offset)]) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::new();
        for (tp, offset) in before {
            list.add_partition_offset(&tp.topic, tp.partition, RdOffset::Offset(offset.0))
                .map_err(|e| self.error("delete records", e))?;
        }
        let answers = self.admin.delete_records(&list, &options()).await;
        let answers = answers.map_err(|e| self.error("delete records", e))?;
        for answer in answers.elements() {
            answer.error().map_err(|e| self.error(&format!("delete records of {}", answer.topic()), e))?;
        }
        Ok(())
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

    /// The first and the next offset of every partition of a topic. A partition whose leader is being elected, as after the topic was made,
    /// is waited for.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<(Offset, Offset)>, ClientError> {
        let what = format!("offsets of {topic}");
        wait::until(&what, asking::BROKER, || async {
            let name = topic.to_owned();
            let marks = self.ask(what.clone(), move |c| {
                let metadata = c.fetch_metadata(Some(&name), asking::BROKER.now())?;
                let partitions = metadata.topics().first().map_or(0, |t| t.partitions().len() as i32);
                let marks = (0..partitions).map(|p| c.fetch_watermarks(&name, p, asking::BROKER.now()));
                match marks.map(|m| m.map(|(low, high)| (Offset(low), Offset(high)))).collect::<Result<Vec<_>, _>>() {
                    Ok(marks) => Ok(Poll::Ready(Ok(marks))),
                    Err(error) if is_without_leader(&error) => Ok(Poll::NotYet(error.to_string())),
                    Err(error) => Err(error),
                }
            });
            // Only an election is waited for: any other answer is the caller's.
            Ok::<_, ClientError>(marks.await.unwrap_or_else(|error| Poll::Ready(Err(error))))
        })
        .await?
    }
}

/// The brokers' refusal of a request that changes nothing. Brokers that do not answer have refused nothing.
fn refusal(answer: Result<(), ClientError>) -> Result<Option<String>, ClientError> {
    match answer {
        Ok(()) => Ok(None),
        Err(ClientError::Answer { found, .. }) => Ok(Some(found)),
        Err(error) => Err(error),
    }
}

/// Every topic and its number of partitions, as one broker knows them.
fn listed(metadata: &rdkafka::metadata::Metadata) -> BTreeMap<String, i32> {
    let known = metadata.topics().iter().filter(|t| t.error().is_none());
    known.map(|t| (t.name().to_owned(), t.partitions().len() as i32)).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
