//! What a recovery was asked for, and whether another request is the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::recovery::{Playbook, RecoveryError, Request, Target};
use cdc_model::{
    units::{SystemId, Timeline},
    vocabulary::{Loss, OnConflict, TopicsRepair},
};

/// How the steps of a recovery are other ones than those of its playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variation {
    /// The steps of the playbook that are not taken, by name.
    pub without: BTreeSet<String>,
    /// What is followed instead of the playbook, by name.
    pub procedure: Option<String>,
}

/// A request as it is written down. Agreements to a loss are no part of it: they may be added on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) playbook: Playbook,
    pub(crate) point: String,
    pub(crate) target: String,
    pub(crate) timeline: Option<Timeline>,
    #[serde(default)]
    pub(crate) system_id: Option<SystemId>,
    pub(crate) exclusive: bool,
    pub(crate) connectors: BTreeSet<String>,
    pub(crate) topics: TopicsRepair,
    pub(crate) on_conflict: OnConflict,
    pub(crate) undo: Vec<String>,
    /// Whether the point may be one whose checks failed.
    pub(crate) accept_inconsistent_point: bool,
    /// Whether connectors that the worker has not are made again.
    #[serde(default)]
    pub(crate) restore_connectors: bool,
    /// Whether others' connectors are looked at.
    pub(crate) neighbours: bool,
    /// The steps of the playbook that are not taken, by name.
    #[serde(rename = "omit")]
    pub(crate) without: BTreeSet<String>,
    /// What is followed instead of the playbook, by name.
    #[serde(rename = "naive")]
    pub(crate) procedure: Option<String>,
}

impl Asked {
    pub(crate) fn of(request: &Request, variation: Variation) -> Asked {
        Asked {
            playbook: request.playbook,
            point: request.point.to_string(),
            target: request.target.to_string(),
            timeline: request.timeline,
            system_id: request.system_id,
            exclusive: request.exclusive,
            connectors: request.connectors.iter().cloned().collect(),
            topics: request.topics,
            on_conflict: request.on_conflict,
            undo: request.undo.clone(),
            accept_inconsistent_point: request.accept_inconsistent_point,
            restore_connectors: request.restore_connectors,
            neighbours: request.neighbours,
            without: variation.without,
            procedure: variation.procedure,
        }
    }

    /// The request again, with what may be agreed to now.
    pub(crate) fn request(&self, accept_loss: BTreeSet<Loss>) -> Result<Request, RecoveryError> {
        let target = self.target.parse::<Target>().map_err(|why| {
            RecoveryError::impossible("the recorded request", "a target", format!("{why}"), "the record is damaged")
        })?;
        let point = self.point.parse().unwrap_or(crate::backup::PointSelector::Latest);
        Ok(Request {
            playbook: self.playbook,
            point,
            target,
            timeline: self.timeline,
            system_id: self.system_id,
            exclusive: self.exclusive,
            connectors: self.connectors.iter().cloned().collect(),
            topics: self.topics,
            on_conflict: self.on_conflict,
            undo: self.undo.clone(),
            accept_loss,
            accept_inconsistent_point: self.accept_inconsistent_point,
            restore_connectors: self.restore_connectors,
            neighbours: self.neighbours,
        })
    }

    /// As the command line says it.
    pub(crate) fn in_words(&self) -> String {
        let mut words = format!("recover run {}", self.playbook);
        let mut add = |set: bool, text: String| {
            if set {
                words += &text
            }
        };
        add(self.point != "latest", format!(" --point {}", self.point));
        add(self.target != "latest", format!(" --target {}", self.target));
        add(true, self.timeline.map(|timeline| format!(" --timeline {timeline}")).unwrap_or_default());
        add(self.exclusive, " --exclusive".to_owned());
        add(true, self.system_id.map(|id| format!(" --system-id {id}")).unwrap_or_default());
        self.connectors.iter().for_each(|name| add(true, format!(" --connector {name}")));
        add(self.accept_inconsistent_point, " --accept-inconsistent-point".to_owned());
        add(self.restore_connectors, " --restore-connectors".to_owned());
        add(self.topics == TopicsRepair::Compensate, " --topics compensate".to_owned());
        add(self.on_conflict == OnConflict::Accept, " --on-conflict accept".to_owned());
        words
    }

    /// The first thing in which another request is different: `target: time:T then, latest now`.
    pub(crate) fn differs(&self, now: &Asked) -> Option<String> {
        let (Ok(then), Ok(now)) = (serde_json::to_value(self), serde_json::to_value(now)) else { return None };
        let (then, now) = (then.as_object()?, now.as_object()?);
        let shown = |value: Option<&serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "unset".to_owned(),
        };
        let other = then.iter().find(|(name, value)| now.get(*name) != Some(value));
        other.map(|(name, value)| format!("{name}: {} then, {} now", shown(Some(value)), shown(now.get(name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_is_the_same_and_another_one_is_named() {
        let request = Request::new(Playbook::Coordinated);
        let asked = Asked::of(&request, Variation::default());
        let agreed = Request { accept_loss: BTreeSet::from([Loss::Wal]), ..request.clone() };
        assert_eq!(asked.differs(&Asked::of(&agreed, Variation::default())), None, "an agreement may be added");
        let other = Request { target: Target::Name("before".into()), ..request.clone() };
        let why = asked.differs(&Asked::of(&other, Variation::default())).unwrap();
        assert_eq!(why, "target: latest then, name:before now");
        let variation = Variation { without: BTreeSet::from(["fence".to_owned()]), procedure: None };
        assert!(asked.differs(&Asked::of(&request, variation)).unwrap().contains("fence"));
    }

    /// Both ways: a release before this one goes on with what this one began.
    #[test]
    fn a_record_has_the_fields_that_it_always_had() {
        let variation = Variation {
            without: BTreeSet::from(["delete-offsets".to_owned()]),
            procedure: Some("slot-by-hand".to_owned()),
        };
        let request = Request::new(Playbook::Slot);
        let written = r#"{"playbook":"slot","point":"latest","target":"latest","timeline":null,"system_id":null,"exclusive":false,"connectors":[],"topics":"purge","on_conflict":"reject","undo":[],"accept_inconsistent_point":false,"restore_connectors":false,"neighbours":true,"omit":["delete-offsets"],"naive":"slot-by-hand"}"#;
        let asked = Asked::of(&request, variation);
        assert_eq!(serde_json::to_string(&asked).unwrap(), written);
        assert_eq!(serde_json::from_str::<Asked>(written).unwrap(), asked);
    }

    #[test]
    fn a_request_comes_back_from_its_record() {
        let request = Request {
            target: "time:2026-11-22T20:00:00Z".parse().unwrap(),
            timeline: Some(Timeline::literal(2)),
            system_id: Some(SystemId(7412)),
            connectors: vec!["b".into(), "a".into()],
            ..Request::new(Playbook::Slot)
        };
        let asked = Asked::of(&request, Variation::default());
        let text = serde_json::to_string(&asked).unwrap();
        let read: Asked = serde_json::from_str(&text).unwrap();
        assert_eq!(Asked::of(&read.request(BTreeSet::new()).unwrap(), Variation::default()), asked);
        let words = "recover run slot --target time:2026-11-22T20:00:00Z --timeline 2 --system-id 7412 --connector a --connector b";
        assert_eq!(asked.in_words(), words);
    }
}
