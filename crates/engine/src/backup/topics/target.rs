//! The topic that a replay writes to: with which settings it is made, and what is equal in it.

use std::collections::BTreeMap;

use super::batch::{Record, Timestamp};
use cdc_model::units::counted;
use cdc_pipeline::client::kafka::TopicSpec;

const MIN_IN_SYNC: &str = "min.insync.replicas";
/// By which a broker refuses records of another time.
const TIME_LIMITS: [&str; 3] =
    ["message.timestamp.difference.max.ms", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"];
/// What keeps every record, as it is, while a topic is filled.
const HELD: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("message.timestamp.type", "CreateTime"),
];

/// The specification of an archived topic for a cluster: under another name, with as many replicas as there are brokers at most. Says
/// what was fitted.
pub(crate) fn fitted(archived: &TopicSpec, name: &str, brokers: usize) -> (TopicSpec, Vec<String>) {
    let mut spec = TopicSpec { name: name.to_owned(), ..archived.clone() };
    let mut notes = Vec::new();
    let brokers = i32::try_from(brokers).unwrap_or(i32::MAX).max(1);
    if spec.replication > brokers {
        notes.push(format!(
            "{} instead of {}: the cluster has no more brokers",
            counted(brokers as u64, "replica"),
            spec.replication
        ));
        spec.replication = brokers;
    }
    if let Some(least) = spec.settings.get_mut(MIN_IN_SYNC)
        && least.parse::<i32>().is_ok_and(|least| least > spec.replication)
    {
        notes.push(format!("{MIN_IN_SYNC} {} instead of {least}", spec.replication));
        *least = spec.replication.to_string();
    }
    (spec, notes)
}

/// The settings that a topic has while it is filled: nothing is compacted, removed, stamped anew or refused for its time.
pub(crate) fn held(settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut held = settings.clone();
    held.retain(|key, _| !TIME_LIMITS.contains(&key.as_str()));
    held.extend(HELD.map(|(key, value)| (key.to_owned(), value.to_owned())));
    held
}

/// What of an archived record a record of the target is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    /// Whether the target's brokers stamp records themselves.
    pub(crate) stamped_anew: bool,
}

impl Comparison {
    /// What differs between an archived record and the one that was written for it.
    pub(crate) fn difference(self, archived: &Record, there: &Record) -> Option<&'static str> {
        // The client writes the present time for the beginning of the epoch.
        let is_kept = !self.stamped_anew && archived.timestamp.number() != 0;
        let number = |timestamp: Timestamp| timestamp.number();
        if archived.key != there.key {
            Some("another key")
        } else if archived.value != there.value {
            Some("another value")
        } else if archived.headers != there.headers {
            Some("other headers")
        } else if is_kept && number(archived.timestamp) != number(there.timestamp) {
            Some("another timestamp")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::topics::segment::tests::record;

    fn spec(settings: &[(&str, &str)]) -> TopicSpec {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TopicSpec { name: "t".into(), partitions: 2, replication: 3, settings }
    }

    #[test]
    fn replicas_are_fitted_to_the_cluster_and_it_is_noted() {
        let archived = spec(&[(MIN_IN_SYNC, "2"), ("retention.ms", "5")]);
        let (same, notes) = fitted(&archived, "t", 3);
        assert_eq!((same, notes.len()), (archived.clone(), 0));
        let (small, notes) = fitted(&archived, "u", 1);
        assert_eq!((small.name.as_str(), small.partitions, small.replication), ("u", 2, 1));
        assert_eq!((small.settings[MIN_IN_SYNC].as_str(), small.settings["retention.ms"].as_str()), ("1", "5"));
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn a_topic_keeps_everything_while_it_is_filled() {
        let settings = spec(&[
            ("cleanup.policy", "compact"),
            ("retention.ms", "5"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.before.max.ms", "5"),
            ("compression.type", "zstd"),
        ]);
        let held = held(&settings.settings);
        let expected = "cleanup.policy=delete compression.type=zstd message.timestamp.type=CreateTime retention.bytes=-1 \
                        retention.ms=-1";
        let text: Vec<String> = held.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn every_part_of_a_record_is_compared() {
        let strict = Comparison { stamped_anew: false };
        let archived = record(5, "x");
        let mut there = record(0, "x");
        (there.key, there.timestamp) = (archived.key.clone(), archived.timestamp);
        assert_eq!(strict.difference(&archived, &there), None, "the offset is another one");
        there.timestamp = Timestamp::Appended(archived.timestamp.number());
        assert_eq!(strict.difference(&archived, &there), None, "whose clock it was is a setting");
        let mut planted = Vec::new();
        for change in 0..5 {
            let mut other = there.clone();
            match change {
                0 => other.key = None,
                1 => other.value = Some(vec![]),
                2 => other.headers = vec![("h".into(), None)],
                3 => other.timestamp = Timestamp::Created(1),
                _ => other.value = None,
            }
            planted.push(strict.difference(&archived, &other).unwrap());
        }
        assert_eq!(planted, ["another key", "another value", "other headers", "another timestamp", "another value"]);
        there.timestamp = Timestamp::Created(1);
        assert_eq!(Comparison { stamped_anew: true }.difference(&archived, &there), None);
    }

    #[test]
    fn the_order_of_headers_counts() {
        let of = |headers: &[(&str, Option<&[u8]>)]| {
            let mut with = record(1, "x");
            with.headers = headers.iter().map(|(k, v)| ((*k).to_owned(), v.map(<[u8]>::to_vec))).collect();
            with
        };
        let strict = Comparison { stamped_anew: false };
        let (one, other) = (of(&[("a", None), ("a", Some(b""))]), of(&[("a", Some(b"")), ("a", None)]));
        assert_eq!(strict.difference(&one, &other), Some("other headers"));
    }
}
