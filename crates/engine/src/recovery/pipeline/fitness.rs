//! Whether the data topics can be emptied and filled again so that they stay filled: who else writes to them, what their settings
//! keep, and whether the brokers would make them. Asked before anything is touched.

use std::collections::BTreeMap;

use super::Pipeline;
use crate::recovery::{RecoveryError, Request};
use cdc_model::units::counted;
use cdc_model::vocabulary::Loss;
use cdc_pipeline::client::kafka::{Refusal, TopicSpec};

/// A topic that keeps records for less than this is empty again before anybody has looked at the recovery.
const SHORTEST_RETENTION_MS: i64 = 3_600_000;

/// What a topic's settings do with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retention {
    /// They keep a record of each key.
    Keeps,
    /// They delete records of this age, in milliseconds.
    Deletes { after_ms: Option<i64>, beyond_bytes: Option<i64> },
}

impl Retention {
    /// As the settings `cleanup.policy`, `retention.ms` and `retention.bytes` say; one that is not set has Kafka's default.
    fn of(settings: &BTreeMap<String, String>) -> Retention {
        let text = |key: &str, default: &'static str| settings.get(key).map_or(default, |value| value.trim());
        if !text("cleanup.policy", "delete").split(',').any(|policy| policy.trim() == "delete") {
            return Retention::Keeps;
        }
        // -1 is without limit.
        let limit = |key, default| text(key, default).parse().ok().filter(|limit: &i64| *limit >= 0);
        let (after_ms, beyond_bytes) = (limit("retention.ms", "604800000"), limit("retention.bytes", "-1"));
        match (after_ms, beyond_bytes) {
            (None, None) => Retention::Keeps,
            _ => Retention::Deletes { after_ms, beyond_bytes },
        }
    }

    fn is_short(self) -> bool {
        matches!(self, Retention::Deletes { after_ms: Some(ms), .. } if ms < SHORTEST_RETENTION_MS)
    }
}

impl std::fmt::Display for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Retention::Keeps => f.write_str("kept"),
            Retention::Deletes { after_ms, beyond_bytes } => {
                let age = after_ms.map(|ms| format!("{} after they are written (retention.ms={ms})", duration(ms)));
                let size = beyond_bytes
                    .map(|b| format!("beyond {b} of a partition (retention.bytes)", b = counted(b, "byte")));
                let both: Vec<String> = age.into_iter().chain(size).collect();
                write!(f, "deleted {}", both.join(" and "))
            }
        }
    }
}

/// `7 days`, `90 s`.
fn duration(ms: i64) -> String {
    const DAY: i64 = 86_400_000;
    match (ms / DAY, ms / 3_600_000, ms / 1_000) {
        (days @ 1.., ..) if ms % DAY == 0 => counted(days, "day"),
        (_, hours @ 1.., _) => format!("{hours} h"),
        (.., seconds) => format!("{seconds} s"),
    }
}

impl Pipeline {
    /// Requires that the data topics can be emptied and filled again, and stay filled. What is not refused and should be known is
    /// noted. `empties` is false where only records are added to them.
    pub(crate) async fn plan_topics(&mut self, request: &Request, empties: bool) -> Result<(), RecoveryError> {
        self.refuse_shared()?;
        let mut notes = self.retention_notes(request.accept_loss.contains(&Loss::Retention)).await?;
        if empties && !self.topics.is_empty() {
            notes.extend(self.refuse_uncreatable().await?);
            notes.extend(self.auto_creation().await);
        }
        self.found.notes.extend(notes);
        Ok(())
    }

    /// Requires that no connector outside of the recovery writes to the data topics: its records would be deleted, and it takes no
    /// snapshot.
    pub(crate) fn refuse_shared(&self) -> Result<(), RecoveryError> {
        let ours = |name: &str| self.sources.iter().any(|s| s.name == name);
        for (name, topics) in self.found.writers.iter().filter(|(name, _)| !ours(name)) {
            let shared: Vec<&str> =
                self.topics.iter().map(|t| t.name.as_str()).filter(|t| topics.contains(*t)).collect();
            if !shared.is_empty() {
                return Err(RecoveryError::impossible(
                    format!("topics {}", shared.join(", ")),
                    "topics that only the connectors of this recovery write to: they are emptied, and filled by their snapshots",
                    format!("connector {name} writes to them too, and takes no snapshot"),
                    "name that connector with --connector too if it reads from this cluster; else let the connectors write to topics of their own",
                ));
            }
        }
        Ok(())
    }

    async fn retention_notes(&self, accepted: bool) -> Result<Vec<String>, RecoveryError> {
        let mut settings = self.kafka.effective_settings(&self.topic_names()).await?;
        let mut deleting: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut notes = Vec::new();
        for TopicSpec { name, settings: own, .. } in &self.topics {
            // One that is gone has those that it is made with again.
            let mut held = settings.remove(name).unwrap_or_default();
            held.extend(own.clone());
            let retention = Retention::of(&held);
            if retention.is_short() && !accepted {
                return Err(RecoveryError::impossible(
                    format!("topic {name}"),
                    "one that keeps what a snapshot writes for an hour at least, or for each key (cleanup.policy=compact)",
                    format!("its records are {retention}"),
                    format!(
                        "kafka-configs --alter --entity-type topics --entity-name {name} --add-config retention.ms=..., or agree that \
                         the topic is empty again after that time with {}",
                        Loss::Retention.option()
                    ),
                ));
            }
            if retention.is_short() {
                notes.push(format!(
                    "accepted as lost: what the snapshot writes into topic {name}, whose records are {retention}"
                ));
            } else if retention != Retention::Keeps {
                deleting.entry(retention.to_string()).or_default().push(name);
            }
        }
        let note = |(how, topics): (String, Vec<&str>)| {
            format!("records are {how}, and with them rows that do not change meanwhile: topics {}", topics.join(", "))
        };
        notes.extend(deleting.into_iter().map(note));
        Ok(notes)
    }

    /// Requires that the brokers would make the topics again; what they do not tell is noted.
    async fn refuse_uncreatable(&self) -> Result<Vec<String>, RecoveryError> {
        let mut notes = Vec::new();
        for (name, refusal) in self.kafka.refused_topics(&self.topics).await? {
            let why = match refusal {
                Refusal::Refused(why) => why,
                Refusal::Unknown(why) => {
                    notes.push(format!("whether the brokers make topic {name} again is not known: {why}"));
                    continue;
                }
            };
            let spec = self.topics.iter().find(|t| t.name == name);
            let with = spec.map(|t| {
                format!(
                    " with {}, {} and {:?}",
                    counted(t.partitions, "partition"),
                    counted(t.replication, "replica"),
                    t.settings
                )
            });
            return Err(RecoveryError::impossible(
                format!("topic {name}"),
                format!("brokers that make it again as it is{}", with.unwrap_or_default()),
                why,
                "give the topic settings that the brokers take, or let the missing brokers run",
            ));
        }
        Ok(notes)
    }

    /// A client that asks for a topic between its end and its beginning makes it with the brokers' defaults.
    async fn auto_creation(&self) -> Option<String> {
        match self.kafka.brokers_that_create_topics().await {
            Ok(brokers) if brokers.is_empty() => None,
            Ok(brokers) => {
                let brokers: Vec<String> = brokers.iter().map(ToString::to_string).collect();
                Some(format!(
                    "brokers {} make topics that clients ask for (auto.create.topics.enable=true): a client that asks for one of the data topics while they are gone gets it with other settings, and step recreate-topics then fails",
                    brokers.join(", ")
                ))
            }
            Err(error) => Some(format!("whether brokers make topics that clients ask for is not known: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::defaults(&[], "deleted 7 days after they are written (retention.ms=604800000)", false)]
    #[case::compacted(&[("cleanup.policy", "compact"), ("retention.ms", "1000")], "kept", false)]
    #[case::compacted_and_deleted(&[("cleanup.policy", "compact, delete"), ("retention.ms", "60000")], "deleted 60 s after they are written (retention.ms=60000)", true)]
    #[case::for_ever(&[("retention.ms", "-1")], "kept", false)]
    #[case::by_size(&[("retention.ms", "-1"), ("retention.bytes", "5")], "deleted beyond 5 bytes of a partition (retention.bytes)", false)]
    #[case::an_hour(&[("retention.ms", "3600000")], "deleted 1 h after they are written (retention.ms=3600000)", false)]
    #[case::at_once(&[("retention.ms", "0")], "deleted 0 s after they are written (retention.ms=0)", true)]
    fn what_settings_do_with_records(#[case] settings: &[(&str, &str)], #[case] shown: &str, #[case] short: bool) {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let retention = Retention::of(&settings);
        assert_eq!((retention.to_string().as_str(), retention.is_short()), (shown, short));
    }
}
