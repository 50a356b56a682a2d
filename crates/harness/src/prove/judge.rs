//! What a point says of itself, and what was seen of it once restored, judged: pure functions. Each has its planted mistakes below.

use std::collections::{BTreeMap, BTreeSet};

use cdc_engine::backup::{
    ConnectFacts, Defect, DefectKind, RegistryFacts, SavedConnector, TopicState,
    parts::{
        postgres::{DatabaseFingerprints, TableFingerprint},
        registry::{Archive, ArchivedVersion, Dump},
    },
};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::{SubjectVersion, TableName, counted},
};
use cdc_pipeline::{client::postgres::Slot, debezium::DEFAULT_SLOT};

/// Every file of the point has the bytes that were written.
pub(super) const FILES: &str = "files";
/// Every archived segment that the point needs is there, whole.
pub(super) const WAL: &str = "wal";
/// Every archived record of a topic that was backed up with the point has the bytes that were written.
pub(super) const TOPIC_RECORDS: &str = "topic-records";
/// Every connector that was captured is there.
pub(super) const CONNECTORS: &str = "connectors";
/// Every schema that was captured is there, and the re-snapshot needed no other.
pub(super) const REGISTRY: &str = "registry";
/// Each published table has the rows that it had, at the position at which they were counted.
pub(super) const FINGERPRINTS: &str = "fingerprints";

fn damage(defect: &Defect) -> Finding {
    let kind = match defect.kind {
        DefectKind::Incomplete | DefectKind::WalGap => FindingKind::Lost,
        DefectKind::Checksum => FindingKind::Different,
        DefectKind::FormatTooNew => FindingKind::Unreadable,
    };
    Finding {
        subject: Some(About::System(defect.path.clone())),
        expected: Some(defect.expected.clone()),
        found: Some(defect.found.clone()),
        ..Finding::new(kind)
    }
}

/// Whether a defect is of archived WAL.
fn is_of_wal(defect: &Defect) -> bool {
    defect.kind == DefectKind::WalGap || defect.path.contains("/wal/") || defect.path.starts_with("wal/")
}

/// The files of a point and, apart from them, its archived WAL; none of WAL for a point without a database.
pub(super) fn stored(files: u64, segments: u64, defects: &[Defect]) -> (CheckReport, Option<CheckReport>) {
    let (wal, others): (Vec<&Defect>, Vec<&Defect>) = defects.iter().partition(|defect| is_of_wal(defect));
    let found = |defects: Vec<&Defect>| defects.into_iter().map(damage).collect::<Vec<_>>();
    let of_files = CheckReport::new(FILES, files, vec![format!("{} hashed", counted(files, "file"))], found(others));
    let note = vec![format!("{} hashed", counted(segments, "segment"))];
    let of_wal = (segments > 0 || !wal.is_empty()).then(|| CheckReport::new(WAL, segments, note, found(wal)));
    (of_files, of_wal)
}

/// The archived records of topics.
pub(super) fn records(backups: u64, records: u64, defects: &[Defect]) -> CheckReport {
    let note = format!("{} in {} read", counted(records, "record"), counted(backups, "backup"));
    CheckReport::new(TOPIC_RECORDS, records.max(backups), vec![note], defects.iter().map(damage).collect())
}

/// The connectors part: what the manifest counts is there, and whoever streamed from a slot and stored a position too.
pub(super) fn connectors(
    facts: &ConnectFacts,
    connectors: &[SavedConnector],
    offsets_of: &BTreeSet<String>,
    slots: &[Slot],
) -> CheckReport {
    let names: BTreeSet<&str> = connectors.iter().map(|connector| connector.name.as_str()).collect();
    let named_slots: BTreeSet<&str> = connectors
        .iter()
        .filter(|connector| connector.kind != "sink")
        .map(|connector| connector.config.get("slot.name").map_or(DEFAULT_SLOT, String::as_str))
        .collect();
    let orphans: Vec<&Slot> = slots
        .iter()
        .filter(|slot| slot.active && slot.slot_type == "logical" && !named_slots.contains(slot.name.as_str()))
        .collect();
    let gone: Vec<&String> = offsets_of.iter().filter(|name| !names.contains(name.as_str())).collect();
    let is_short = (connectors.len() as u64) < facts.connectors;
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    if connectors.len() as u64 != facts.connectors {
        findings.push(Finding {
            subject: Some(About::System("connect".into())),
            expected: Some(format!("{}, as the manifest counts", counted(facts.connectors, "connector"))),
            found: Some(match connectors.len() {
                0 => "none".to_owned(),
                _ => format!(
                    "{}: {}",
                    counted(connectors.len(), "connector"),
                    names.iter().copied().collect::<Vec<_>>().join(", ")
                ),
            }),
            ..Finding::new(if is_short { FindingKind::Lost } else { FindingKind::Ghost })
        });
    }
    // Stored offsets outlive a connector that was deleted; one that streams does not.
    for name in &gone {
        match is_short || !orphans.is_empty() {
            true => findings.push(Finding {
                subject: Some(About::Connector((*name).clone())),
                expected: Some("the connector whose offsets the point has".into()),
                found: Some(match orphans.first() {
                    Some(slot) => format!("none, though something streamed from slot {}", slot.name),
                    None => "none".to_owned(),
                }),
                ..Finding::new(FindingKind::Lost)
            }),
            false => notes.push(format!("the worker had offsets of {name}, which is no connector of the point")),
        }
    }
    if gone.is_empty() {
        for slot in &orphans {
            notes.push(format!("slot {} was streamed from by nobody of the point's connectors", slot.name));
        }
    }
    CheckReport::new(CONNECTORS, connectors.len().max(findings.len()) as u64, notes, findings)
}

/// The registry part: what the manifest counts, what the registry's own export has, and a schema for each topic that has records.
pub(super) fn registry(
    facts: &RegistryFacts,
    dump: &Dump,
    export: Option<&Archive>,
    written: &BTreeSet<String>,
) -> CheckReport {
    let mut findings = Vec::new();
    let lost = |about: About, expected: String, found: String| Finding {
        subject: Some(about),
        expected: Some(expected),
        found: Some(found),
        ..Finding::new(FindingKind::Lost)
    };
    let dumped: BTreeSet<ArchivedVersion> = dump.versions.iter().map(ArchivedVersion::from).collect();
    let exported: BTreeSet<ArchivedVersion> =
        export.into_iter().flat_map(|export| export.versions.iter().cloned()).collect();
    let of = |v: &ArchivedVersion| About::Version { subject: v.subject.0.clone(), version: v.version.0 };
    for version in exported.difference(&dumped) {
        let expected = "a version that the registry's own export has".to_owned();
        findings.push(lost(of(version), expected, "none in the dump".into()));
    }
    for version in dumped.difference(&exported).filter(|_| export.is_some()) {
        findings.push(lost(of(version), "a version in the registry's own export".into(), "only in the dump".into()));
    }
    let subjects: BTreeSet<&str> = dump.versions.iter().map(|version| version.subject.0.as_str()).collect();
    for topic in written {
        for subject in [format!("{topic}-key"), format!("{topic}-value")] {
            if !subjects.contains(subject.as_str()) {
                let expected = format!("a schema of the records of {topic}");
                findings.push(lost(About::Subject(subject), expected, "none".into()));
            }
        }
    }
    let counts =
        [("version", facts.versions, dump.versions.len() as u64), ("subject", facts.subjects, subjects.len() as u64)];
    for (what, expected, found) in counts.into_iter().filter(|(_, expected, found)| expected != found) {
        let kind = if found < expected { FindingKind::Lost } else { FindingKind::Ghost };
        findings.push(Finding {
            subject: Some(About::System("registry".into())),
            expected: Some(format!("{}, as the manifest counts", counted(expected, what))),
            found: Some(counted(found, what)),
            ..Finding::new(kind)
        });
    }
    let compared = dump.versions.len().max(findings.len()) as u64;
    let notes = vec![format!("{} of {}", counted(dump.versions.len(), "version"), counted(subjects.len(), "subject"))];
    match compared {
        // A registry that nobody uses yet is one.
        0 => CheckReport { notes, ..CheckReport::new(REGISTRY, 1, Vec::new(), Vec::new()) },
        _ => CheckReport::new(REGISTRY, compared, notes, findings),
    }
}

/// Topics with records that connectors wrote through a registry, with the strategy of names that converters have by default: each has a
/// subject for its keys and one for its values.
pub(super) fn written_with_schemas(connectors: &[SavedConnector], topics: &[TopicState]) -> BTreeSet<String> {
    let has_records: BTreeSet<&str> = topics
        .iter()
        .filter(|topic| topic.watermarks.iter().any(|mark| mark.high > mark.low))
        .map(|topic| topic.spec.name.as_str())
        .collect();
    let by_default = |connector: &&SavedConnector| {
        let both = ["key", "value"].iter().all(|side| {
            connector
                .config
                .keys()
                .any(|key| key.starts_with(&format!("{side}.converter.")) && key.contains("registry.url"))
        });
        let named = ["strategy", "artifact-resolver", "artifact-id", "group-id", "transforms"];
        connector.kind != "sink"
            && both
            && !connector.config.keys().any(|key| named.iter().any(|word| key.contains(word)))
    };
    let prefix = |connector: &SavedConnector| connector.config.get("topic.prefix").map(|prefix| format!("{prefix}."));
    let mut found = BTreeSet::new();
    for connector in connectors.iter().filter(by_default) {
        // Its transactions, heartbeats and schema changes have other names.
        let Some(start) = prefix(connector) else { continue };
        let own = connector.topics.iter().filter(|topic| {
            topic.starts_with(&start) && topic.matches('.').count() >= 2 && has_records.contains(topic.as_str())
        });
        found.extend(own.cloned());
    }
    found
}

/// What the re-snapshot registered: a schema that the point should have had is a finding, one that it need not have had a note.
pub(super) fn registered(
    before: CheckReport,
    dump: &Dump,
    after: &BTreeMap<String, Vec<SubjectVersion>>,
    written: &BTreeSet<String>,
) -> CheckReport {
    let had = |subject: &str| dump.versions.iter().any(|version| version.subject.0 == subject);
    let (mut findings, mut notes) = (before.findings.clone(), before.notes.clone());
    for (subject, versions) in after {
        let new: Vec<&SubjectVersion> = versions
            .iter()
            .filter(|version| !dump.versions.iter().any(|v| v.subject.0 == *subject && v.version == **version))
            .collect();
        let topic = subject.strip_suffix("-key").or_else(|| subject.strip_suffix("-value")).unwrap_or(subject);
        match (new.first(), had(subject), written.contains(topic)) {
            (None, ..) => {}
            (Some(version), false, true) => findings.push(Finding {
                subject: Some(About::Version { subject: subject.clone(), version: version.0 }),
                expected: Some("the schema in the point: its topic had records".into()),
                found: Some("registered anew by the connector".into()),
                ..Finding::new(FindingKind::Lost)
            }),
            (Some(version), true, _) => notes.push(format!(
                "the connector registered {subject} version {version}: its table had changed since its last record, or the point lacks it"
            )),
            (Some(version), false, false) => {
                notes.push(format!("the connector registered {subject} version {version}: its topic had no records"));
            }
        }
    }
    CheckReport::new(REGISTRY, before.compared, notes, findings)
}

/// The rows that tables have at the position at which they were counted.
pub(super) fn fingerprints(
    expected: &[DatabaseFingerprints],
    found: &BTreeMap<(String, TableName), Option<TableFingerprint>>,
) -> CheckReport {
    let (mut findings, mut notes, mut compared) = (Vec::new(), Vec::new(), 0);
    for of in expected.iter().filter(|of| of.lsn.is_some()) {
        let mut rows = 0;
        for table in &of.tables {
            compared += 1;
            rows += table.rows;
            let there = found.get(&(of.database.clone(), table.table.clone())).and_then(Option::as_ref);
            let differs = |kind, expected: String, found: String| Finding {
                table: Some(table.table.clone()),
                lsn: of.lsn,
                expected: Some(expected),
                found: Some(found),
                ..Finding::new(kind)
            };
            match there {
                None => findings.push(differs(FindingKind::Lost, counted(table.rows, "row"), "no such table".into())),
                Some(there) if there.rows < table.rows => {
                    findings.push(differs(FindingKind::Lost, counted(table.rows, "row"), counted(there.rows, "row")));
                }
                Some(there) if there.rows > table.rows => {
                    findings.push(differs(FindingKind::Ghost, counted(table.rows, "row"), counted(there.rows, "row")));
                }
                Some(there) if there.digest != table.digest => findings.push(differs(
                    FindingKind::Different,
                    format!("{} with digest {}", counted(table.rows, "row"), table.digest),
                    format!("as many with digest {}", there.digest),
                )),
                Some(_) => {}
            }
        }
        let at = of.lsn.map(|lsn| lsn.to_string()).unwrap_or_default();
        notes.push(format!(
            "database {}: {} with {} at {at}",
            of.database,
            counted(of.tables.len(), "table"),
            counted(rows, "row")
        ));
    }
    CheckReport::new(FINGERPRINTS, compared, notes, findings)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
