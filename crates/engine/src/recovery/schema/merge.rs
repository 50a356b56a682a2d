//! What the registry shall hold: the recovery point's content, and what was registered since, where its id is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::backup::parts::registry::{
    DEFAULT_GROUP, Difference, Dump, Entity, EntityKey, VersionLine, diff, diff_beyond,
};
use cdc_model::units::{SchemaId, Subject, SubjectVersion};

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
    let mut taken_ids = global_ids(point);
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
                if !taken_ids.insert(line.global_id) {
                    line.global_id = taken_ids.last().unwrap_or(&0) + 1;
                    taken_ids.insert(line.global_id);
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
    wanted.caps_hit.extend(now.caps_hit.iter().filter(|cap| !point.caps_hit.contains(cap)).cloned());
    let (beyond, lost) = merge_beyond(point, now, &wanted);
    wanted.beyond = beyond;
    dropped.extend(lost);
    Merged { wanted, kept, dropped }
}

/// What is beyond subjects: where nothing of an artifact was lost, as it is now; otherwise as the point has it. What an artifact has
/// only now stays, where its ids are free. Rules are as the point has them, as levels are.
fn merge_beyond(point: &Dump, now: &Dump, wanted: &Dump) -> (Vec<Entity>, Vec<String>) {
    let damaged = damaged(point, now);
    let of_damaged = |key: &EntityKey| key.artifact().is_some_and(|(group, name)| damaged.contains(&own(group, name)));
    let theirs: BTreeMap<&EntityKey, &Entity> = now.beyond.iter().map(|e| (&e.key, e)).collect();
    let mut beyond: BTreeMap<EntityKey, Entity> = BTreeMap::new();
    let lost_ids: BTreeSet<String> = damaged_ids(point, &damaged);
    for entity in &point.beyond {
        let key = &entity.key;
        let comment = key.kind == "Comment" && lost_ids.contains(&key.of[0]);
        // A content's id stands in records: it means what it meant.
        let back = of_damaged(key) || key.is_rule() || comment || key.kind == "Content";
        let chosen = match theirs.get(key) {
            Some(_) if back => Some(entity),
            Some(now) => Some(*now),
            // Names, labels, comments and branches that somebody took away stay away.
            None => (back || key.kind == "Group").then_some(entity),
        };
        beyond.extend(chosen.map(|e| (e.key.clone(), e.clone())));
    }
    let mut dropped = Vec::new();
    for entity in now.beyond.iter().filter(|e| !beyond.contains_key(&e.key)).cloned().collect::<Vec<_>>() {
        match taken(&entity, now, &beyond, wanted) {
            None => drop(beyond.insert(entity.key.clone(), entity)),
            Some(holder) => dropped.push(format!("{} is not kept: its id means {holder}", entity.key)),
        }
    }
    let all: Vec<Entity> = beyond.values().cloned().collect();
    beyond.retain(|_, entity| belongs(entity, &all, wanted));
    (beyond.into_values().collect(), dropped)
}

/// The global ids of all versions, those that no subject can have among them.
fn global_ids(dump: &Dump) -> BTreeSet<u64> {
    let foreign = dump.beyond.iter().filter(|e| e.key.is_foreign_version());
    let foreign = foreign.filter_map(|e| e.number("globalId"));
    dump.versions.iter().map(|v| v.global_id).chain(foreign).collect()
}

fn own(group: &str, artifact: &str) -> (String, String) {
    (group.to_owned(), artifact.to_owned())
}

/// Artifacts of which a version of the point is not there, or has other ids. A subject's are in the group `default`.
fn damaged(point: &Dump, now: &Dump) -> BTreeSet<(String, String)> {
    let same_ids = |a: &Entity, b: &Entity| ["globalId", "contentId"].iter().all(|id| a.number(id) == b.number(id));
    let foreign = point.beyond.iter().filter(|e| e.key.is_foreign_version());
    let lost = foreign.filter(|e| !now.beyond.iter().any(|n| n.key == e.key && same_ids(n, e)));
    let lost = lost.filter_map(|e| e.key.artifact()).map(|(group, artifact)| own(group, artifact));
    let subjects = point.versions.iter().filter(|v| {
        let there = now.version(&v.subject, v.version);
        there.is_none_or(|n| n.id != v.id || n.global_id != v.global_id)
    });
    lost.chain(subjects.map(|v| own(DEFAULT_GROUP, v.subject.as_str()))).collect()
}

/// The global ids of versions of these artifacts, by which comments name them.
fn damaged_ids(point: &Dump, damaged: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    let foreign = point.beyond.iter().filter(|e| e.key.is_version());
    let foreign = foreign.filter(|e| e.key.artifact().is_some_and(|(g, a)| damaged.contains(&own(g, a))));
    let subjects = point.versions.iter().filter(|v| damaged.contains(&own(DEFAULT_GROUP, v.subject.as_str())));
    let ids = foreign.filter_map(|e| e.number("globalId")).chain(subjects.map(|v| v.global_id));
    ids.map(|id| id.to_string()).collect()
}

/// What holds an id of an entity that only the registry of now has.
fn taken(entity: &Entity, now: &Dump, beyond: &BTreeMap<EntityKey, Entity>, wanted: &Dump) -> Option<String> {
    let content = SchemaId(entity.number("contentId")? as u32);
    if let Some(text) = text_of(&now.versions, now.beyond.iter(), content)
        && text_of(&wanted.versions, beyond.values(), content).is_some_and(|other| other != text)
    {
        return Some(format!("another text: {content}"));
    }
    let global = entity.number("globalId").filter(|_| entity.key.is_version())?;
    let own = entity.key.subject_version();
    let is_own = |v: &VersionLine| own == Some((v.subject.as_str(), v.version));
    let subject = wanted.versions.iter().find(|v| v.global_id == global && !is_own(v));
    let other = beyond.values().find(|e| e.key.is_version() && e.number("globalId") == Some(global));
    subject.map(|v| format!("{} version {}", v.subject, v.version)).or_else(|| other.map(|e| e.key.to_string()))
}

/// The text of a content id.
fn text_of<'a>(
    versions: &'a [VersionLine],
    beyond: impl Iterator<Item = &'a Entity>,
    content: SchemaId,
) -> Option<&'a str> {
    let subject = versions.iter().find(|v| v.id == content).map(|v| v.schema.as_str());
    subject.or_else(|| {
        let mut contents = beyond.filter(|e| e.key.kind == "Content");
        contents.find(|e| e.number("contentId") == Some(u64::from(content.0)))?.text.as_deref()
    })
}

/// Whether what an entity belongs to is there.
fn belongs(entity: &Entity, all: &[Entity], wanted: &Dump) -> bool {
    let key = &entity.key;
    if key.kind == "Comment" {
        let global = key.of[0].as_str();
        let foreign =
            all.iter().any(|e| e.key.is_version() && e.number("globalId").is_some_and(|g| g.to_string() == global));
        return foreign || wanted.versions.iter().any(|v| v.global_id.to_string() == global);
    }
    if key.kind == "Content" {
        let id = entity.number("contentId");
        return all.iter().any(|e| e.key.is_foreign_version() && e.number("contentId") == id)
            || wanted.versions.iter().any(|v| Some(u64::from(v.id.0)) == id);
    }
    if let Some((subject, version)) = key.subject_version() {
        return wanted.version(&Subject::new(subject), version).is_some();
    }
    match key.artifact() {
        Some(_) if key.is_version() => true,
        Some((group, artifact)) => {
            let subject = group == DEFAULT_GROUP && wanted.versions.iter().any(|v| v.subject.as_str() == artifact);
            subject || all.iter().any(|e| e.key.is_version() && e.key.artifact() == Some((group, artifact)))
        }
        None => true,
    }
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
    let contents = wanted.beyond.iter().filter(|e| e.key.kind == "Content");
    let mut held = contents.filter(|e| e.number("contentId") == Some(u64::from(version.id.0)));
    if let Some(holder) = held.find(|e| e.text.as_ref() != Some(&version.schema)) {
        return Err(format!("its id means {}", holder.key));
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
    let all = diff(wanted, now).into_iter().chain(diff_beyond(wanted, now));
    // A comment is kept under the global id of its version.
    let of_global_id = |d: &Difference| match d {
        Difference::GlobalIdChanged { .. } => true,
        Difference::BeyondMissing { entity } => entity.kind == "Comment",
        _ => false,
    };
    all.filter(|d| !(by_content && of_global_id(d))).collect()
}

/// Ids that mean another schema in one dump than in the other.
pub(crate) fn reassigned(a: &Dump, b: &Dump) -> BTreeSet<SchemaId> {
    let (left, right): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.ids(), b.ids());
    left.into_iter().filter(|(id, sha)| right.get(id).is_some_and(|other| other != sha)).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::backup::fixture::version_line as line;

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
            beyond: Vec::new(),
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

    fn entity(kind: &str, of: &[&str], value: serde_json::Value) -> Entity {
        let key = EntityKey { kind: kind.into(), of: of.iter().map(|o| (*o).to_owned()).collect() };
        Entity { key, value, text: (kind == "Content").then(|| format!("text {}", of[0])) }
    }

    /// Invoice of group apps, with everything that hangs on it, under these ids.
    fn invoice(global: u64, content: u64) -> Vec<Entity> {
        let version = json!({"globalId": global, "contentId": content});
        vec![
            entity("Artifact", &["apps", "invoice"], json!({"labels": {"a": "b"}})),
            entity("ArtifactVersion", &["apps", "invoice", "1.0.0"], version),
            entity("Branch", &["apps", "invoice", "latest"], json!({})),
            entity("Comment", &[&global.to_string(), "1"], json!({})),
            entity("Content", &[&content.to_string()], json!({"contentId": content, "contentHash": "h"})),
            entity("GlobalRule", &["VALIDITY"], json!({"configuration": "FULL"})),
            entity("Group", &["apps"], json!({})),
        ]
    }

    fn with(versions: Vec<VersionLine>, beyond: Vec<Entity>) -> Dump {
        Dump { beyond, ..dump(versions) }
    }

    #[test]
    fn what_is_beyond_subjects_comes_back_when_the_store_was_lost() {
        let point = with(vec![line("a", 1, 1, "x")], invoice(20, 2));
        let merged = merge(&point, &dump(Vec::new()));
        assert_eq!(merged.wanted, point);
        let damage = differences(&merged.wanted, &dump(Vec::new()));
        let said: Vec<String> = damage.iter().map(ToString::to_string).collect();
        assert!(said.contains(&"ArtifactVersion apps/invoice/1.0.0: missing".to_owned()), "{said:?}");
        assert!(said.contains(&"GlobalRule VALIDITY: missing".to_owned()), "{said:?}");
    }

    #[test]
    fn a_newer_version_gets_no_global_id_that_another_groups_has() {
        let mut subject = line("a", 1, 1, "x");
        subject.global_id = 10;
        let point = with(vec![subject], invoice(11, 2));
        let mut newer = line("c", 1, 7, "new");
        newer.global_id = 10;
        let merged = merge(&point, &dump(vec![newer.clone()]));
        assert_eq!(merged.wanted.versions.last().map(|v| (v.subject.as_str(), v.global_id)), Some(("c", 12)));
        newer.global_id = 11;
        let merged = merge(&point, &dump(vec![newer]));
        assert_eq!(merged.wanted.versions.last().map(|v| v.global_id), Some(12));
    }

    #[test]
    fn a_subject_that_was_registered_again_is_compared_by_its_content_id() {
        let described = |global: u64| {
            let value = json!({"globalId": global, "contentId": 1, "versionOrder": 1, "state": "ENABLED", "name": "n", "owner": "me"});
            vec![
                entity("ArtifactVersion", &["default", "a", "1"], value),
                entity("Comment", &[&global.to_string(), "1"], json!({})),
            ]
        };
        let (mut before, mut again) = (line("a", 1, 1, "x"), line("a", 1, 1, "x"));
        (before.global_id, again.global_id) = (10, 99);
        let (before, now) = (with(vec![before], described(10)), with(vec![again], described(99)));
        assert_eq!(differences(&before, &now), []);
    }

    #[test]
    fn what_somebody_changed_beyond_subjects_stays_changed() {
        let point = with(vec![line("a", 1, 1, "x")], invoice(20, 2));
        let mut now = point.clone();
        now.beyond[0].value = json!({"labels": {"a": "c"}});
        now.beyond.retain(|e| e.key.kind != "Comment");
        now.beyond.push(entity("Group", &["new"], json!({})));
        let merged = merge(&point, &now);
        assert_eq!(differences(&merged.wanted, &now), [], "nothing is damaged");
        now.beyond.retain(|e| !e.key.is_rule());
        let said = differences(&merge(&point, &now).wanted, &now);
        assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), ["GlobalRule VALIDITY: missing"]);
    }

    #[test]
    fn an_id_that_means_something_else_now_is_the_points() {
        let point = with(vec![line("a", 1, 1, "x")], invoice(20, 2));
        // The store was lost, and a stranger got the ids of the invoice.
        let mut stranger = invoice(20, 2);
        stranger.retain(|e| matches!(e.key.kind.as_str(), "ArtifactVersion" | "Content"));
        stranger[0].key.of[1] = "stranger".into();
        stranger[1].text = Some("another".into());
        let merged = merge(&point, &with(vec![line("a", 1, 1, "x")], stranger));
        assert_eq!(merged.wanted.beyond, point.beyond);
        let said = "ArtifactVersion apps/stranger/1.0.0 is not kept: its id means another text: 2";
        assert_eq!(merged.dropped, [said]);
        let newer = merge(&point, &dump(vec![line("a", 1, 1, "x"), line("a", 2, 2, "other")]));
        assert_eq!(newer.dropped, ["a version 2 (id 2) is not kept: its id means Content 2"]);
    }
}
