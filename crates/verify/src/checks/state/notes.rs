//! What a connector leaves out, and topics that are compared with no table.

use crate::observation::{ConnectorView, Orphan, OrphanKind};
use cdc_model::event::{Finding, FindingKind};
use cdc_model::units::counted;
use cdc_pipeline::debezium::{Inheritance, Stream};

/// What a person should know of how a connector writes, and of what is not compared.
pub(super) fn connector_notes(connector: &ConnectorView, notes: &mut Vec<String>) {
    let name = &connector.settings.name;
    for mask in &connector.settings.masks {
        notes.push(format!("connector {name} changes values on their way: {mask}; differences there are its own"));
    }
    for filter in connector.settings.column_filter.iter().chain(&connector.settings.row_filter) {
        notes.push(format!("connector {name} leaves data out: {filter}"));
    }
    if connector.settings.unwrap.as_ref().is_some_and(|u| u.drops_deletes) {
        notes.push(format!("connector {name} drops deletes: a deleted row stays in its topic for ever"));
    }
    coverage_notes(connector, notes);
    if !connector.uncaptured.is_empty() {
        let tables: Vec<String> = connector.uncaptured.iter().map(ToString::to_string).collect();
        let publication = &connector.settings.publication;
        notes.push(format!(
            "neither in publication {publication} nor in a topic, and not compared: {}",
            tables.join(", ")
        ));
    }
    for orphan in connector.orphans.iter().filter(|orphan| ghosts(orphan).is_none()) {
        let Orphan { topic, records, kind } = orphan;
        let why = match kind {
            OrphanKind::Elsewhere(table) => format!("changes of {table} go to other topics"),
            OrphanKind::LeftOut(table) => {
                format!("the connector's lists leave {table} out: its changes do not arrive")
            }
            OrphanKind::Gone { table, .. } => format!("there is no table {table}"),
            OrphanKind::Unexplained => "its name does not tell of which table they are".to_owned(),
        };
        notes.push(format!(
            "topic {topic} has {records} and {why}: not compared",
            records = counted(*records, "record")
        ));
    }
    notes.extend(connector.notes.iter().cloned());
}

/// What the publication does not send, of that what the connector would write.
fn coverage_notes(connector: &ConnectorView, notes: &mut Vec<String>) {
    let publication = &connector.settings.publication;
    let coverage = &connector.coverage;
    if !coverage.unpublished_operations.is_empty() {
        notes.push(format!(
            "publication {publication} does not publish {}: such changes never arrive, and are found when they have been made",
            coverage.unpublished_operations
        ));
    }
    for entry in &coverage.unmatched {
        notes.push(format!("{entry} matches no table, or none that the connector's other lists take"));
    }
    for table in &coverage.tables {
        let name = &table.relation.name;
        if let Stream::Own(member) = &table.stream
            && let Some(filter) = &member.filter
        {
            notes.push(format!(
                "{name} is published where {filter}: other rows come with snapshots alone, and none of their changes arrives"
            ));
        }
        if table.stream == Stream::Elsewhere(Vec::new()) {
            notes.push(format!("{name} is partitioned and has no partitions, and so no rows to compare"));
        }
        if table.relation.inheritance == Inheritance::Parent {
            notes.push(format!(
                "other tables inherit from {name}: snapshots write their rows to its topic too, and none of their changes arrives there"
            ));
        }
        if !table.snapshot {
            notes.push(format!("{name} is not in snapshot.include.collection.list: snapshots leave it out"));
        }
    }
}

/// A table that the connector's list names is gone, and its rows are in the topic.
pub(super) fn ghosts(orphan: &Orphan) -> Option<Finding> {
    let OrphanKind::Gone { table, named: true } = &orphan.kind else { return None };
    Some(Finding {
        table: Some(table.clone()),
        topic: Some(orphan.topic.clone()),
        expected: Some("a table that the connector's list names, or no records".into()),
        found: Some(format!("no such table, and {}", counted(orphan.records, "record"))),
        ..Finding::new(FindingKind::Ghost)
    })
}
