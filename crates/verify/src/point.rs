//! What a recovery point says of things that must be as they were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::observation::{RegistryView, SubjectView, VersionView};
use cdc_engine::backup::{
    BackupError, Point,
    parts::registry::{Dump, VersionState},
};
use cdc_pipeline::client::kafka::TopicSpec;

/// The parts of a recovery point that checks compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointView {
    /// The registry, where the point holds it.
    pub registry: Option<RegistryView>,
    /// Settings of topics, where the point holds them.
    pub specs: BTreeMap<String, TopicSpec>,
}

impl PointView {
    /// Reads a point. A part that it does not hold is not compared.
    pub fn load(point: &Point) -> Result<PointView, BackupError> {
        let registry = match point.dump() {
            Ok(dump) => Some(RegistryView::from(&dump)),
            Err(BackupError::PartAbsent { .. }) => None,
            Err(error) => return Err(error),
        };
        let specs = match point.topics() {
            Ok(topics) => topics.into_iter().map(|t| (t.spec.name.clone(), t.spec)).collect(),
            Err(BackupError::PartAbsent { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(PointView { registry, specs })
    }
}

impl From<&Dump> for RegistryView {
    fn from(dump: &Dump) -> RegistryView {
        let mut subjects: BTreeMap<String, SubjectView> = BTreeMap::new();
        for state in &dump.subjects {
            let subject = subjects.entry(state.subject.0.clone()).or_default();
            subject.level = state.compat.clone();
            subject.mode = state.mode.clone();
        }
        for line in &dump.versions {
            let version = VersionView {
                id: dump.record_id(line),
                schema: line.schema.clone(),
                deleted: line.state == VersionState::SoftDeleted,
            };
            subjects.entry(line.subject.0.clone()).or_default().versions.insert(line.version.0, version);
        }
        RegistryView {
            global_level: dump.global_compat.clone(),
            global_mode: dump.global_mode.clone(),
            subjects,
            elsewhere: BTreeMap::new(),
        }
    }
}
