//! What differs between two contents of a registry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Dump, EntityKey, VersionLine, VersionState, entity::lost};
use cdc_model::units::{SchemaId, Subject, SubjectVersion};

/// One difference: how the second dump differs from the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A subject is not there, with none of its versions.
    SubjectMissing {
        /// The subject.
        subject: Subject,
    },
    /// A subject is new.
    SubjectExtra {
        /// The subject.
        subject: Subject,
    },
    /// A version is not there.
    VersionMissing {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// Its id in the first dump.
        id: SchemaId,
    },
    /// A version is new.
    VersionExtra {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// Its id in the second dump.
        id: SchemaId,
    },
    /// The same text goes by another id.
    IdChanged {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// The id before.
        before: SchemaId,
        /// The id now.
        now: SchemaId,
    },
    /// The version's own id is another.
    GlobalIdChanged {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// The id before.
        before: u64,
        /// The id now.
        now: u64,
    },
    /// A version has another text, type, references, metadata or rules.
    SchemaChanged {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// What changed: `schema`, `type`, `references`, `metadata`, `rule set`.
        what: &'static str,
    },
    /// A version was soft-deleted, or is in use again.
    StateChanged {
        /// The subject.
        subject: Subject,
        /// The version.
        version: SubjectVersion,
        /// The state before.
        before: VersionState,
        /// The state now.
        now: VersionState,
    },
    /// A compatibility level is another; `None` is unset.
    LevelChanged {
        /// The subject; `None` is the global level.
        subject: Option<Subject>,
        /// The level before.
        before: Option<String>,
        /// The level now.
        now: Option<String>,
    },
    /// A mode is another.
    ModeChanged {
        /// The subject; `None` is the global mode.
        subject: Option<Subject>,
        /// The mode before.
        before: Option<String>,
        /// The mode now.
        now: Option<String>,
    },
    /// An id resolves to another schema than before: records are read with the wrong one.
    IdReassigned {
        /// The id as it stands in records.
        id: SchemaId,
        /// The checksum of its schema before.
        before_sha256: String,
        /// The checksum of its schema now.
        now_sha256: String,
    },
    /// Something that is neither a subject's version nor a level is not there.
    BeyondMissing {
        /// What.
        entity: EntityKey,
    },
    /// Something that is neither a subject's version nor a level is another.
    BeyondChanged {
        /// What.
        entity: EntityKey,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = |l: &Option<String>| l.clone().unwrap_or_else(|| "unset".into());
        let whose = |s: &Option<Subject>| s.as_ref().map_or("global".to_owned(), |s| format!("{s}:"));
        match self {
            Difference::SubjectMissing { subject } => write!(f, "{subject}: subject missing"),
            Difference::SubjectExtra { subject } => write!(f, "{subject}: subject is new"),
            Difference::VersionMissing { subject, version, id } => write!(f, "{subject} v{version} (id {id}): missing"),
            Difference::VersionExtra { subject, version, id } => write!(f, "{subject} v{version} (id {id}): new"),
            Difference::IdChanged { subject, version, before, now } => {
                write!(f, "{subject} v{version}: id {before} is now {now}")
            }
            Difference::GlobalIdChanged { subject, version, before, now } => {
                write!(f, "{subject} v{version}: global id {before} is now {now}")
            }
            Difference::SchemaChanged { subject, version, what } => write!(f, "{subject} v{version}: other {what}"),
            Difference::StateChanged { subject, version, before, now } => {
                write!(f, "{subject} v{version}: {before:?} is now {now:?}")
            }
            Difference::LevelChanged { subject, before, now } => {
                write!(f, "{} level {} is now {}", whose(subject), level(before), level(now))
            }
            Difference::ModeChanged { subject, before, now } => {
                write!(f, "{} mode {} is now {}", whose(subject), level(before), level(now))
            }
            Difference::BeyondMissing { entity } => write!(f, "{entity}: missing"),
            Difference::BeyondChanged { entity } => write!(f, "{entity}: changed"),
            Difference::IdReassigned { id, before_sha256, now_sha256 } => {
                write!(
                    f,
                    "id {id} resolves to schema {} instead of {}",
                    &now_sha256[..12.min(now_sha256.len())],
                    &before_sha256[..12.min(before_sha256.len())]
                )
            }
        }
    }
}

/// How subjects, versions and levels of `now` differ from those of `before`; empty when a reader, a writer and a compatibility check
/// could not tell them apart.
pub fn diff(before: &Dump, now: &Dump) -> Vec<Difference> {
    let mut found = Vec::new();
    settings(before, now, &mut found);
    let (old, new) = (by_version(before), by_version(now));
    let subjects = |d: &Dump| d.versions.iter().map(|v| v.subject.clone()).collect::<BTreeSet<_>>();
    let (old_subjects, new_subjects) = (subjects(before), subjects(now));
    found.extend(old_subjects.difference(&new_subjects).map(|s| Difference::SubjectMissing { subject: s.clone() }));
    found.extend(new_subjects.difference(&old_subjects).map(|s| Difference::SubjectExtra { subject: s.clone() }));
    for ((subject, version), line) in &old {
        match new.get(&(subject.clone(), *version)) {
            Some(other) => versions(line, other, &mut found),
            None => found.push(Difference::VersionMissing { subject: subject.clone(), version: *version, id: line.id }),
        }
    }
    let extra = new.iter().filter(|(key, _)| !old.contains_key(*key));
    found.extend(extra.map(|((subject, version), line)| Difference::VersionExtra {
        subject: subject.clone(),
        version: *version,
        id: line.id,
    }));
    let now_ids = now.ids();
    for (id, before_sha256) in before.ids() {
        if let Some(now_sha256) = now_ids.get(&id).filter(|n| **n != before_sha256) {
            found.push(Difference::IdReassigned {
                id,
                before_sha256: before_sha256.to_owned(),
                now_sha256: (*now_sha256).to_owned(),
            });
        }
    }
    found
}

/// What `now` lacks of what the registry held in `before` beyond subjects and levels, and what of it is another.
pub fn diff_beyond(before: &Dump, now: &Dump) -> Vec<Difference> {
    let found = lost(&before.beyond, &now.beyond).into_iter();
    let differences = found.map(|(entity, changed)| match changed {
        true => Difference::BeyondChanged { entity },
        false => Difference::BeyondMissing { entity },
    });
    differences.collect()
}

fn by_version(dump: &Dump) -> BTreeMap<(Subject, SubjectVersion), &VersionLine> {
    dump.versions.iter().map(|v| ((v.subject.clone(), v.version), v)).collect()
}

fn settings(before: &Dump, now: &Dump, found: &mut Vec<Difference>) {
    let mut level = |subject: Option<Subject>, before: Option<String>, now: Option<String>| {
        if before != now {
            found.push(Difference::LevelChanged { subject, before, now });
        }
    };
    level(None, before.global_compat.clone(), now.global_compat.clone());
    let settings = |d: &Dump| -> BTreeMap<Subject, (Option<String>, Option<String>)> {
        d.subjects.iter().map(|s| (s.subject.clone(), (s.compat.clone(), s.mode.clone()))).collect()
    };
    let (old, new) = (settings(before), settings(now));
    let all: BTreeSet<&Subject> = old.keys().chain(new.keys()).collect();
    let of = |map: &BTreeMap<Subject, (Option<String>, Option<String>)>, s: &Subject| {
        map.get(s).cloned().unwrap_or_default()
    };
    for subject in &all {
        level(Some((*subject).clone()), of(&old, subject).0, of(&new, subject).0);
    }
    let mut mode = |subject: Option<Subject>, before: Option<String>, now: Option<String>| {
        if before != now {
            found.push(Difference::ModeChanged { subject, before, now });
        }
    };
    mode(None, before.global_mode.clone(), now.global_mode.clone());
    for subject in &all {
        mode(Some((*subject).clone()), of(&old, subject).1, of(&new, subject).1);
    }
}

fn versions(before: &VersionLine, now: &VersionLine, found: &mut Vec<Difference>) {
    let (subject, version) = (before.subject.clone(), before.version);
    let changes = [
        ("schema", before.schema_sha256 != now.schema_sha256),
        ("type", before.schema_type != now.schema_type),
        ("references", before.references != now.references),
        ("metadata", before.metadata != now.metadata),
        ("rule set", before.rule_set != now.rule_set),
    ];
    for (what, _) in changes.iter().filter(|(_, changed)| *changed) {
        found.push(Difference::SchemaChanged { subject: subject.clone(), version, what });
    }
    if before.id != now.id {
        found.push(Difference::IdChanged { subject: subject.clone(), version, before: before.id, now: now.id });
    }
    if before.global_id != now.global_id {
        let (before, now) = (before.global_id, now.global_id);
        found.push(Difference::GlobalIdChanged { subject: subject.clone(), version, before, now });
    }
    if before.state != now.state {
        found.push(Difference::StateChanged { subject, version, before: before.state, now: now.state });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::backup::{hash::sha256, parts::registry::SubjectState};
    use cdc_pipeline::client::registry::Reference;
    use rstest::rstest;

    pub(in super::super) fn line(subject: &str, version: u32, id: u32, global_id: u64, schema: &str) -> VersionLine {
        VersionLine {
            subject: Subject::new(subject),
            version: SubjectVersion(version),
            id: SchemaId(id),
            global_id,
            schema_type: "AVRO".into(),
            schema_sha256: sha256(schema.as_bytes()),
            schema: schema.into(),
            references: vec![],
            state: VersionState::Active,
            metadata: None,
            rule_set: None,
            subject_compat: None,
            subject_mode: None,
            order: global_id,
            created_ms: Some(1_795_380_326_251),
        }
    }

    /// Ids beyond the ordinary, a version gap, a soft-deleted version, a shared text, a reference, levels of all kinds.
    pub(in super::super) fn dump() -> Dump {
        let record = |name: &str, field: &str| {
            format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"{field}","type":"int"}}]}}"#)
        };
        let mut gone = line("gone-value", 1, 4713, 9002, &record("Gone", "g"));
        gone.state = VersionState::SoftDeleted;
        let mut gap_deleted = line("gap-value", 2, 4711, 9000, &record("A", "x"));
        gap_deleted.state = VersionState::SoftDeleted;
        let mut referrer =
            line("ref-value", 1, 4720, 9005, r#"{"type":"record","name":"R","fields":[{"name":"a","type":"A"}]}"#);
        referrer.references =
            vec![Reference { name: "A".into(), subject: Subject::new("base-value"), version: SubjectVersion(1) }];
        let subject = |name: &str, compat: Option<&str>| SubjectState {
            subject: Subject::new(name),
            compat: compat.map(str::to_owned),
            mode: None,
        };
        Dump {
            flavour: "apicurio".into(),
            product_version: "3.3.3".into(),
            id_kind: "contentId".into(),
            global_compat: Some("BACKWARD".into()),
            global_mode: Some("READWRITE".into()),
            subjects: vec![
                subject("base-value", Some("FULL")),
                subject("gap-value", Some("NONE")),
                subject("gone-value", None),
                subject("odd/na:me%", None),
                subject("orphan", Some("FORWARD")),
                subject("ref-value", None),
            ],
            versions: vec![
                gap_deleted,
                line("base-value", 1, 4711, 9001, &record("A", "x")),
                gone,
                line("gap-value", 5, 4712, 9003, &record("A", "y")),
                line("odd/na:me%", 1, 4712, 9004, &record("A", "y")),
                referrer,
            ],
            caps_hit: vec![],
            beyond: vec![],
        }
    }

    #[test]
    fn equal_dumps_do_not_differ() {
        assert_eq!(diff(&dump(), &dump()), []);
    }

    #[rstest]
    #[case::level(|d: &mut Dump| d.global_compat = None, "global level BACKWARD is now unset")]
    #[case::none_is_not_unset(|d: &mut Dump| d.subjects[1].compat = None, "gap-value: level NONE is now unset")]
    #[case::mode(|d: &mut Dump| d.global_mode = Some("READONLY".into()), "global mode READWRITE is now READONLY")]
    #[case::missing(|d: &mut Dump| { d.versions.remove(0); }, "gap-value v2 (id 4711): missing")]
    #[case::state(|d: &mut Dump| d.versions[0].state = VersionState::Active, "gap-value v2: SoftDeleted is now Active")]
    #[case::global_id(|d: &mut Dump| d.versions[1].global_id = 1, "base-value v1: global id 9001 is now 1")]
    #[case::references(|d: &mut Dump| d.versions[5].references.clear(), "ref-value v1: other references")]
    #[case::orphan(|d: &mut Dump| { d.subjects.remove(4); }, "orphan: level FORWARD is now unset")]
    fn one_planted_change_is_one_difference(#[case] plant: fn(&mut Dump), #[case] said: &str) {
        let mut now = dump();
        plant(&mut now);
        let found: Vec<String> = diff(&dump(), &now).iter().map(ToString::to_string).collect();
        assert_eq!(found, [said]);
    }

    #[test]
    fn swapped_ids_are_seen_on_both_sides() {
        let mut now = dump();
        for version in &mut now.versions {
            version.id = SchemaId(match version.id.0 {
                4711 => 4712,
                4712 => 4711,
                other => other,
            });
        }
        let found = diff(&dump(), &now);
        assert_eq!(found.iter().filter(|d| matches!(d, Difference::IdChanged { .. })).count(), 4);
        assert_eq!(found.iter().filter(|d| matches!(d, Difference::IdReassigned { .. })).count(), 2);
    }

    #[test]
    fn a_lost_subject_is_named_once_and_its_versions_each() {
        let mut now = dump();
        now.versions.retain(|v| v.subject.as_str() != "gap-value");
        let found = diff(&dump(), &now);
        assert!(found.contains(&Difference::SubjectMissing { subject: Subject::new("gap-value") }));
        assert_eq!(found.len(), 3);
        assert_eq!(diff(&now, &dump()).len(), 3);
    }
}
