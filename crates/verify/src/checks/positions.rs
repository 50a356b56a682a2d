//! `positions`: offsets, slots, publications, topics and groups stand where they must.

use std::collections::BTreeMap;

use crate::{
    fold::{PartitionFold, TopicFold},
    observation::{ConnectorView, Expectation, Observation, Unidentified},
};
use cdc_model::{
    event::{About, CheckReport, Evidence, Finding, FindingKind},
    units::{Offset, TopicPartition, Verdict, counted},
    vocabulary::CheckId,
};
use cdc_pipeline::client::{kafka::TopicSpec, postgres::Slot};

/// Looks at every connector's status, stored offset and slot, and at topics and groups.
pub fn positions(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    let mut compared = 0;
    for connector in &seen.connectors {
        compared += 1;
        findings.extend(status(connector));
        findings.extend(slot(seen, connector));
        findings.extend(offset(seen, connector, &mut notes));
        // A server that does not answer was not asked.
        if !matches!(seen.server, Some(Err(_))) {
            findings.extend(publication(connector));
        }
    }
    for (name, spec) in &expected.specs {
        compared += 1;
        findings.extend(settings(spec, seen.specs.get(name)));
    }
    for (name, spec) in seen.specs.iter().filter(|(name, _)| !expected.specs.contains_key(*name)) {
        for (setting, value) in &expected.topic_settings {
            compared += 1;
            let found = spec.settings.get(setting);
            if found != Some(value) {
                findings.push(about_setting(name, setting, Some(value.clone()), found.cloned(), ["unset"; 2]));
            }
        }
    }
    for (group, offsets) in &expected.groups {
        compared += seen.topics.len() as u64;
        findings.extend(seen.topics.iter().filter_map(|(topic, fold)| missed(seen, group, offsets, topic, fold)));
    }
    for (group, offsets) in &expected.groups {
        for (partition, offset) in offsets {
            compared += 1;
            let found = seen.groups.get(group).and_then(|g| g.get(partition));
            if found != Some(offset) {
                findings.push(Finding {
                    topic: Some(partition.topic.clone()),
                    partition: Some(partition.partition),
                    offset: found.copied(),
                    subject: Some(About::Group(group.clone())),
                    expected: Some(format!("committed offset {offset}")),
                    found: Some(found.map_or("none".into(), Offset::to_string)),
                    evidence: Some(Evidence::Committed { expected: *offset, found: found.copied() }),
                    ..Finding::new(FindingKind::Position)
                });
            }
        }
    }
    for (topic, before) in &expected.cleared_histories {
        compared += 1;
        let now = seen.histories.get(topic);
        let left = now.map(|records| records.iter().filter(|r| before.contains(r)).count() as u64);
        if left != Some(0) {
            findings.push(Finding {
                topic: Some(topic.clone()),
                expected: Some("a schema history without the abandoned timeline's records".into()),
                found: Some(left.map_or("no such topic".into(), |left| {
                    format!("{left} from before the recovery", left = counted(left, "record"))
                })),
                evidence: Some(Evidence::History { left }),
                ..Finding::new(FindingKind::Position)
            });
        }
    }
    if let Some(Err(why)) = &seen.server {
        findings.push(Finding {
            subject: Some(About::System("postgres".into())),
            expected: Some("a server that answers".into()),
            found: Some(why.clone()),
            ..Finding::new(FindingKind::Dead)
        });
    }
    notes.insert(0, format!("{compared} compared: connectors, topics and group offsets"));
    notes.splice(0..0, seen.unidentified.iter().map(unidentified));
    let report = CheckId::Positions.report(compared, notes, findings);
    // The slot of a connector that was not looked at may be what is lost, and an offset that was not read may be ahead of the server.
    let unseen = seen.unidentified.iter().any(|one| !one.excluded)
        || seen.connectors.iter().any(|connector| connector.offsets_unread.is_some());
    let undecided = report.verdict == Verdict::Passed && unseen;
    if undecided { CheckReport { verdict: Verdict::Inconclusive, ..report } } else { report }
}

fn unidentified(one: &Unidentified) -> String {
    let Unidentified { connector, why, excluded } = one;
    if *excluded {
        return format!("connector {connector} was not looked at: {why}");
    }
    format!(
        "connector {connector} may read from this server, and was not looked at: {why} (name the connectors of this pipeline with --connector, or let [postgres] url have the host that this one names)"
    )
}

/// Whether something is dead, so that waiting is of no use.
pub fn dead(seen: &Observation) -> bool {
    seen.connectors.iter().any(|connector| {
        let failed = status(connector).is_some_and(|f| f.kind == FindingKind::Dead && is_final(connector));
        let slotless = slot_of(seen, connector).is_none_or(|slot| slot.invalidated().is_some());
        failed || (slotless && matches!(seen.server, Some(Ok(_)))) || matches!(seen.server, Some(Err(_)))
    })
}

/// A task that restarts may come back; one that failed does not.
fn is_final(connector: &ConnectorView) -> bool {
    match &connector.status {
        Ok(status) => status.failure().is_some() || matches!(status.connector.state.as_str(), "STOPPED" | "PAUSED"),
        Err(_) => true,
    }
}

fn status(connector: &ConnectorView) -> Option<Finding> {
    let found = match &connector.status {
        Ok(status) if status.all_running() => return None,
        Ok(status) => status.failure().unwrap_or_else(|| status.summary()),
        Err(why) => why.clone(),
    };
    Some(Finding {
        subject: Some(About::Connector(connector.settings.name.clone())),
        expected: Some("connector and task RUNNING".into()),
        found: Some(found),
        ..Finding::new(FindingKind::Dead)
    })
}

fn slot_of<'o>(seen: &'o Observation, connector: &ConnectorView) -> Option<&'o Slot> {
    seen.slots.iter().find(|s| s.name == connector.settings.slot)
}

fn slot(seen: &Observation, connector: &ConnectorView) -> Vec<Finding> {
    let about = |kind, expected: &str, found: String| Finding {
        subject: Some(About::Slot(connector.settings.slot.to_string())),
        expected: Some(expected.to_owned()),
        found: Some(found),
        ..Finding::new(kind)
    };
    if !matches!(seen.server, Some(Ok(_))) {
        return Vec::new();
    }
    let Some(slot) = slot_of(seen, connector) else {
        return vec![about(FindingKind::Dead, "the connector's replication slot", "no such slot".into())];
    };
    let mut findings = Vec::new();
    if let Some(reason) = slot.invalidated() {
        findings.push(about(
            FindingKind::Dead,
            "a slot whose WAL is reserved",
            format!("wal_status {}, invalidated: {reason}", slot.wal_status.as_deref().unwrap_or("unknown")),
        ));
    } else if !matches!(slot.wal_status.as_deref(), Some("reserved" | "extended")) {
        let found = format!("wal_status {}", slot.wal_status.as_deref().unwrap_or("unknown"));
        findings.push(about(FindingKind::Position, "a slot whose WAL is reserved", found));
    }
    if !slot.active {
        findings.push(about(FindingKind::Dead, "an active slot", "no one streams from it".into()));
    }
    if slot
        .database
        .as_ref()
        .is_some_and(|d| !connector.settings.database.is_empty() && *d != connector.settings.database)
    {
        let found = format!("a slot of database {}", slot.database.as_deref().unwrap_or_default());
        findings.push(about(
            FindingKind::Position,
            &format!("a slot of database {}", connector.settings.database),
            found,
        ));
    }
    findings
}

/// A stored offset that is ahead of the server belongs to an abandoned timeline: what is committed below it never arrives.
fn offset(seen: &Observation, connector: &ConnectorView, notes: &mut Vec<String>) -> Vec<Finding> {
    let name = &connector.settings.name;
    let Some(Ok(server)) = &seen.server else { return Vec::new() };
    if let Some(why) = &connector.offsets_unread {
        notes.push(format!("offsets of connector {name} cannot be read: {why}"));
        return Vec::new();
    }
    let Some(stored) = connector.stored_lsn() else {
        notes.push(format!("connector {name} has stored no offset yet"));
        return Vec::new();
    };
    let about = |expected: String, found: String| Finding {
        subject: Some(About::Connector(name.clone())),
        lsn: Some(stored),
        expected: Some(expected),
        found: Some(found),
        ..Finding::new(FindingKind::Position)
    };
    let mut findings = Vec::new();
    if stored > server.lsn {
        findings.push(about(
            format!("a stored offset at or below the server's end of WAL, {}", server.lsn),
            format!("{stored}, {} ahead", counted(stored.bytes_since(server.lsn), "byte")),
        ));
    }
    if let Some(slot) = slot_of(seen, connector)
        && let Some(confirmed) = slot.confirmed_flush_lsn
        && confirmed > server.lsn
    {
        findings.push(about(
            format!("a slot at or below the server's end of WAL, {}", server.lsn),
            format!("slot {} confirmed {confirmed}", slot.name),
        ));
    }
    findings
}

fn publication(connector: &ConnectorView) -> Vec<Finding> {
    let name = &connector.settings.publication;
    let mut findings = Vec::new();
    if !connector.publication {
        findings.push(Finding {
            subject: Some(About::Publication(name.clone())),
            expected: Some("the connector's publication".into()),
            found: Some("no such publication".into()),
            ..Finding::new(FindingKind::Dead)
        });
    }
    for table in &connector.unpublished {
        findings.push(Finding {
            table: Some(table.clone()),
            subject: Some(About::Publication(name.clone())),
            expected: Some("every table that the connector chooses in the publication".into()),
            found: Some("not in it: its changes never arrive".into()),
            ..Finding::new(FindingKind::Position)
        });
    }
    findings
}

/// A consumer of the group must be given every record that stands in the topic: whoever begins behind a rebuilt topic's
/// snapshot never learns of it, and nothing says so. Where topics were not rebuilt, the group goes on behind what it has committed.
fn missed(
    seen: &Observation,
    group: &str,
    offsets: &BTreeMap<TopicPartition, Offset>,
    topic: &str,
    fold: &TopicFold,
) -> Option<Finding> {
    let partition = |p: &PartitionFold| TopicPartition { topic: topic.to_owned(), partition: p.partition };
    let given = |p: &PartitionFold| {
        seen.consumed.get(group).and_then(|all| all.get(&partition(p))).copied().unwrap_or_default()
    };
    let all_of = |p: &&PartitionFold| offsets.get(&partition(p)).is_none_or(|offset| *offset == Offset(0));
    let began = |p: &PartitionFold| match given(p).first {
        Some(offset) => format!("{} began at offset {offset}", p.partition),
        None => format!("{} gave nothing", p.partition),
    };
    // One finding a topic: which of a small topic's partitions hold a record at all is up to the keys' hashes.
    let rebuilt: Vec<&PartitionFold> = fold.partitions.iter().filter(all_of).collect();
    let short: Vec<String> = rebuilt.iter().filter(|p| given(p).records != p.records).map(|p| began(p)).collect();
    let all: u64 = rebuilt.iter().map(|p| p.records).sum();
    let got: u64 = rebuilt.iter().map(|p| given(p).records).sum();
    (!short.is_empty()).then(|| Finding {
        topic: Some(topic.to_owned()),
        subject: Some(About::Group(group.to_owned())),
        expected: Some(format!(
            "a consumer of the group is given all {all}, from the first",
            all = counted(all, "record")
        )),
        found: Some(format!("it is given {got}: partition {}", short.join(", "))),
        ..Finding::new(FindingKind::Position)
    })
}

/// A setting of a topic, or the topic itself, with the words for one that is absent on either side.
fn about_setting(
    topic: &str,
    subject: &str,
    expected: Option<String>,
    found: Option<String>,
    absent: [&str; 2],
) -> Finding {
    Finding {
        topic: Some(topic.to_owned()),
        subject: Some(About::TopicSetting(subject.to_owned())),
        expected: Some(expected.clone().unwrap_or_else(|| absent[0].to_owned())),
        found: Some(found.clone().unwrap_or_else(|| absent[1].to_owned())),
        evidence: Some(Evidence::Setting { expected, found }),
        ..Finding::new(FindingKind::Setting)
    }
}

fn settings(expected: &TopicSpec, found: Option<&TopicSpec>) -> Vec<Finding> {
    let topic = &expected.name;
    let Some(found) = found else {
        return vec![about_setting(topic, "topic", Some("a topic".into()), None, ["", "no such topic"])];
    };
    let mut findings = Vec::new();
    let mut compare = |name: &str, was: Option<String>, is: Option<String>| {
        if was != is {
            findings.push(about_setting(topic, name, was, is, ["unset"; 2]));
        }
    };
    compare("partitions", Some(expected.partitions.to_string()), Some(found.partitions.to_string()));
    compare("replication", Some(expected.replication.to_string()), Some(found.replication.to_string()));
    let names: std::collections::BTreeSet<&String> = expected.settings.keys().chain(found.settings.keys()).collect();
    for name in names {
        compare(name, expected.settings.get(name).cloned(), found.settings.get(name).cloned());
    }
    findings
}
