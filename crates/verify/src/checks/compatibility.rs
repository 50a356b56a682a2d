//! `compatibility`: levels, modes, subjects, versions and ids equal the recovery point's, and an incompatible schema is
//! refused again.

use serde_json::Value;

use super::schema_ids::same_schema;
use crate::{
    fold::Place,
    observation::{Expectation, NewerVersions, Observation, SubjectView, TableView, VersionView},
};
use cdc_model::units::counted;
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    vocabulary::CheckId,
};

/// Compares the registry with the recovery point's.
pub fn compatibility(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let Some(point) = &expected.registry else {
        return CheckId::Compatibility.inconclusive("no recovery point was given to compare with".into());
    };
    let registry = match &seen.registry {
        Some(Ok(registry)) => registry,
        None => return CheckId::Compatibility.inconclusive("the registry was not asked".into()),
        Some(Err(why)) => {
            let finding = Finding {
                subject: Some(About::System("registry".into())),
                expected: Some("a registry that answers".into()),
                found: Some(why.clone()),
                ..Finding::new(FindingKind::Dead)
            };
            return CheckId::Compatibility.report(0, Vec::new(), vec![finding]);
        }
    };
    let mut diff = Diff { seen, expected, findings: Vec::new(), compared: 0, extras: Vec::new() };
    diff.setting(About::Level(None), point.global_level.as_deref(), registry.global_level.as_deref());
    diff.setting(About::Mode(None), mode(point.global_mode.as_deref()), mode(registry.global_mode.as_deref()));
    for (name, was) in &point.subjects {
        match registry.subjects.get(name) {
            Some(is) => diff.subject(name, was, is),
            None => diff.lost_subject(name, was),
        }
    }
    for (name, is) in registry.subjects.iter().filter(|(n, _)| !point.subjects.contains_key(*n)) {
        diff.subject(name, &SubjectView::default(), is);
    }
    for probe in &seen.probes {
        diff.compared += 1;
        let kind = if probe.compatible { FindingKind::Refused } else { FindingKind::NotRefused };
        let wrong = match &probe.accepted {
            Ok(accepted) if *accepted == probe.compatible => continue,
            Ok(true) => Finding { found: Some("accepted".into()), ..Finding::new(kind) },
            Ok(false) => Finding { found: Some("refused".into()), ..Finding::new(kind) },
            Err(why) => Finding { found: Some(why.clone()), ..Finding::new(FindingKind::Dead) },
        };
        let wanted = if probe.compatible {
            "a compatible schema to be accepted"
        } else {
            "an incompatible schema to be refused"
        };
        diff.findings.push(Finding {
            subject: Some(About::Subject(probe.subject.clone())),
            expected: Some(wanted.into()),
            ..wrong
        });
    }
    let mut notes = vec![format!("{} compared: levels, modes, versions and probes", diff.compared)];
    if !diff.extras.is_empty() {
        notes.push(format!("registered after the recovery point and kept: {}", diff.extras.join(", ")));
    }
    CheckId::Compatibility.report(diff.compared, notes, diff.findings)
}

/// READWRITE is what a registry is in when no mode was set.
fn mode(mode: Option<&str>) -> Option<&str> {
    mode.filter(|m| *m != "READWRITE")
}

struct Diff<'e> {
    seen: &'e Observation,
    expected: &'e Expectation<'e>,
    findings: Vec<Finding>,
    compared: u64,
    extras: Vec<String>,
}

impl Diff<'_> {
    fn setting(&mut self, what: About, was: Option<&str>, is: Option<&str>) {
        self.compared += 1;
        if was != is {
            let shown = |v: Option<&str>| v.unwrap_or("unset").to_owned();
            self.findings.push(Finding {
                subject: Some(what),
                expected: Some(shown(was)),
                found: Some(shown(is)),
                ..Finding::new(FindingKind::Setting)
            });
        }
    }

    fn lost_subject(&mut self, name: &str, was: &SubjectView) {
        self.compared += 1;
        self.findings.push(Finding {
            subject: Some(About::Subject(name.to_owned())),
            expected: Some(format!("a subject with {}", counted(was.versions.len(), "version"))),
            found: Some("no such subject".into()),
            ..Finding::new(FindingKind::Setting)
        });
    }

    fn subject(&mut self, name: &str, was: &SubjectView, is: &SubjectView) {
        let known = !was.versions.is_empty() || was.level.is_some();
        if known || !matches!(self.expected.newer_versions, NewerVersions::Any) {
            self.setting(About::Level(Some(name.to_owned())), was.level.as_deref(), is.level.as_deref());
            self.setting(About::Mode(Some(name.to_owned())), mode(was.mode.as_deref()), mode(is.mode.as_deref()));
        }
        let newest = was.versions.keys().max().copied().unwrap_or(0);
        for (number, version) in &was.versions {
            self.compared += 1;
            self.findings.extend(version_finding(name, *number, version, is.versions.get(number)));
        }
        for (number, version) in is.versions.iter().filter(|(n, _)| !was.versions.contains_key(n)) {
            self.compared += 1;
            let allowed = match &self.expected.newer_versions {
                NewerVersions::None => false,
                NewerVersions::These(these) => these.contains(&(name.to_owned(), *number)),
                NewerVersions::Any => *number > newest,
            };
            if allowed || (*number > newest && self.is_of_the_connector(name, was, version)) {
                self.extras.push(format!("{name} version {number} (id {})", version.id));
                continue;
            }
            self.findings.push(Finding {
                subject: Some(About::Version { subject: name.to_owned(), version: *number }),
                schema_id: Some(version.id),
                expected: Some("no such version".into()),
                found: Some(format!("a version with id {}", version.id)),
                ..Finding::new(FindingKind::Setting)
            });
        }
    }
}

impl Diff<'_> {
    /// Whether a connector registers a version on its own, of a pipeline that nobody has changed: a table with generated columns has two
    /// schemas, as only a snapshot's records have these columns, and which of the two comes first is up to when the table was empty.
    /// Records must have been written with the version. A subject that the point does not have at all is such a case only where the
    /// point does not have the table's topic either: its first record came later. A point that has lost a subject's versions and has
    /// the topic would go unnoticed otherwise, and so would one of which no topic is known.
    fn is_of_the_connector(&self, subject: &str, was: &SubjectView, version: &VersionView) -> bool {
        let Some((table, place)) = self.seen.tables.iter().find_map(|table| Some((table, place_of(subject, table)?)))
        else {
            return false;
        };
        let fold = self.seen.topics.get(&table.topic);
        let mut used = fold.into_iter().flat_map(|fold| &fold.partitions);
        if version.deleted || !used.any(|partition| partition.ids.contains_key(&(place, version.id))) {
            return false;
        }
        if was.versions.is_empty() {
            return !self.expected.specs.is_empty() && !self.expected.specs.contains_key(&table.topic);
        }
        let row = |schema: &str| without_generated(schema, table);
        was.versions.values().any(|known| {
            !same_schema(&known.schema, &version.schema)
                && row(&known.schema).is_some_and(|known| row(&version.schema) == Some(known))
        })
    }
}

/// Whether a subject is of the keys or of the values of a table's topic.
fn place_of(subject: &str, table: &TableView) -> Option<Place> {
    match subject.strip_prefix(&table.topic)? {
        "-key" => Some(Place::Key),
        "-value" => Some(Place::Value),
        _ => None,
    }
}

/// A schema without the fields of the table's generated columns: of the rows before and after, or of the row where the record is one.
fn without_generated(schema: &str, table: &TableView) -> Option<Value> {
    let generated = |field: &Value| {
        let column = field["name"].as_str().and_then(|name| table.columns.of_field(name));
        column.and_then(|column| table.columns.list.get(column)).is_some_and(|column| column.generated)
    };
    let mut schema: Value = serde_json::from_str(schema).ok()?;
    let fields = schema.get_mut("fields")?.as_array_mut()?;
    let is_row = |field: &Value| field["name"] == "before" || field["name"] == "after";
    match fields.iter().any(is_row) {
        true => fields.iter_mut().filter(|field| is_row(field)).for_each(|field| {
            // The row's record stands where it is first named, as one of a union with null.
            for record in field["type"].as_array_mut().into_iter().flatten() {
                if let Some(columns) = record.get_mut("fields").and_then(Value::as_array_mut) {
                    columns.retain(|column| !generated(column));
                }
            }
        }),
        false => fields.retain(|field| !generated(field)),
    }
    Some(schema)
}

fn version_finding(name: &str, number: u32, was: &VersionView, is: Option<&VersionView>) -> Option<Finding> {
    let about = |expected: String, found: String| Finding {
        subject: Some(About::Version { subject: name.to_owned(), version: number }),
        schema_id: Some(was.id),
        expected: Some(expected),
        found: Some(found),
        ..Finding::new(FindingKind::Setting)
    };
    let Some(is) = is else { return Some(about(format!("a version with id {}", was.id), "no such version".into())) };
    if was.id != is.id {
        return Some(about(format!("id {}", was.id), format!("id {}", is.id)));
    }
    if !super::schema_ids::same_schema(&was.schema, &is.schema) {
        let finding = about(was.schema.clone(), is.schema.clone());
        return Some(Finding { kind: FindingKind::WrongSchema, ..finding });
    }
    let word = |deleted: bool| if deleted { "soft-deleted" } else { "active" };
    (was.deleted != is.deleted).then(|| about(word(was.deleted).into(), word(is.deleted).into()))
}
