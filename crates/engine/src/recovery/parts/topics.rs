//! Partitions and settings of topics, without their records.

use std::collections::{BTreeMap, BTreeSet};

use super::{PartChange, PartRequest};
use crate::{
    backup::TopicState,
    recovery::{RecoveryError, pipeline::protection},
};
use cdc_model::{moment, units::counted};
use cdc_pipeline::{
    attach,
    client::kafka::{Kafka, Refusal, TopicSpec},
    config::Config,
};

/// What has just been done, of one topic.
pub(super) const MOMENTS: [&str; 5] = [moment::BEFORE, "made", "grown", "set", moment::AFTER];

/// Settings that decide which records a topic keeps.
const KEEPING: [&str; 4] = ["cleanup.policy", "delete.retention.ms", "retention.bytes", "retention.ms"];

/// What will be done to topics.
#[derive(Debug)]
pub(super) struct Plan {
    kafka: Kafka,
    acts: Vec<Act>,
    pub(super) changes: Vec<PartChange>,
    pub(super) unchanged: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// What is done to one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    /// It is made, empty.
    Make(TopicSpec),
    /// It gets more partitions, other settings, or both.
    Alter {
        /// As it shall be.
        spec: TopicSpec,
        /// Whether it has fewer partitions now.
        grows: bool,
        /// Whether its settings differ.
        settings: bool,
    },
}

/// Looks at the topics. Refuses to take partitions away, and what the brokers would not do.
pub(super) async fn plan(
    config: &Config,
    request: &PartRequest,
    saved: Vec<TopicState>,
) -> Result<Plan, RecoveryError> {
    let kafka = Kafka::of(&config.kafka)?;
    kafka.takes_connections().await?;
    let mut saved: Vec<TopicSpec> = request.select(saved, |t| &t.spec.name)?.into_iter().map(|t| t.spec).collect();
    let mut notes = Vec::new();
    if request.names.is_empty() {
        let (own, data): (Vec<_>, Vec<_>) = saved.into_iter().partition(|t| protection(config, &t.name).is_some());
        if !own.is_empty() {
            let names: Vec<&str> = own.iter().map(|t| t.name.as_str()).collect();
            notes.push(format!("servers keep their state in {}: restored only where they are named", names.join(", ")));
        }
        saved = data;
    }
    attach::within(config, "topic", saved.iter().map(|t| t.name.as_str()))?;
    let names: Vec<String> = saved.iter().map(|t| t.name.clone()).collect();
    let there: BTreeMap<String, TopicSpec> =
        kafka.topic_specs(&names).await?.into_iter().map(|t| (t.name.clone(), t)).collect();
    let mut plan = Plan { kafka, acts: Vec::new(), changes: Vec::new(), unchanged: Vec::new(), notes };
    let mut shrunk = Vec::new();
    for wanted in saved {
        let now = there.get(&wanted.name);
        if let Some(now) = now.filter(|now| now.partitions > wanted.partitions) {
            let had = counted(wanted.partitions as u64, "partition");
            shrunk.push(format!(
                "topic {} has {} and had {had}",
                wanted.name,
                counted(now.partitions as u64, "partition")
            ));
            continue;
        }
        if let Some(now) = now.filter(|now| now.replication != wanted.replication) {
            plan.notes.push(format!(
                "topic {}: it has {} of each partition and had {}; that is left as it is",
                wanted.name,
                counted(now.replication as u64, "replica"),
                wanted.replication
            ));
        }
        match act(&wanted, now) {
            None => plan.unchanged.push(wanted.name),
            Some(act) => {
                plan.changes.push(change(&wanted, now));
                plan.acts.push(act);
            }
        }
    }
    if !shrunk.is_empty() {
        return Err(RecoveryError::impossible(
            "partitions of topics",
            "as many as the point has, or fewer: no topic gives partitions back",
            shrunk.join("; "),
            "name the other topics, or replay its records into a new one (`topic replay --as`)",
        ));
    }
    plan.refuse_unwilling().await?;
    Ok(plan)
}

fn act(wanted: &TopicSpec, now: Option<&TopicSpec>) -> Option<Act> {
    let Some(now) = now else { return Some(Act::Make(wanted.clone())) };
    let (grows, settings) = (now.partitions < wanted.partitions, now.settings != wanted.settings);
    (grows || settings).then(|| Act::Alter { spec: wanted.clone(), grows, settings })
}

fn change(wanted: &TopicSpec, now: Option<&TopicSpec>) -> PartChange {
    let name = wanted.name.clone();
    let Some(now) = now else {
        let (partitions, replicas) =
            (counted(wanted.partitions as u64, "partition"), counted(wanted.replication as u64, "replica"));
        let does = format!(
            "makes it, empty, with {partitions}, {replicas} and its settings: `topic replay` brings records that were archived"
        );
        return PartChange { name, does: vec![does], destroys: Vec::new() };
    };
    let mut does = Vec::new();
    if now.partitions < wanted.partitions {
        does.push(format!(
            "gives it {} instead of {}: new records of a key may go to another partition than its old ones",
            counted(wanted.partitions as u64, "partition"),
            now.partitions
        ));
    }
    let keys: BTreeSet<&String> = now.settings.keys().chain(wanted.settings.keys()).collect();
    let differing: Vec<&String> =
        keys.into_iter().filter(|key| now.settings.get(*key) != wanted.settings.get(*key)).collect();
    let shown =
        |spec: &TopicSpec, key: &String| spec.settings.get(key).map_or_else(|| "unset".to_owned(), Clone::clone);
    does.extend(differing.iter().map(|key| format!("sets {key} from {} to {}", shown(now, key), shown(wanted, key))));
    let destroys = differing.iter().filter(|key| KEEPING.contains(&key.as_str()));
    let destroys = destroys.map(|key| format!("records of {name} that {key}={} does not keep", shown(wanted, key)));
    PartChange { destroys: destroys.collect(), name, does }
}

impl Plan {
    /// Asks the brokers whether they would do all this, and lets them do nothing.
    async fn refuse_unwilling(&mut self) -> Result<(), RecoveryError> {
        let refused = |name: &str, what: &str, why: String| {
            let hint = "another point may have settings that the brokers take: --point ID";
            RecoveryError::impossible(format!("topic {name}"), format!("brokers that {what}"), why, hint)
        };
        for act in &self.acts {
            match act {
                Act::Make(spec) => {
                    for (name, refusal) in self.kafka.refused_topics(std::slice::from_ref(spec)).await? {
                        match refusal {
                            Refusal::Refused(why) => return Err(refused(&name, "make it as it was", why)),
                            Refusal::Unknown(why) => {
                                self.notes.push(format!("whether the brokers make topic {name} is not known: {why}"));
                            }
                        }
                    }
                }
                Act::Alter { spec, grows, settings } => {
                    if *grows && let Some(why) = self.kafka.refused_partitions(&spec.name, spec.partitions).await? {
                        return Err(refused(&spec.name, "give it more partitions", why));
                    }
                    if *settings && let Some(why) = self.kafka.refused_settings(&spec.name, &spec.settings).await? {
                        return Err(refused(&spec.name, "take its settings", why));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes and alters topics, and reads them back.
    pub(super) async fn run(&self) -> Result<Vec<String>, RecoveryError> {
        let mut said = Vec::new();
        for act in &self.acts {
            let wanted = match act {
                Act::Make(spec) => {
                    self.kafka.create_topics(std::slice::from_ref(spec)).await?;
                    moment::pass("made").await?;
                    spec
                }
                Act::Alter { spec, grows, settings } => {
                    if *grows {
                        self.kafka.add_partitions(&spec.name, spec.partitions).await?;
                        moment::pass("grown").await?;
                    }
                    if *settings {
                        self.kafka.set_topic_settings(&spec.name, &spec.settings).await?;
                        moment::pass("set").await?;
                    }
                    spec
                }
            };
            let found = self.kafka.topic_specs(std::slice::from_ref(&wanted.name)).await?;
            match found.first() {
                Some(found) if found.partitions == wanted.partitions && found.settings == wanted.settings => {
                    let partitions = counted(found.partitions as u64, "partition");
                    said.push(format!(
                        "topic {}: {partitions} and {} read back",
                        found.name,
                        counted(found.settings.len(), "setting")
                    ));
                    moment::pass(moment::AFTER).await?;
                }
                found => {
                    let expected =
                        format!("topic {} with {} and {:?}", wanted.name, wanted.partitions, wanted.settings);
                    let found =
                        found.map_or_else(|| "none".to_owned(), |f| format!("{} and {:?}", f.partitions, f.settings));
                    return Err(RecoveryError::unmet("restore topics", expected, found));
                }
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(partitions: i32, settings: &[(&str, &str)]) -> TopicSpec {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TopicSpec { name: "t".into(), partitions, replication: 1, settings }
    }

    #[test]
    fn what_differs_is_set_and_nothing_else() {
        let wanted = spec(2, &[("retention.ms", "1000")]);
        assert_eq!(act(&wanted, Some(&wanted)), None);
        assert_eq!(act(&wanted, None), Some(Act::Make(wanted.clone())));
        let grows = act(&wanted, Some(&spec(1, &[("retention.ms", "1000")])));
        assert_eq!(grows, Some(Act::Alter { spec: wanted.clone(), grows: true, settings: false }));
        // A setting that was not set goes back to the brokers' default.
        let settings = act(&wanted, Some(&spec(2, &[("retention.ms", "1000"), ("segment.ms", "7")])));
        assert_eq!(settings, Some(Act::Alter { spec: wanted, grows: false, settings: true }));
    }

    #[test]
    fn the_plan_names_each_difference_and_what_may_remove_records() {
        let said = change(&spec(2, &[("retention.ms", "1000")]), Some(&spec(1, &[("segment.ms", "7")])));
        assert_eq!(said.does.len(), 3, "{said:?}");
        assert!(said.does.contains(&"sets retention.ms from unset to 1000".to_owned()), "{said:?}");
        assert!(said.does.contains(&"sets segment.ms from 7 to unset".to_owned()), "{said:?}");
        assert_eq!(said.destroys, ["records of t that retention.ms=1000 does not keep"]);
    }
}
