//! Schemas that are offered to the registry, to see whether it refuses what its levels forbid.

use crate::{
    run::{Known, rig::Pipeline},
    scenario::{Level, SubjectSide, WorkloadPlan},
};
use cdc_model::units::{Subject, TableName};
use cdc_verify::{Observation, observation::Probe};

/// Offers the registry one schema that the level forbids and one that it allows, for the subject whose own level is the
/// strictest.
pub(super) async fn probes(pipeline: &Pipeline, known: Known<'_>, seen: &Observation) -> Vec<Probe> {
    let Some(Ok(view)) = &seen.registry else { return Vec::new() };
    let (registry, layout) = (pipeline.registry(), known.layout());
    let levels = known.plan.pipeline.subject_levels(|table| layout.topic(table));
    let mut probes = Vec::new();
    let latest = |subject: &str| view.subjects.get(subject).and_then(|s| s.versions.values().next_back());
    for table in probed(known, |table| latest(&layout.subject(table, SubjectSide::Value).0).is_some()) {
        let subject = layout.subject(table, SubjectSide::Value).0;
        let Some(latest) = latest(&subject) else { continue };
        // BACKWARD forbids a new field without a default; only FULL also forbids to take such a field away.
        let full = levels.get(&subject) == Some(&Level::Full);
        let forbidden = match full {
            true => without_field(&latest.schema, "op"),
            false => with_field(&latest.schema, r#"{"name":"drill_probe","type":"string"}"#),
        };
        let allowed = with_field(&latest.schema, r#"{"name":"drill_probe","type":["null","string"],"default":null}"#);
        for (compatible, schema) in [(false, forbidden), (true, allowed)] {
            let Some(schema) = schema else { continue };
            let accepted =
                registry.compatible(&Subject::new(subject.clone()), &schema).await.map_err(|e| e.to_string());
            probes.push(Probe { subject: subject.clone(), compatible, accepted });
        }
    }
    probes
}

/// The tables whose value subjects are probed, of those that have one: of the shop one under FULL and one under the global level, of
/// any other schema the first, and each that has a level of its own.
fn probed<'k>(known: Known<'k>, has_subject: impl Fn(&TableName) -> bool) -> Vec<&'k TableName> {
    let layout = known.layout();
    let tables = layout.tables().filter(|table| has_subject(table));
    if matches!(known.plan.workload, WorkloadPlan::Shop { .. }) {
        return tables.filter(|t| t.name == "orders" || t.name == "customers").collect();
    }
    let levels = known.plan.pipeline.subject_levels(|table| layout.topic(table));
    let own = |table: &TableName| levels.contains_key(&layout.subject(table, SubjectSide::Value).0);
    tables.enumerate().filter(|(at, table)| *at == 0 || own(table)).map(|(_, table)| table).collect()
}

/// The schema with one more field in its outermost record.
fn with_field(schema: &str, field: &str) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(schema).ok()?;
    let field: serde_json::Value = serde_json::from_str(field).ok()?;
    value.get_mut("fields")?.as_array_mut()?.push(field);
    Some(value.to_string())
}

/// The schema without one of the fields of its outermost record; none when it has no such field.
fn without_field(schema: &str, name: &str) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(schema).ok()?;
    let fields = value.get_mut("fields")?.as_array_mut()?;
    let before = fields.len();
    fields.retain(|f| f["name"] != name);
    (fields.len() < before).then(|| value.to_string())
}
