//! `schema-ids`: every record's schema id resolves, to the schema it was written with, and describes every byte.

use std::collections::BTreeSet;

use crate::{
    fold::{Place, TopicFold},
    observation::{Expectation, Observation},
};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::{Offset, SchemaId, counted},
    vocabulary::CheckId,
};

/// Looks at every record that was read, and at the schema behind each id.
pub fn schema_ids(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let mut findings = Vec::new();
    let (mut compared, mut unshown) = (0, 0);
    let mut ids: BTreeSet<SchemaId> = BTreeSet::new();
    for (topic, fold) in &seen.topics {
        compared += records_with_ids(fold);
        unreadable(topic, fold, &mut findings);
        unshown += fold.unshown_problems();
        for ((place, id), used) in fold.partitions.iter().flat_map(|p| &p.ids) {
            if ids.insert(*id) {
                findings.extend(resolved(seen, expected, topic, *place, *id, used.first));
            }
        }
    }
    if let Some(Err(why)) = &seen.registry {
        findings.push(Finding {
            subject: Some(About::System("registry".into())),
            expected: Some("a registry that answers".into()),
            found: Some(why.clone()),
            ..Finding::new(FindingKind::Dead)
        });
    }
    let uses_avro = seen.topics.values().any(|f| f.partitions.iter().any(|p| !p.ids.is_empty()));
    if compared == 0 && findings.is_empty() && !uses_avro && seen.topics.values().any(|f| f.records() > 0) {
        // Records of other converters carry no ids; that they decode is all that can be said, and it is said.
        let records: u64 = seen.topics.values().map(TopicFold::records).sum();
        return CheckId::SchemaIds.report(
            records,
            vec![format!("no schema id in {records}; all decode", records = counted(records, "record"))],
            findings,
        );
    }
    // `state` names the expressions, and finds a connector that captures nothing.
    let undecided = seen.connectors.iter().filter(|c| !c.coverage.unknown.is_empty());
    let undecided: Vec<&str> = undecided.map(|c| c.settings.name.as_str()).collect();
    if compared == 0 && findings.is_empty() && !undecided.is_empty() {
        let why = "no record was read, and it is not known which tables these connectors capture";
        return CheckId::SchemaIds.inconclusive(format!("{why}: {}", undecided.join(", ")));
    }
    let mut notes = vec![format!(
        "{compared} read to their last byte, {} schema ids compared",
        ids.len(),
        compared = counted(compared, "record")
    )];
    if let Some(Ok(registry)) = &seen.registry {
        let groups: BTreeSet<&str> = registry.elsewhere.values().map(|v| v.group.as_str()).collect();
        if !groups.is_empty() {
            let (count, groups) = (registry.elsewhere.len(), groups.into_iter().collect::<Vec<_>>().join(", "));
            notes.push(format!(
                "{count} of them are of artifacts in another group of the registry, which no subject reaches: {groups}"
            ));
        }
    }
    CheckId::SchemaIds.report(compared, notes, findings).with_more(unshown)
}

fn records_with_ids(fold: &TopicFold) -> u64 {
    let values = |p: &crate::fold::PartitionFold| {
        p.ids.iter().filter(|((place, _), _)| *place == Place::Value).map(|(_, u)| u.records).sum::<u64>()
    };
    fold.partitions.iter().map(values).sum()
}

fn unreadable(topic: &str, fold: &TopicFold, findings: &mut Vec<Finding>) {
    for partition in &fold.partitions {
        for problem in &partition.problems {
            let kind = if problem.why.wrong_schema { FindingKind::WrongSchema } else { FindingKind::Unreadable };
            findings.push(Finding {
                topic: Some(topic.to_owned()),
                partition: Some(problem.partition),
                offset: Some(Offset(problem.offset)),
                schema_id: problem.why.schema,
                expected: Some(problem.why.expected.clone()),
                found: Some(problem.why.found.clone()),
                ..Finding::new(kind)
            });
        }
    }
}

/// The schema behind an id now, against the one behind it when records were written.
fn resolved(
    seen: &Observation,
    expected: &Expectation<'_>,
    topic: &str,
    place: Place,
    id: SchemaId,
    first: (i32, i64),
) -> Option<Finding> {
    let Some(Ok(registry)) = &seen.registry else { return None };
    let about = |wanted: String, found: String| Finding {
        topic: Some(topic.to_owned()),
        partition: Some(first.0),
        offset: Some(Offset(first.1)),
        schema_id: Some(id),
        subject: Some(About::Subject(format!("{topic}-{}", if place == Place::Key { "key" } else { "value" }))),
        expected: Some(wanted),
        found: Some(found),
        ..Finding::new(FindingKind::WrongSchema)
    };
    match (registry.text(id), expected.written.get(&id)) {
        (None, _) => Some(about(format!("schema id {id} in a subject or a group of the registry"), "in none".into())),
        (Some(now), Some(then)) if !same_schema(now, then) => Some(about(then.clone(), now.to_owned())),
        _ => None,
    }
}

/// Texts are equal, or equal but for white space.
pub(super) fn same_schema(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let parsed = |t: &str| serde_json::from_str::<serde_json::Value>(t).ok();
    matches!((parsed(a), parsed(b)), (Some(a), Some(b)) if a == b)
}
