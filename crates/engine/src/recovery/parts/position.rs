//! Whether a position of a recovery point still means what it meant: the same topic, and an offset that it has.

use std::collections::BTreeMap;

use crate::{backup::TopicState, recovery::RecoveryError};
use cdc_model::units::{Offset, TopicPartition};
use cdc_pipeline::client::kafka::Kafka;

/// The topics of a point beside those that are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// The id that each topic of the point had; none in a point that did not ask.
    saved: BTreeMap<String, Option<String>>,
    now: BTreeMap<String, TopicNow>,
}

/// A topic that is there.
#[derive(Clone, Debug)]
struct TopicNow {
    id: Option<String>,
    /// The first and the next offset of each partition.
    marks: Vec<(Offset, Offset)>,
}

/// Why a position does not mean what it meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// In words.
    pub(super) why: String,
    /// Where a consumer begins if that is accepted, so that it is given every record that it may not have read; none where the topic has no
    /// such partition.
    pub(super) instead: Option<Offset>,
}

impl Positions {
    /// Asks for these topics.
    pub(super) async fn look(
        kafka: &Kafka,
        saved: &[TopicState],
        topics: impl IntoIterator<Item = String>,
    ) -> Result<Positions, RecoveryError> {
        let there = kafka.topics().await?;
        let mut names: Vec<String> = topics.into_iter().filter(|name| there.contains_key(name)).collect();
        names.sort();
        names.dedup();
        let mut ids = kafka.topic_ids(&names).await?;
        let mut now = BTreeMap::new();
        for name in names {
            let (id, marks) = (ids.remove(&name), kafka.watermarks(&name).await?);
            now.insert(name, TopicNow { id, marks });
        }
        Ok(Positions { saved: saved.iter().map(|t| (t.spec.name.clone(), t.id.clone())).collect(), now })
    }

    /// The topics that are there, with their numbers of partitions.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&String, &TopicNow)| {
            let topic_of = name.clone();
            (0..topic.marks.len() as i32)
                .map(move |partition| TopicPartition { topic: topic_of.clone(), partition })
                .collect::<Vec<_>>()
        };
        self.now.iter().flat_map(of).collect()
    }

    /// Why nothing of a topic is there.
    pub(super) fn absent(&self, topic: &str) -> Option<String> {
        (!self.now.contains_key(topic)).then(|| format!("topic {topic} is not there"))
    }

    /// Why a topic is not the one of the point; none where it is.
    pub(super) fn another(&self, topic: &str) -> Option<String> {
        let Some(now) = self.now.get(topic) else { return Some(format!("topic {topic} is not there")) };
        match (self.saved.get(topic).and_then(Option::as_ref), &now.id) {
            (Some(then), Some(id)) if then == id => None,
            (Some(then), Some(id)) => {
                Some(format!("topic {topic} is another one than that of the point: its id is {id}, and was {then}"))
            }
            (None, _) => {
                Some(format!("whether topic {topic} is that of the point is not known: the point does not have its id"))
            }
            (_, None) => {
                Some(format!("whether topic {topic} is that of the point is not known: the brokers do not say its id"))
            }
        }
    }

    /// Why the topic does not have a position, whichever topic it is; none where it does.
    pub(super) fn range_objection(&self, at: &TopicPartition, position: Offset) -> Option<String> {
        let marks = self.now.get(&at.topic).and_then(|now| now.marks.get(usize::try_from(at.partition).ok()?));
        match marks {
            None => Some(format!("topic {} has no partition {}", at.topic, at.partition)),
            Some((low, high)) if position < *low || position > *high => {
                Some(format!("position {position} in {at} is not among its offsets {low} to {high}"))
            }
            Some(_) => None,
        }
    }

    /// Judges a committed position.
    pub(super) fn judge(&self, at: &TopicPartition, position: Offset) -> Result<(), Misplaced> {
        let another = self.another(&at.topic);
        let Some(now) = self.now.get(&at.topic) else {
            return Err(Misplaced { why: another.unwrap_or_default(), instead: None });
        };
        let Some((low, high)) = usize::try_from(at.partition).ok().and_then(|p| now.marks.get(p)).copied() else {
            let why = format!("topic {} has no partition {}", at.topic, at.partition);
            return Err(Misplaced { why, instead: None });
        };
        let name = format!("partition {} of {}", at.partition, at.topic);
        if let Some(why) = another {
            // What stands in another topic was not read.
            let instead = if position > high { low } else { position.max(low) };
            return Err(Misplaced { why, instead: Some(instead) });
        }
        if position < low {
            let why =
                format!("position {position} of {name} lies before its first offset {low}: what was between is gone");
            return Err(Misplaced { why, instead: Some(low) });
        }
        if position > high {
            let why = format!("position {position} of {name} lies behind its end {high}");
            return Err(Misplaced { why, instead: Some(high) });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Topic `same` with offsets 5 to 9, `other` with another id and offsets 0 to 3, `untold` of a point without ids.
    pub(in super::super) fn positions() -> Positions {
        let now = |id: &str, low, high| TopicNow { id: Some(id.into()), marks: vec![(Offset(low), Offset(high))] };
        Positions {
            saved: BTreeMap::from([
                ("same".to_owned(), Some("A".to_owned())),
                ("other".to_owned(), Some("B".to_owned())),
                ("untold".to_owned(), None),
                ("gone".to_owned(), Some("D".to_owned())),
            ]),
            now: BTreeMap::from([
                ("same".to_owned(), now("A", 5, 9)),
                ("other".to_owned(), now("X", 0, 3)),
                ("untold".to_owned(), now("C", 0, 9)),
            ]),
        }
    }

    fn judged(topic: &str, partition: i32, position: i64) -> Result<(), Misplaced> {
        positions().judge(&TopicPartition { topic: topic.into(), partition }, Offset(position))
    }

    #[test]
    fn a_position_within_the_same_topic_means_what_it_meant() {
        for position in [5, 7, 9] {
            assert_eq!(judged("same", 0, position), Ok(()), "{position}");
        }
    }

    #[test]
    fn a_position_that_the_topic_does_not_have_is_misplaced() {
        let misplaced = |topic, partition, position| {
            let Misplaced { why, instead } = judged(topic, partition, position).unwrap_err();
            (why, instead.map(|o| o.0))
        };
        let (why, instead) = misplaced("same", 0, 4);
        assert!(why.contains("lies before its first offset 5") && instead == Some(5), "{why}");
        let (why, instead) = misplaced("same", 0, 10);
        assert!(why.contains("lies behind its end 9") && instead == Some(9), "{why}");
        assert_eq!(misplaced("same", 1, 5).1, None, "no such partition");
        assert_eq!(misplaced("gone", 0, 5), ("topic gone is not there".to_owned(), None));
    }

    #[test]
    fn a_position_in_another_topic_is_misplaced_wherever_it_lies() {
        let (why, instead) = judged("other", 0, 2).map_err(|m| (m.why, m.instead.map(|o| o.0))).unwrap_err();
        assert!(why.contains("another one than that of the point: its id is X, and was B"), "{why}");
        assert_eq!(instead, Some(2));
        assert_eq!(judged("other", 0, 8).unwrap_err().instead, Some(Offset(0)), "nothing of it was read");
        assert!(judged("untold", 0, 8).unwrap_err().why.contains("the point does not have its id"));
    }
}
