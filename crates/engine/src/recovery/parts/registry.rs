//! The registry: what it lacks comes back under the ids that it had, beside what it holds; levels, modes, rules, states and descriptions are
//! put back. A registry in which an id means something else now is not made right this way, and refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PartChange, PartRequest, confluent,
    content::unresolved,
    recreated::{Recreated, divide},
};
use crate::{
    backup::parts::registry::{
        DEFAULT_GROUP, Difference, Dump, Entity, EntityKey, Selection, VersionLine, VersionState, apicurio_state,
        capture, native_entities, write_zip,
    },
    recovery::{
        RecoveryError,
        schema::{differences, put_beyond, put_level},
    },
};
use cdc_model::{
    moment,
    units::{SchemaId, Subject, counted},
};
use cdc_pipeline::{
    attach,
    client::registry::Registry,
    config::{Config, RegistryFlavour},
};

/// What has just been done: what is missing is there; artifacts of which contents were still there are made again; one thing is set in its
/// place; descriptions and rules are; all of it is read back.
pub(super) const MOMENTS: [&str; 6] = [moment::BEFORE, "imported", "made", "set", "described", moment::AFTER];

/// What to do where the registry cannot be made right beside what it holds.
const ANEW: &str = "`recover run schema` fills its store anew, and rebuilds topics whose records have other ids";

/// What will be done to the registry.
#[derive(Debug)]
pub(super) struct Plan {
    registry: Registry,
    /// What it shall hold of what is selected.
    pub(super) wanted: Dump,
    selection: Selection,
    way: Way,
    pub(super) changes: Vec<PartChange>,
    pub(super) unchanged: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// How what is missing comes back.
#[derive(Debug)]
enum Way {
    /// By Apicurio's own import, and artifacts of which contents are still there by its API.
    Import(Option<Vec<u8>>, Recreated),
    /// By Confluent's mode IMPORT.
    Register,
}

/// Looks at the registry. Refuses what cannot be put back beside what it holds.
pub(super) async fn plan(config: &Config, request: &PartRequest, saved: Dump) -> Result<Plan, RecoveryError> {
    let plan = look(Registry::of(&config.registry), &request.names, saved).await?;
    attach::within(config, "subject", plan.wanted.subjects.iter().map(|s| s.subject.as_str()))?;
    Ok(plan)
}

/// The same without a configuration.
pub(super) async fn look(registry: Registry, names: &[String], saved: Dump) -> Result<Plan, RecoveryError> {
    let is_confluent = registry.flavour() == RegistryFlavour::Confluent;
    if saved.is_confluent() != is_confluent {
        return Err(RecoveryError::impossible(
            "[registry] flavour",
            format!("{}, as that of the recovery point", saved.flavour),
            "another product",
            "schemas have the ids of the product that gave them: restore into a registry of the same one",
        ));
    }
    let selection = match names.is_empty() {
        true => Selection::everything(),
        false => Selection::of(names, &saved).map_err(|unknown| {
            RecoveryError::impossible(
                format!("registry {}", unknown.join(", ")),
                "subjects, artifacts (`group/artifact`) or groups that the recovery point has",
                format!("a point with {}", counted(saved.subjects.len(), "subject")),
                "`backup list` shows other points: --point ID",
            )
        })?,
    };
    let everything = capture(&registry).await?;
    let (wanted, now) = (selection.take(&saved), selection.take(&everything));
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for difference in differing(&wanted, &now) {
        match is_extra(&difference, &wanted) {
            true => notes.push(format!("{difference}; registered since the point, and left as it is")),
            false => found.push(difference),
        }
    }
    let way = match is_confluent {
        true => {
            refuse(confluent::objections(&wanted, &everything, &found))?;
            Way::Register
        }
        false => {
            refuse(objections(&wanted, &now, &everything, &found))?;
            let (zip, recreated) = missing(&registry, &lacking(&wanted, &now)).await?;
            Way::Import(zip, recreated)
        }
    };
    let unchanged = match found.is_empty() {
        true => vec![counted(wanted.versions.len(), "version")],
        false => Vec::new(),
    };
    Ok(Plan { registry, changes: changes(&found), way, wanted, selection, unchanged, notes })
}

fn refuse(wrong: Vec<String>) -> Result<(), RecoveryError> {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(RecoveryError::impossible(
            "the registry",
            "one that the point's content fits into, beside what it holds",
            wrong.join("; "),
            ANEW,
        )),
    }
}

/// What is imported, and what is made again. A content that no version has any more may still be there.
async fn missing(registry: &Registry, lacking: &Dump) -> Result<(Option<Vec<u8>>, Recreated), RecoveryError> {
    let impossible = |why: String| {
        let expected = "content that can be imported";
        RecoveryError::impossible("content of the registry", expected, why, "choose another point: --point ID")
    };
    let all = native_entities(lacking).map_err(impossible)?;
    let (mut held, mut wrong) = (BTreeSet::new(), Vec::new());
    for content in all.iter().filter(|e| e.key.kind == "Content") {
        let (Some(id), Some(hash)) = (content.number("contentId"), content.word("contentHash")) else { continue };
        match registry.content(id).await? {
            Some(other) if content.text.as_ref() != Some(&other) => {
                wrong.push(format!("id {id} is that of another schema, which no version has any more"));
            }
            Some(_) => _ = held.insert(id),
            None if registry.has_content_hash(hash).await? => {
                wrong.push(format!("the schema of id {id} has another id now"));
            }
            None => {}
        }
    }
    let (imported, recreated, objections) = divide(all, &held);
    wrong.extend(objections);
    if lacking.id_kind == "globalId" && !held.is_empty() {
        wrong.push("records have the ids of versions, which an artifact that is made again does not keep".to_owned());
    }
    refuse(wrong)?;
    match imported.is_empty() {
        true => Ok((None, recreated)),
        false => Ok((Some(write_zip(lacking, imported).map_err(impossible)?), recreated)),
    }
}

/// In what a registry differs, as far as records and their readers can tell: where the ids of contents stand in records, the id of a version
/// alone is of no effect.
fn differing(wanted: &Dump, now: &Dump) -> Vec<Difference> {
    let by_content = wanted.id_kind != "globalId";
    let essence = |dump: &Dump, key: &EntityKey| {
        let mut value = dump.beyond.iter().find(|e| e.key == *key)?.value.clone();
        let fields = value.as_object_mut()?;
        fields.retain(|field, _| {
            !["globalId", "owner", "createdOn", "modifiedBy", "modifiedOn"].contains(&field.as_str())
        });
        Some(value)
    };
    let of_version_id = |difference: &Difference| match difference {
        Difference::BeyondChanged { entity } if entity.is_version() => essence(wanted, entity) == essence(now, entity),
        _ => false,
    };
    differences(wanted, now).into_iter().filter(|d| !(by_content && of_version_id(d))).collect()
}

/// Whether something is only there now, beside what is wanted.
fn is_extra(difference: &Difference, wanted: &Dump) -> bool {
    let unknown = |subject: &Subject| !wanted.subjects.iter().any(|s| s.subject == *subject);
    match difference {
        Difference::SubjectExtra { .. } | Difference::VersionExtra { .. } => true,
        // The level of a subject that was not there.
        Difference::LevelChanged { subject: Some(subject), before: None, .. }
        | Difference::ModeChanged { subject: Some(subject), before: None, .. } => unknown(subject),
        _ => false,
    }
}

/// The artifacts that have versions, in a group.
fn artifacts(dump: &Dump) -> BTreeSet<(String, String)> {
    let subjects = dump.versions.iter().map(|v| (DEFAULT_GROUP.to_owned(), v.subject.as_str().to_owned()));
    let foreign = dump.beyond.iter().filter(|e| e.key.is_version()).filter_map(|e| e.key.artifact());
    subjects.chain(foreign.map(|(group, artifact)| (group.to_owned(), artifact.to_owned()))).collect()
}

/// What an import beside the present content would leave out, and what nothing puts back in place.
fn objections(wanted: &Dump, now: &Dump, everything: &Dump, found: &[Difference]) -> Vec<String> {
    let there = artifacts(now);
    let is_there = |group: &str, artifact: &str| there.contains(&(group.to_owned(), artifact.to_owned()));
    let mut wrong: Vec<String> = Vec::new();
    for difference in found {
        let possible = match difference {
            Difference::LevelChanged { .. } | Difference::ModeChanged { .. } | Difference::SubjectMissing { .. } => {
                true
            }
            // A version that is imported into an artifact is on none of its branches, and never the latest.
            Difference::VersionMissing { subject, .. } => !is_there(DEFAULT_GROUP, subject.as_str()),
            Difference::StateChanged { before, .. } => *before != VersionState::Draft,
            Difference::BeyondMissing { entity } => match entity.artifact() {
                Some((group, artifact)) if entity.is_foreign_version() => !is_there(group, artifact),
                _ => true,
            },
            Difference::BeyondChanged { entity } => entity.is_set_in_place(),
            _ => false,
        };
        if !possible {
            wrong.push(difference.to_string());
        }
    }
    wrong.extend(taken_ids(wanted, now, everything));
    wrong.extend(unresolved(wanted, everything));
    wrong
}

/// The texts of a dump by content id, with the hash by which Apicurio knows a text again.
fn contents_of(dump: &Dump) -> BTreeMap<SchemaId, &str> {
    let own = dump.versions.iter().map(|v| (v.id, v.schema.as_str()));
    let beyond = dump.beyond.iter().filter(|e| e.key.kind == "Content");
    let beyond =
        beyond.filter_map(|e| Some((SchemaId(u32::try_from(e.number("contentId")?).ok()?), e.text.as_deref()?)));
    beyond.chain(own).collect()
}

/// Ids that are to come back and mean something else now, and texts that have another id.
fn taken_ids(wanted: &Dump, now: &Dump, everything: &Dump) -> Vec<String> {
    let lacking = lacking(wanted, now);
    let held = contents_of(everything);
    let twins: BTreeMap<(&str, &[_]), SchemaId> =
        everything.versions.iter().map(|v| ((v.schema.as_str(), v.references.as_slice()), v.id)).collect();
    let globals: BTreeMap<u64, String> = global_ids(everything);
    let mut wrong = Vec::new();
    for (id, text) in contents_of(&lacking) {
        if held.get(&id).is_some_and(|other| *other != text) {
            wrong.push(format!("id {id} is another schema's now"));
        }
    }
    for version in &lacking.versions {
        let twin = twins.get(&(version.schema.as_str(), version.references.as_slice()));
        if let Some(other) = twin.filter(|id| **id != version.id) {
            wrong.push(format!(
                "the schema of {} v{} (id {}) has id {other} now",
                version.subject, version.version, version.id
            ));
        }
    }
    for (global, name) in global_ids(&lacking) {
        if let Some(other) = globals.get(&global).filter(|other| **other != name) {
            wrong.push(format!("global id {global} of {name} is that of {other} now"));
        }
    }
    wrong
}

/// Versions by global id, in words.
fn global_ids(dump: &Dump) -> BTreeMap<u64, String> {
    let own = dump.versions.iter().map(|v| (v.global_id, format!("{DEFAULT_GROUP}/{}/{}", v.subject, v.version)));
    let foreign = dump.beyond.iter().filter(|e| e.key.is_foreign_version());
    own.chain(foreign.filter_map(|e| Some((e.number("globalId")?, e.key.of.join("/"))))).collect()
}

/// What the registry lacks of what is wanted, as a dump of its own.
fn lacking(wanted: &Dump, now: &Dump) -> Dump {
    let there: BTreeSet<&Subject> = now.versions.iter().map(|v| &v.subject).collect();
    let versions: Vec<VersionLine> = wanted.versions.iter().filter(|v| !there.contains(&v.subject)).cloned().collect();
    let subjects: BTreeSet<&Subject> = versions.iter().map(|v| &v.subject).collect();
    let ids: BTreeSet<u64> = versions.iter().map(|v| u64::from(v.id.0)).collect();
    let mut beyond: Vec<Entity> =
        wanted.beyond.iter().filter(|e| !now.beyond.iter().any(|n| n.key == e.key)).cloned().collect();
    // Rules of artifacts that are there, and their descriptions, are set in place; a content comes with what has it.
    let kept: BTreeSet<u64> =
        beyond.iter().filter(|e| e.key.is_foreign_version()).filter_map(|e| e.number("contentId")).chain(ids).collect();
    beyond.retain(|entity| match entity.key.subject_version() {
        Some((subject, _)) => subjects.contains(&Subject::new(subject)),
        None => match (entity.key.artifact(), entity.key.kind.as_str()) {
            (Some((group, subject)), "Artifact" | "ArtifactRule") if group == DEFAULT_GROUP => {
                subjects.contains(&Subject::new(subject))
                    || wanted
                        .beyond
                        .iter()
                        .any(|e| e.key.is_foreign_version() && e.key.artifact() == Some((group, subject)))
            }
            (_, "Content") => true,
            (_, "GlobalRule") => false,
            _ => true,
        },
    });
    let contents = wanted.beyond.iter().filter(|e| e.key.kind == "Content");
    let contents = contents.filter(|e| e.number("contentId").is_some_and(|id| kept.contains(&id)));
    for content in contents {
        if !beyond.iter().any(|e| e.key == content.key) {
            beyond.push(content.clone());
        }
    }
    let states = wanted.subjects.iter().filter(|s| subjects.contains(&s.subject)).cloned().collect();
    Dump { global_compat: None, global_mode: None, subjects: states, versions, beyond, ..wanted.clone() }
}

fn changes(found: &[Difference]) -> Vec<PartChange> {
    let mut by_name: BTreeMap<String, PartChange> = BTreeMap::new();
    for difference in found {
        let name = match difference {
            Difference::SubjectMissing { subject }
            | Difference::VersionMissing { subject, .. }
            | Difference::StateChanged { subject, .. }
            | Difference::LevelChanged { subject: Some(subject), .. }
            | Difference::ModeChanged { subject: Some(subject), .. } => subject.to_string(),
            Difference::BeyondMissing { entity } | Difference::BeyondChanged { entity } => match entity.artifact() {
                Some((group, artifact)) if group == DEFAULT_GROUP => artifact.to_owned(),
                Some((group, artifact)) => format!("{group}/{artifact}"),
                None => entity.to_string(),
            },
            _ => "the registry".to_owned(),
        };
        let change =
            by_name.entry(name.clone()).or_insert_with(|| PartChange { name, does: Vec::new(), destroys: Vec::new() });
        let (does, destroys) = told(difference);
        change.does.push(does);
        change.destroys.extend(destroys);
    }
    by_name.into_values().collect()
}

/// What is done about a difference, and what that ends.
fn told(difference: &Difference) -> (String, Option<String>) {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
    match difference {
        Difference::SubjectMissing { .. } => ("registers the subject again".to_owned(), None),
        Difference::VersionMissing { version, id, .. } => {
            (format!("registers version {version} again, as id {id}"), None)
        }
        Difference::StateChanged { version, before, now, .. } => {
            (format!("sets version {version} from {} to {}", apicurio_state(*now), apicurio_state(*before)), None)
        }
        Difference::LevelChanged { before, now, .. } => {
            let destroys = now.as_ref().map(|now| format!("compatibility level {now}"));
            (format!("sets the compatibility level from {} to {}", text(now), text(before)), destroys)
        }
        Difference::ModeChanged { before, now, .. } => {
            (format!("sets the mode from {} to {}", text(now), text(before)), None)
        }
        Difference::BeyondMissing { entity } => (format!("brings {entity} back"), None),
        Difference::BeyondChanged { entity } => {
            (format!("sets {entity} to what it was"), Some(format!("{entity} as it is now")))
        }
        other => (other.to_string(), None),
    }
}

impl Plan {
    /// Brings back what is missing, sets what differs, and reads everything back.
    pub(super) async fn run(&self) -> Result<Vec<String>, RecoveryError> {
        match &self.way {
            Way::Import(zip, recreated) => {
                if let Some(zip) = zip {
                    self.registry.import_beside(zip.clone()).await?;
                }
                moment::pass("imported").await?;
                recreated.make(&self.registry).await?;
            }
            Way::Register => {
                let now = self.selection.take(&capture(&self.registry).await?);
                confluent::register(&self.registry, &self.wanted, &now).await?;
                moment::pass("imported").await?;
            }
        }
        moment::pass("made").await?;
        let now = self.selection.take(&capture(&self.registry).await?);
        for difference in differing(&self.wanted, &now) {
            self.set(&difference).await?;
            moment::pass("set").await?;
        }
        let now = self.selection.take(&capture(&self.registry).await?);
        match self.way {
            Way::Import(..) => put_beyond(&self.registry, &self.wanted, &now).await?,
            Way::Register => confluent::put_levels(&self.registry, &self.wanted, &now).await?,
        }
        moment::pass("described").await?;
        let now = self.selection.take(&capture(&self.registry).await?);
        let left: Vec<Difference> =
            differing(&self.wanted, &now).into_iter().filter(|d| !is_extra(d, &self.wanted)).collect();
        match left.first() {
            None => {
                moment::pass(moment::AFTER).await?;
                Ok(vec![format!("registry: {} read back", counted(self.wanted.versions.len(), "version"))])
            }
            Some(first) => Err(RecoveryError::unmet(
                "restore registry",
                "the content of the point, read back",
                format!("{}, first: {first}", counted(left.len(), "difference")),
            )),
        }
    }

    async fn set(&self, difference: &Difference) -> Result<(), RecoveryError> {
        let registry = &self.registry;
        match difference {
            difference if is_extra(difference, &self.wanted) => {}
            Difference::LevelChanged { subject: None, before: Some(level), .. } => {
                registry.set_global_level(level).await?
            }
            Difference::LevelChanged { subject: None, before: None, .. } => registry.unset_global_level().await?,
            Difference::LevelChanged { subject: Some(subject), before, .. } => {
                put_level(registry, subject, before.as_deref()).await?;
            }
            Difference::ModeChanged { subject: None, before: Some(mode), .. } => registry.set_global_mode(mode).await?,
            Difference::ModeChanged { subject: Some(subject), before, .. } => {
                registry.set_subject_mode(subject, before.as_deref()).await?;
            }
            Difference::StateChanged { subject, version, before, .. } if matches!(self.way, Way::Import(..)) => {
                let state = apicurio_state(*before);
                registry.set_state(DEFAULT_GROUP, subject.as_str(), &version.to_string(), state).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::version_line as line;
    use crate::backup::parts::registry::SubjectState;
    use cdc_model::units::SubjectVersion;
    use cdc_pipeline::client::registry::Reference;

    fn dump(versions: Vec<VersionLine>) -> Dump {
        let names: BTreeSet<Subject> = versions.iter().map(|v| v.subject.clone()).collect();
        Dump {
            flavour: "apicurio".into(),
            product_version: "3.3.3".into(),
            id_kind: "contentId".into(),
            global_compat: None,
            global_mode: None,
            subjects: names.into_iter().map(|subject| SubjectState { subject, compat: None, mode: None }).collect(),
            versions,
            caps_hit: Vec::new(),
            beyond: Vec::new(),
        }
    }

    fn refused(wanted: &Dump, now: &Dump) -> String {
        let found: Vec<Difference> = differing(wanted, now).into_iter().filter(|d| !is_extra(d, wanted)).collect();
        objections(wanted, now, now, &found).join("; ")
    }

    #[test]
    fn a_subject_that_is_gone_comes_back_where_its_ids_are_free() {
        let wanted = dump(vec![line("a", 1, 1, "x"), line("b", 1, 2, "y")]);
        let now = dump(vec![line("b", 1, 2, "y"), line("c", 1, 3, "z")]);
        assert_eq!(refused(&wanted, &now), "");
        let back = lacking(&wanted, &now);
        assert_eq!(back.versions.iter().map(|v| v.subject.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(native_entities(&back).is_ok());
    }

    #[test]
    fn an_id_that_means_something_else_now_is_refused() {
        let wanted = dump(vec![line("a", 1, 1, "x")]);
        assert!(refused(&wanted, &dump(vec![line("c", 1, 1, "other")])).contains("id 1 is another schema's now"));
        assert!(refused(&wanted, &dump(vec![line("c", 1, 7, "x")])).contains("has id 7 now"));
        let mut other = line("c", 1, 9, "z");
        other.global_id = 11;
        assert!(refused(&wanted, &dump(vec![other])).contains("global id 11"));
        assert!(refused(&wanted, &dump(vec![line("a", 1, 1, "other")])).contains("other schema"));
    }

    #[test]
    fn a_version_within_a_subject_that_is_there_is_refused_and_a_reference_that_leads_nowhere_too() {
        let wanted = dump(vec![line("a", 1, 1, "x"), line("a", 2, 2, "y")]);
        assert!(refused(&wanted, &dump(vec![line("a", 2, 2, "y")])).contains("a v1 (id 1): missing"));
        let mut referring = line("a", 1, 1, "x");
        referring.references =
            vec![Reference { name: "B".into(), subject: Subject::new("b"), version: SubjectVersion(1) }];
        let wanted = dump(vec![referring]);
        assert!(refused(&wanted, &dump(Vec::new())).contains("has a reference to b v1, which is not there"));
        assert_eq!(refused(&wanted, &dump(vec![line("b", 1, 2, "y")])), "");
    }

    #[test]
    fn what_was_registered_since_is_left_as_it_is() {
        let wanted = dump(vec![line("a", 1, 1, "x")]);
        let now = dump(vec![line("a", 1, 1, "x"), line("a", 2, 2, "y")]);
        assert_eq!(refused(&wanted, &now), "");
        assert!(differing(&wanted, &now).iter().all(|d| is_extra(d, &wanted)));
    }

    #[test]
    fn the_id_of_a_version_alone_is_of_no_effect_where_records_have_those_of_contents() {
        let key = EntityKey { kind: "ArtifactVersion".into(), of: vec!["apps".into(), "a".into(), "1.0".into()] };
        let with = |id_kind: &str, global: u64, name: &str| {
            let value = serde_json::json!({"globalId": global, "contentId": 3, "name": name});
            let beyond = vec![Entity { key: key.clone(), value, text: None }];
            Dump { id_kind: id_kind.into(), beyond, ..dump(Vec::new()) }
        };
        assert_eq!(differing(&with("contentId", 1, "n"), &with("contentId", 2, "n")), []);
        assert_eq!(differing(&with("contentId", 1, "n"), &with("contentId", 2, "other")).len(), 1);
        assert_eq!(differing(&with("globalId", 1, "n"), &with("globalId", 2, "n")).len(), 1);
    }
}
