//! Connectors as a recovery point has them, compared with those of the worker.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    backup::{Point, SavedConnector},
    recovery::RecoveryError,
};
use cdc_model::units::is_secret_setting;
use cdc_pipeline::{
    client::{
        cluster::is_postgres,
        connect::{ConnectorConfig, ConnectorStatus, StateOf},
    },
    debezium::Connector,
};

/// The recovery point's connectors; none where it has no part of Connect.
pub(super) fn saved(point: Option<&Point>) -> Result<Vec<SavedConnector>, RecoveryError> {
    Ok(match point {
        Some(point) if point.manifest.connect.get().is_some() => point.connectors()?,
        _ => Vec::new(),
    })
}

/// The configuration and state of a connector that the worker does not have, as it will be made again. One whose state was not
/// known ran.
pub(super) fn as_described(saved: &SavedConnector) -> (ConnectorConfig, ConnectorStatus) {
    let at_rest = ["PAUSED", "STOPPED"].contains(&saved.state.as_str());
    let state = if at_rest { saved.state.clone() } else { "RUNNING".to_owned() };
    let status = ConnectorStatus {
        name: saved.name.clone(),
        connector: StateOf { state, trace: None },
        tasks: Vec::new(),
        kind: saved.kind.clone(),
    };
    (saved.config.clone(), status)
}

/// Whether two PostgreSQL connectors read from the same slot, as far as their settings say.
pub(in crate::recovery) fn has_same_slot(a: &ConnectorConfig, b: &ConnectorConfig) -> bool {
    let server = |config: &ConnectorConfig| {
        let text = |key: &str| config.get(key).cloned().unwrap_or_default();
        (text("database.hostname"), text("database.port"), text("database.dbname"), Connector::of(config).slot)
    };
    is_postgres(a) && is_postgres(b) && server(a) == server(b)
}

/// The note on a connector that is made again.
pub(super) fn restored_note(name: &str, point: &str) -> String {
    format!("connector {name} is not on the worker: it is made again, STOPPED, as recovery point {point} has it")
}

/// The note on a connector that the worker does not have and that is not made again. `rebuilt` are the topics of the recovery.
pub(super) fn missing_note(connector: &SavedConnector, rebuilt: &[String], point: &str) -> String {
    let SavedConnector { name, kind, topics, .. } = connector;
    let topics: Vec<&str> =
        topics.iter().map(String::as_str).filter(|t| kind == "sink" || !rebuilt.iter().any(|r| r == t)).collect();
    let topics = match topics.is_empty() {
        true => "no topic that is not rebuilt".to_owned(),
        false => format!("topics {}", topics.join(", ")),
    };
    let meaning = match kind.as_str() {
        "sink" => format!("it read {topics}"),
        _ => format!(
            "it wrote {topics}, which no connector fills again and which are left as they are; made again by its name it would go on from its old offset"
        ),
    };
    format!(
        "connector {name} of recovery point {point} is not on the worker: {meaning} (--restore-connectors makes it again, STOPPED, and recovers it too)"
    )
}

/// Requires that a recovery which finds no connector at all is not one that passes over those that there were.
pub(super) fn refuse_none(found: usize, missing: &[&SavedConnector], point: &str) -> Result<(), RecoveryError> {
    if found > 0 || missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|c| c.name.as_str()).collect();
    Err(RecoveryError::impossible(
        format!("source connectors of this cluster (recovery point {point} has {})", names.join(", ")),
        "at least one of them on the worker",
        "none: they were deleted, or the worker lost its configurations",
        "--restore-connectors makes them again, STOPPED, as the recovery point has them",
    ))
}

/// Settings by which a connector reads from somewhere else, or writes to somewhere else.
const DECISIVE: [&str; 20] = [
    "connector.class",
    "database.hostname",
    "database.port",
    "database.dbname",
    "slot.name",
    "publication.name",
    "publication.autocreate.mode",
    "topic.prefix",
    "topic.delimiter",
    "topic.naming.strategy",
    "schema.include.list",
    "schema.exclude.list",
    "table.include.list",
    "table.exclude.list",
    "column.include.list",
    "column.exclude.list",
    "snapshot.include.collection.list",
    "skipped.operations",
    "key.converter",
    "value.converter",
];

/// In what a connector's present settings differ from those of the recovery point, of those that decide what it captures and
/// where its records go: `slot.name=b (was a)`.
pub(super) fn changed(now: &ConnectorConfig, then: &ConnectorConfig) -> Vec<String> {
    let decisive = |key: &&String| DECISIVE.contains(&key.as_str()) || key.starts_with("transforms");
    let keys: BTreeSet<&String> = now.keys().chain(then.keys()).filter(decisive).collect();
    let shown = |config: &ConnectorConfig, key: &String| match config.get(key) {
        Some(_) if is_secret_setting(key) => "***".to_owned(),
        Some(value) => value.clone(),
        None => "unset".to_owned(),
    };
    let differing = keys.into_iter().filter(|key| now.get(*key) != then.get(*key));
    differing.map(|key| format!("{key}={} (was {})", shown(now, key), shown(then, key))).collect()
}

/// The note on them.
pub(super) fn changed_note(name: &str, now: &ConnectorConfig, then: &ConnectorConfig, point: &str) -> Option<String> {
    let changed = changed(now, then);
    if changed.is_empty() {
        return None;
    }
    let slots = (Connector::of(now).slot, Connector::of(then).slot);
    let left = match slots.0 == slots.1 {
        true => String::new(),
        false => format!("; slot {} may be left over, and then holds WAL back", slots.1),
    };
    Some(format!(
        "connector {name} is recovered as it is now; since recovery point {point} it was given {}{left}",
        changed.join(", ")
    ))
}

/// The configurations by which connectors are made again, of those that the recovery is concerned with.
pub(super) fn restored<'c>(
    absent: &[SavedConnector],
    concerned: impl Iterator<Item = &'c String>,
) -> BTreeMap<String, ConnectorConfig> {
    let concerned: BTreeSet<&String> = concerned.collect();
    let of = absent.iter().filter(|c| concerned.contains(&c.name));
    of.map(|c| (c.name.clone(), c.config.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;

    fn config(pairs: &[(&str, &str)]) -> ConnectorConfig {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn connector(name: &str, state: &str) -> SavedConnector {
        SavedConnector {
            name: name.into(),
            kind: "source".into(),
            state: state.into(),
            tasks: Vec::new(),
            config: config(&[("slot.name", "a")]),
            topics: vec!["shop.public.a".into()],
            offsets: Vec::new(),
            unread: None,
        }
    }

    #[test]
    fn settings_that_decide_where_records_come_from_and_go_are_named() {
        let then = config(&[("slot.name", "a"), ("topic.prefix", "shop"), ("max.batch.size", "1")]);
        let now = config(&[("slot.name", "b"), ("topic.prefix", "shop"), ("table.include.list", "public.a")]);
        assert_eq!(changed(&now, &then), ["slot.name=b (was a)", "table.include.list=public.a (was unset)"]);
        assert!(changed_note("c", &now, &then, "P").unwrap().contains("slot a may be left over"));
        assert_eq!(changed_note("c", &then, &then, "P"), None);
    }

    #[test]
    fn a_recovery_of_no_connector_where_there_were_some_is_refused() {
        let (one, two) = (connector("a", "RUNNING"), connector("b", "RUNNING"));
        let refused = refuse_none(0, &[&one, &two], "P").unwrap_err().in_full();
        assert!(refused.contains("recovery point P has a, b") && refused.contains("--restore-connectors"), "{refused}");
        assert!(refuse_none(1, &[&one], "P").is_ok() && refuse_none(0, &[], "P").is_ok());
    }

    #[test]
    fn topics_that_are_rebuilt_are_not_said_to_be_left() {
        let note = |rebuilt: &[String]| missing_note(&connector("a", "RUNNING"), rebuilt, "P");
        assert!(note(&[]).contains("it wrote topics shop.public.a, which no connector fills"), "{}", note(&[]));
        assert!(!note(&["shop.public.a".to_owned()]).contains("shop.public.a"));
    }

    #[test]
    fn a_slot_has_one_connector() {
        let of = |name: &str, slot: &str| {
            config(&[("connector.class", "PostgresConnector"), ("database.dbname", name), ("slot.name", slot)])
        };
        assert!(has_same_slot(&of("d", "a"), &of("d", "a")));
        assert!(!has_same_slot(&of("d", "a"), &of("d", "b")) && !has_same_slot(&of("d", "a"), &of("e", "a")));
        assert!(!has_same_slot(&config(&[]), &config(&[])), "no connectors of PostgreSQL");
    }

    #[test]
    fn a_connector_is_made_again_in_the_state_in_which_it_was() {
        let state = |saved: &str| as_described(&connector("a", saved)).1.connector.state;
        assert_eq!(["RUNNING", "PAUSED", "STOPPED", "FAILED"].map(state), ["RUNNING", "PAUSED", "STOPPED", "RUNNING"]);
    }
}
