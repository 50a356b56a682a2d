//! What is asked for.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    backup::{Manifest, PointSelector},
    recovery::RecoveryError,
};

/// A part of a recovery point that can be restored alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelinePart {
    /// Connectors: configuration, stored offsets, state.
    Connectors,
    /// Topics: partitions and settings, without records.
    Topics,
    /// Consumer groups: committed positions.
    Groups,
    /// The schema registry: schemas with their ids, rules, levels and descriptions.
    Registry,
}

impl PipelinePart {
    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            PipelinePart::Connectors => "connectors",
            PipelinePart::Topics => "topics",
            PipelinePart::Groups => "groups",
            PipelinePart::Registry => "registry",
        }
    }

    /// Whether a recovery point has it.
    pub(super) fn is_in(self, manifest: &Manifest) -> bool {
        match self {
            PipelinePart::Connectors => manifest.connect.get().is_some(),
            PipelinePart::Topics | PipelinePart::Groups => manifest.kafka.get().is_some(),
            PipelinePart::Registry => manifest.registry.get().is_some(),
        }
    }
}

/// Which objects of a part to restore, and from where.
#[derive(Clone, Debug)]
pub struct PartRequest {
    /// The part.
    pub part: PipelinePart,
    /// The objects, by name; all of the point when empty.
    pub names: Vec<String>,
    /// The recovery point; `latest` is the newest one of this pipeline that has the part.
    pub point: PointSelector,
    /// Whether a named point is taken whose consistency checks failed.
    pub accept_inconsistent_point: bool,
    /// Whether connectors are restored without stored offsets where those of the point are not safe.
    pub accept_lost_offsets: bool,
    /// Topics of which positions are set although they are not those of the topic that is there.
    pub accept_topics: BTreeSet<String>,
    /// Whether nothing is to be changed: other commands need not give way then.
    pub dry_run: bool,
}

impl PartRequest {
    /// Everything of the part, from the newest point.
    pub fn new(part: PipelinePart) -> PartRequest {
        PartRequest {
            part,
            names: Vec::new(),
            point: PointSelector::Latest,
            accept_inconsistent_point: false,
            accept_lost_offsets: false,
            accept_topics: BTreeSet::new(),
            dry_run: false,
        }
    }

    /// The objects that are asked for. Refuses names that the point does not have.
    pub(super) fn select<T>(&self, all: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Vec<T>, RecoveryError> {
        let absent: Vec<&str> = self
            .names
            .iter()
            .map(String::as_str)
            .filter(|wanted| !all.iter().any(|one| name(one) == *wanted))
            .collect();
        if !absent.is_empty() {
            let there: Vec<&str> = all.iter().map(&name).collect();
            return Err(RecoveryError::impossible(
                format!("{} {}", self.part.word(), absent.join(", ")),
                "names that the recovery point has",
                if there.is_empty() { "a point without any".to_owned() } else { there.join(", ") },
                "`backup list` shows other points: --point ID",
            ));
        }
        let wanted = |one: &T| self.names.is_empty() || self.names.iter().any(|wanted| wanted == name(one));
        Ok(all.into_iter().filter(wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{Exit, Failure};

    #[test]
    fn names_that_the_point_lacks_are_refused_and_listed() {
        let all = || vec!["a".to_owned(), "b".to_owned()];
        let request = |names: &[&str]| PartRequest {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            ..PartRequest::new(PipelinePart::Groups)
        };
        assert_eq!(request(&[]).select(all(), |n| n).unwrap(), all());
        assert_eq!(request(&["b"]).select(all(), |n| n).unwrap(), ["b"]);
        let error = request(&["b", "c"]).select(all(), |n| n).unwrap_err();
        assert_eq!(error.exit(), Exit::PlanImpossible);
        assert!(
            error.to_string().contains("groups c: expected names that the recovery point has, found a, b"),
            "{error}"
        );
    }
}
