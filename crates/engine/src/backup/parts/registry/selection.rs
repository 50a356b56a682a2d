//! A part of a registry's content, by names: subjects, artifacts (`group/artifact`), or groups.

use std::collections::BTreeSet;

use super::{DEFAULT_GROUP, Dump, Entity, LEVEL_IN_FULL};
use cdc_model::units::Subject;

/// The artifacts that names mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Everything.
    all: bool,
    /// Group and name of artifacts; those of the group `default` are subjects.
    artifacts: BTreeSet<(String, String)>,
    groups: BTreeSet<String>,
}

impl Selection {
    /// Everything that a registry holds.
    pub(crate) fn everything() -> Selection {
        Selection { all: true, ..Selection::default() }
    }

    /// What these names mean in a dump; the names that mean nothing in it are an error.
    pub(crate) fn of(names: &[String], dump: &Dump) -> Result<Selection, Vec<String>> {
        let (artifacts, groups) = (artifacts(dump), groups(dump));
        let (mut selection, mut unknown) = (Selection::default(), Vec::new());
        for name in names {
            let own = (DEFAULT_GROUP.to_owned(), name.clone());
            let divided = name.split_once('/').map(|(group, artifact)| (group.to_owned(), artifact.to_owned()));
            let found: Vec<_> = [Some(own), divided].into_iter().flatten().filter(|a| artifacts.contains(a)).collect();
            if found.is_empty() && !groups.contains(name) {
                unknown.push(name.clone());
            }
            selection.artifacts.extend(found);
            selection.groups.extend(groups.get(name).cloned());
        }
        match unknown.is_empty() {
            true => Ok(selection),
            false => Err(unknown),
        }
    }

    fn has_artifact(&self, group: &str, artifact: &str) -> bool {
        self.all || self.groups.contains(group) || self.artifacts.contains(&(group.to_owned(), artifact.to_owned()))
    }

    fn has_subject(&self, subject: &Subject) -> bool {
        self.has_artifact(DEFAULT_GROUP, subject.as_str())
    }

    /// Of a dump, what is selected. Levels and rules that are everybody's belong to everything alone.
    pub(crate) fn take(&self, dump: &Dump) -> Dump {
        if self.all {
            return dump.clone();
        }
        let versions: Vec<_> = dump.versions.iter().filter(|v| self.has_subject(&v.subject)).cloned().collect();
        let own = |entity: &&Entity| match (entity.key.artifact(), entity.key.kind.as_str()) {
            (Some((group, artifact)), _) => self.has_artifact(group, artifact),
            (None, "Group" | "GroupRule") => self.groups.contains(&entity.key.of[0]),
            (None, LEVEL_IN_FULL) => {
                entity.key.of.first().is_some_and(|subject| self.has_subject(&Subject::new(subject)))
            }
            (None, _) => false,
        };
        let mut beyond: Vec<Entity> = dump.beyond.iter().filter(own).cloned().collect();
        let foreign = beyond.iter().filter(|e| e.key.is_version());
        let (mut globals, mut contents): (BTreeSet<u64>, BTreeSet<u64>) =
            (versions.iter().map(|v| v.global_id).collect(), versions.iter().map(|v| u64::from(v.id.0)).collect());
        for version in foreign {
            globals.extend(version.number("globalId"));
            contents.extend(version.number("contentId"));
        }
        let belongs = |entity: &&Entity| match entity.key.kind.as_str() {
            "Comment" => entity.key.of[0].parse().is_ok_and(|id| globals.contains(&id)),
            "Content" => entity.number("contentId").is_some_and(|id| contents.contains(&id)),
            _ => false,
        };
        beyond.extend(dump.beyond.iter().filter(belongs).cloned());
        beyond.sort_by(|a, b| a.key.cmp(&b.key));
        Dump {
            global_compat: None,
            global_mode: None,
            subjects: dump.subjects.iter().filter(|s| self.has_subject(&s.subject)).cloned().collect(),
            versions,
            beyond,
            ..dump.clone()
        }
    }
}

fn artifacts(dump: &Dump) -> BTreeSet<(String, String)> {
    let subjects = dump.versions.iter().map(|v| &v.subject).chain(dump.subjects.iter().map(|s| &s.subject));
    let own = subjects.map(|s| (DEFAULT_GROUP.to_owned(), s.as_str().to_owned()));
    let foreign = dump.beyond.iter().filter_map(|e| e.key.artifact());
    own.chain(foreign.map(|(group, artifact)| (group.to_owned(), artifact.to_owned()))).collect()
}

fn groups(dump: &Dump) -> BTreeSet<String> {
    let named = dump.beyond.iter().filter(|e| e.key.kind == "Group").map(|e| e.key.of[0].clone());
    named.chain(artifacts(dump).into_iter().map(|(group, _)| group)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{diff::tests::dump, entity::tests::entity},
        *,
    };

    fn full() -> Dump {
        let mut dump = dump();
        dump.beyond = vec![
            entity("Group", json!({"groupId": "apps"})),
            entity("Artifact", json!({"groupId": "apps", "artifactId": "invoice"})),
            entity(
                "ArtifactVersion",
                json!({"groupId": "apps", "artifactId": "invoice", "version": "1", "globalId": 7, "contentId": 8}),
            ),
            entity("Content", json!({"contentId": 8})),
            entity("Content", json!({"contentId": 9})),
            entity("Comment", json!({"globalId": 7, "commentId": "1"})),
            entity("Comment", json!({"globalId": 9001, "commentId": "2"})),
            entity("GlobalRule", json!({"ruleType": "VALIDITY"})),
        ];
        dump
    }

    fn taken(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let dump = Selection::of(&names, &full()).unwrap().take(&full());
        let versions = dump.versions.iter().map(|v| format!("{} {}", v.subject, v.version)).collect();
        (versions, dump.beyond.iter().map(|e| e.key.to_string()).collect())
    }

    #[test]
    fn a_name_means_a_subject_an_artifact_or_a_group_with_all_that_belongs_to_it() {
        let (versions, beyond) = taken(&["base-value"]);
        assert_eq!(versions, ["base-value 1"]);
        assert_eq!(beyond, ["Comment 9001/2"]);
        let (versions, beyond) = taken(&["apps/invoice"]);
        assert!(versions.is_empty());
        assert_eq!(beyond, ["Artifact apps/invoice", "ArtifactVersion apps/invoice/1", "Comment 7/1", "Content 8"]);
        assert!(taken(&["apps"]).1.contains(&"Group apps".to_owned()));
        assert_eq!(taken(&["odd/na:me%"]).0, ["odd/na:me% 1"], "a subject, and no artifact of a group");
        assert_eq!(taken(&["default"]).0.len(), full().versions.len());
        assert_eq!(Selection::everything().take(&full()), full());
    }

    #[test]
    fn names_that_mean_nothing_are_told() {
        let names = ["base-value".to_owned(), "nothing".to_owned(), "apps/nothing".to_owned()];
        assert_eq!(Selection::of(&names, &full()).unwrap_err(), names[1..]);
    }
}
