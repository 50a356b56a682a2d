//! What the registry shall hold: the recovery point's content, and what was registered since, where its id is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    backup::parts::registry::{Difference, Dump, VersionLine, diff},
    units::{SchemaId, Subject, SubjectVersion},
};

/// The registry's content to be, and what became of newer versions.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// The content to be.
    pub(crate) wanted: Dump,
    /// Versions registered after the point that are kept.
    pub(crate) kept: Vec<String>,
    /// Versions that are in the registry now and will not be, and why.
    pub(crate) dropped: Vec<String>,
}

/// Adds to the point's content what `now` has beyond it: texts its subject did not have, under ids that mean nothing else.
pub(crate) fn merge(point: &Dump, now: &Dump) -> Merged {
    let mut wanted = point.clone();
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    let mut newer: Vec<&VersionLine> = now
        .versions
        .iter()
        .filter(|v| !point.version(&v.subject, v.version).is_some_and(|p| same_text(p, v)))
        .collect();
    newer.sort_by_key(|v| (v.subject.clone(), v.version));
    for version in newer {
        let named = format!("{} version {} (id {})", version.subject, version.version, now.record_id(version));
        match fits(&wanted, version) {
            Ok(number) => {
                let mut line = version.clone();
                line.version = number;
                line.order = wanted.versions.iter().map(|v| v.order).max().unwrap_or(0) + 1;
                if wanted.versions.iter().any(|v| v.global_id == line.global_id) {
                    line.global_id = wanted.versions.iter().map(|v| v.global_id).max().unwrap_or(0) + 1;
                }
                kept.push(match number == version.version {
                    true => format!("{named}, registered after the recovery point, is kept"),
                    false => format!("{named}, registered after the recovery point, is kept as version {number}"),
                });
                adopt_subject(&mut wanted, now, &version.subject);
                wanted.versions.push(line);
            }
            Err(why) => dropped.push(format!("{named} is not kept: {why}")),
        }
    }
    Merged { wanted, kept, dropped }
}

fn same_text(a: &VersionLine, b: &VersionLine) -> bool {
    a.schema_sha256 == b.schema_sha256 && a.references == b.references && a.schema_type == b.schema_type
}

/// Under which version number a newer version fits, or why it does not.
fn fits(wanted: &Dump, version: &VersionLine) -> Result<SubjectVersion, String> {
    let own = wanted.versions_of(&version.subject);
    if let Some(known) = own.iter().find(|v| same_text(v, version)) {
        return Err(format!("it repeats version {} (id {})", known.version, wanted.record_id(known)));
    }
    if let Some(holder) = wanted.versions.iter().find(|v| v.id == version.id && !same_text(v, version)) {
        return Err(format!("its id means {} version {}", holder.subject, holder.version));
    }
    if let Some(twin) = wanted.versions.iter().find(|v| v.id != version.id && same_text(v, version)) {
        return Err(format!("its text has id {} ({})", twin.id, twin.subject));
    }
    let next = own.iter().map(|v| v.version.0).max().map_or(1, |v| v + 1);
    Ok(if version.version.0 >= next { version.version } else { SubjectVersion(next) })
}

fn adopt_subject(wanted: &mut Dump, now: &Dump, subject: &Subject) {
    if wanted.subjects.iter().any(|s| s.subject == *subject) {
        return;
    }
    wanted.subjects.extend(now.subjects.iter().filter(|s| s.subject == *subject).cloned());
    wanted.subjects.sort_by(|a, b| a.subject.cmp(&b.subject));
}

/// What a reader or writer of records, or a compatibility check, could tell apart. The id of a version alone stands in no
/// record when content ids do.
pub(crate) fn differences(wanted: &Dump, now: &Dump) -> Vec<Difference> {
    let by_content = wanted.id_kind != "globalId";
    let all = diff(wanted, now).into_iter();
    all.filter(|d| !(by_content && matches!(d, Difference::GlobalIdChanged { .. }))).collect()
}

/// Ids that mean another schema in one dump than in the other.
pub(crate) fn reassigned(a: &Dump, b: &Dump) -> BTreeSet<SchemaId> {
    let (left, right): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.ids(), b.ids());
    left.into_iter().filter(|(id, sha)| right.get(id).is_some_and(|other| other != sha)).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::parts::registry::VersionState;

    fn line(subject: &str, version: u32, id: u32, text: &str) -> VersionLine {
        VersionLine {
            subject: Subject::new(subject),
            version: SubjectVersion(version),
            id: SchemaId(id),
            global_id: u64::from(id) * 10 + u64::from(version),
            schema_type: "AVRO".into(),
            schema_sha256: text.into(),
            schema: text.into(),
            references: Vec::new(),
            state: VersionState::Active,
            metadata: None,
            rule_set: None,
            subject_compat: None,
            subject_mode: None,
            order: u64::from(id),
            created_ms: None,
        }
    }

    fn dump(versions: Vec<VersionLine>) -> Dump {
        Dump {
            flavour: "apicurio".into(),
            product_version: "3.3.3".into(),
            id_kind: "contentId".into(),
            global_compat: Some("BACKWARD".into()),
            global_mode: None,
            subjects: Vec::new(),
            versions,
            caps_hit: Vec::new(),
        }
    }

    #[test]
    fn a_newer_version_is_kept_when_its_id_is_free() {
        let point = dump(vec![line("a", 1, 1, "x"), line("b", 1, 2, "y")]);
        let now = dump(vec![line("a", 1, 1, "x"), line("a", 2, 3, "z"), line("b", 1, 2, "y")]);
        let merged = merge(&point, &now);
        assert_eq!(merged.kept.len(), 1);
        assert!(differences(&merged.wanted, &now).is_empty());
    }

    #[test]
    fn what_a_refilled_registry_holds_under_other_ids_is_not_kept() {
        let point = dump(vec![line("a", 1, 5, "x"), line("a", 3, 7, "z"), line("b", 1, 6, "y")]);
        // The connector registered b first; version 2 of a repeats the text of version 3.
        let now = dump(vec![line("b", 1, 5, "y"), line("a", 1, 6, "x"), line("a", 2, 7, "z"), line("c", 1, 8, "new")]);
        let merged = merge(&point, &now);
        assert_eq!(merged.kept, ["c version 1 (id 8), registered after the recovery point, is kept"]);
        assert_eq!(merged.dropped, ["a version 2 (id 7) is not kept: it repeats version 3 (id 7)"]);
        assert_eq!(merged.wanted.versions.len(), 4);
        assert_eq!(reassigned(&now, &merged.wanted), BTreeSet::from([SchemaId(5), SchemaId(6)]));
    }

    #[test]
    fn a_newer_text_in_the_place_of_an_older_one_moves_to_the_next_number() {
        let point = dump(vec![line("a", 1, 5, "x")]);
        let merged = merge(&point, &dump(vec![line("a", 1, 9, "newer")]));
        assert_eq!(merged.kept, ["a version 1 (id 9), registered after the recovery point, is kept as version 2"]);
        let taken = merge(&point, &dump(vec![line("a", 1, 5, "newer")]));
        assert_eq!(taken.dropped, ["a version 1 (id 5) is not kept: its id means a version 1"]);
    }
}
