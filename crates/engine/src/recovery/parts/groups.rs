//! The positions of consumer groups.

use std::collections::{BTreeMap, BTreeSet};

use super::{PartChange, PartRequest, position::Positions};
use crate::{
    backup::{BackupError, GroupState, Point, TopicState},
    recovery::RecoveryError,
};
use cdc_model::{
    moment,
    units::{Offset, TopicPartition, counted},
};
use cdc_pipeline::{
    attach,
    client::kafka::{Group, Kafka},
    config::Config,
};

/// What has just been done, of one group.
pub(super) const MOMENTS: [&str; 3] = [moment::BEFORE, "committed", moment::AFTER];

/// What a point has of groups.
#[derive(Debug)]
pub(super) struct Saved {
    groups: Vec<GroupState>,
    topics: Vec<TopicState>,
    /// What could not be captured, in words.
    gaps: Vec<String>,
}

impl Saved {
    pub(super) fn of(point: &Point) -> Result<Saved, BackupError> {
        let gaps = point.manifest.kafka.get().map(|facts| facts.gaps.clone()).unwrap_or_default();
        Ok(Saved { groups: point.groups()?, topics: point.topics()?, gaps })
    }
}

/// The positions that will be committed.
#[derive(Debug)]
pub(super) struct Plan {
    kafka: Kafka,
    wanted: Vec<(String, Vec<(TopicPartition, Offset)>)>,
    pub(super) changes: Vec<PartChange>,
    pub(super) unchanged: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Looks at groups and topics. Refuses groups with members, and positions that do not mean what they meant.
pub(super) async fn plan(config: &Config, request: &PartRequest, saved: Saved) -> Result<Plan, RecoveryError> {
    let kafka = Kafka::of(&config.kafka)?;
    kafka.takes_connections().await?;
    let Saved { groups, topics, gaps } = saved;
    let groups = request.select(groups, |group| &group.name)?;
    refuse_uncaptured(&groups, &gaps)?;
    let concerned: BTreeSet<String> = groups.iter().flat_map(|g| g.offsets.iter().map(|o| o.topic.clone())).collect();
    attach::within(config, "topic", concerned.iter().map(String::as_str))?;
    let positions = Positions::look(&kafka, &topics, concerned).await?;
    let there = kafka.groups().await?;
    let mut plan = Plan { kafka, wanted: Vec::new(), changes: Vec::new(), unchanged: Vec::new(), notes: gaps };
    let (mut misplaced, mut doubtful) = (Vec::new(), BTreeSet::new());
    for group in groups {
        let Placed { wanted, refused, notes } = placed(&group, &positions, &request.accept_topics);
        plan.notes.extend(notes);
        for (topic, why) in refused {
            misplaced.push(format!("group {}: {why}", group.name));
            doubtful.insert(topic);
        }
        let now: BTreeMap<TopicPartition, Offset> =
            plan.kafka.group_offsets(&group.name, &positions.partitions()).await?.into_iter().collect();
        let kept =
            now.keys().filter(|at| !group.offsets.iter().any(|o| o.topic == at.topic && o.partition == at.partition));
        plan.notes.extend(
            kept.map(|at| {
                format!("group {}: its position in {at} is not in the point, and is left as it is", group.name)
            }),
        );
        let moves: Vec<(TopicPartition, Offset)> =
            wanted.into_iter().filter(|(at, offset)| now.get(at) != Some(offset)).collect();
        if moves.is_empty() {
            plan.unchanged.push(group.name);
            continue;
        }
        refuse_members(&there, &group.name)?;
        plan.changes.push(change(&group.name, &moves, &now));
        plan.wanted.push((group.name, moves));
    }
    match misplaced.is_empty() {
        true => Ok(plan),
        false => Err(RecoveryError::Refused {
            what: format!("positions that would not mean what they meant: {}", misplaced.join("; ")),
            hint: format!(
                "to set them all the same, so that no record is passed over that may not have been read, give {}",
                doubtful.iter().map(|topic| format!("--accept-topic {topic}")).collect::<Vec<_>>().join(" ")
            ),
        }),
    }
}

/// Where the positions of a group come to be.
struct Placed {
    wanted: Vec<(TopicPartition, Offset)>,
    /// Topics, and why positions in them cannot be set.
    refused: Vec<(String, String)>,
    notes: Vec<String>,
}

fn placed(group: &GroupState, positions: &Positions, accepted: &BTreeSet<String>) -> Placed {
    let mut placed = Placed { wanted: Vec::new(), refused: Vec::new(), notes: Vec::new() };
    for saved in &group.offsets {
        let at = TopicPartition { topic: saved.topic.clone(), partition: saved.partition };
        match positions.judge(&at, saved.offset) {
            Ok(()) => placed.wanted.push((at, saved.offset)),
            Err(misplaced) if !accepted.contains(&at.topic) => placed.refused.push((at.topic, misplaced.why)),
            Err(misplaced) => {
                let becomes = match misplaced.instead {
                    Some(offset) if offset == saved.offset => format!("is set to {offset} as it was"),
                    Some(offset) => format!("is set to {offset} instead of {}", saved.offset),
                    None => "is not set".to_owned(),
                };
                placed
                    .notes
                    .push(format!("group {}: accepted: {}: its position in {at} {becomes}", group.name, misplaced.why));
                placed.wanted.extend(misplaced.instead.map(|offset| (at, offset)));
            }
        }
    }
    placed
}

/// Where a group's positions could not be captured, the point has none of them, and that is not to be taken for a group that had none.
fn refuse_uncaptured(groups: &[GroupState], gaps: &[String]) -> Result<(), RecoveryError> {
    for group in groups {
        let own = format!("offsets of group {}: ", group.name);
        if let Some(gap) = gaps.iter().find(|gap| gap.starts_with(&own)) {
            return Err(RecoveryError::impossible(
                format!("group {}", group.name),
                "a point that has its positions",
                format!("one that could not capture them: {gap}"),
                "`backup list` shows other points: --point ID",
            ));
        }
    }
    Ok(())
}

fn refuse_members(there: &[Group], name: &str) -> Result<(), RecoveryError> {
    let Some(group) = there.iter().find(|group| group.name == name) else { return Ok(()) };
    let found = match &group.untold {
        Some(untold) => untold.to_string(),
        None if group.members.is_empty() => return Ok(()),
        None => format!("{} ({})", group.members.join(", "), group.state),
    };
    Err(RecoveryError::impossible(
        format!("group {name}"),
        "no members: brokers do not take positions for a group that reads",
        found,
        "stop its consumers (a sink's group is its connector's: `PUT /connectors/NAME/stop`), or name other groups",
    ))
}

fn change(name: &str, moves: &[(TopicPartition, Offset)], now: &BTreeMap<TopicPartition, Offset>) -> PartChange {
    let does = moves.iter().map(|(at, to)| match now.get(at) {
        None => format!("sets its position in {at} to {to}; it has none now"),
        Some(from) if from > to => {
            let again = counted(from.0.saturating_sub(to.0) as u64, "offset");
            format!("sets its position in {at} from {from} back to {to}: {again} are read again")
        }
        Some(from) => {
            let passed = counted(to.0.saturating_sub(from.0) as u64, "offset");
            format!("sets its position in {at} from {from} on to {to}: {passed} are not read")
        }
    });
    let positions = moves.iter().filter(|(at, _)| now.contains_key(at)).count();
    let destroys = (positions > 0).then(|| format!("{} of group {name}", counted(positions, "present position")));
    PartChange { name: name.to_owned(), does: does.collect(), destroys: destroys.into_iter().collect() }
}

impl Plan {
    /// Commits the positions, and reads them back.
    pub(super) async fn run(&self) -> Result<Vec<String>, RecoveryError> {
        let mut said = Vec::new();
        for (group, wanted) in &self.wanted {
            self.kafka.commit_group_offsets(group, wanted).await?;
            moment::pass("committed").await?;
            let all: Vec<TopicPartition> = wanted.iter().map(|(at, _)| at.clone()).collect();
            let found: BTreeMap<TopicPartition, Offset> =
                self.kafka.group_offsets(group, &all).await?.into_iter().collect();
            if let Some((at, to)) = wanted.iter().find(|(at, to)| found.get(at) != Some(to)) {
                let found = found.get(at).map_or_else(|| "none".to_owned(), ToString::to_string);
                return Err(RecoveryError::unmet(
                    "restore groups",
                    format!("position {to} of group {group} in {at}"),
                    found,
                ));
            }
            said.push(format!("group {group}: {} read back", counted(wanted.len(), "position")));
            moment::pass(moment::AFTER).await?;
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::position::tests::positions, *};
    use crate::backup::GroupOffset;
    use cdc_model::units::{Exit, Failure};

    fn group(offsets: &[(&str, i64)]) -> GroupState {
        let offset = |(topic, offset): &(&str, i64)| GroupOffset {
            topic: (*topic).into(),
            partition: 0,
            offset: Offset(*offset),
        };
        GroupState {
            name: "app".into(),
            state: "Empty".into(),
            members: vec![],
            offsets: offsets.iter().map(offset).collect(),
        }
    }

    #[test]
    fn what_is_accepted_is_accepted_by_the_name_of_its_topic() {
        let group = group(&[("same", 7), ("other", 8), ("gone", 1)]);
        let all = |accepted: &[&str]| placed(&group, &positions(), &accepted.iter().map(|t| (*t).to_owned()).collect());
        let refused: Vec<String> = all(&[]).refused.into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(refused, ["other", "gone"]);
        let one = all(&["other"]);
        assert_eq!(one.refused.len(), 1);
        assert!(one.notes[0].contains("is set to 0 instead of 8"), "{:?}", one.notes);
        let both = all(&["other", "gone"]);
        let wanted: Vec<(String, i64)> = both.wanted.into_iter().map(|(at, o)| (at.topic, o.0)).collect();
        assert_eq!(wanted, [("same".to_owned(), 7), ("other".to_owned(), 0)]);
        assert!(both.refused.is_empty() && both.notes[1].ends_with("is not set"), "{:?}", both.notes);
    }

    #[test]
    fn positions_that_could_not_be_captured_are_not_taken_for_none() {
        let gaps = ["offsets of group app: not authorized".to_owned()];
        let error = refuse_uncaptured(&[group(&[])], &gaps).unwrap_err();
        assert_eq!(error.exit(), Exit::PlanImpossible);
        let other = ["offsets of group application: not authorized".to_owned()];
        refuse_uncaptured(&[group(&[])], &other).unwrap();
    }

    #[test]
    fn a_group_with_members_is_refused_and_so_is_one_of_which_that_is_not_known() {
        let group = |members: &[&str], untold| Group {
            name: "app".into(),
            state: "Stable".into(),
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            topics: BTreeSet::new(),
            untold,
        };
        use cdc_pipeline::client::kafka::Untold;
        refuse_members(&[group(&[], None)], "app").unwrap();
        refuse_members(&[group(&["c@h"], None)], "another").unwrap();
        for there in [group(&["c@h"], None), group(&[], Some(Untold::Protocol))] {
            assert_eq!(refuse_members(&[there], "app").unwrap_err().exit(), Exit::PlanImpossible);
        }
    }
}
