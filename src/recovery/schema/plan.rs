//! What is wrong between registry, records and source, and which repair follows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    merge::{Merged, differences, merge},
    records::{Wrong, described, wrong_records},
    store,
    undo::{self, Undo},
};
use crate::{
    backup::parts::registry::{Difference, Dump, capture},
    client::registry::Registry,
    recovery::{
        RecoveryError,
        pipeline::Source,
        repair::{Repair, Table},
        server::Control,
    },
    units::Subject,
    vocabulary::OnConflict,
};

/// What the schema playbook found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SchemaPlan {
    /// The registry as it was found.
    pub(crate) found: Dump,
    /// The registry as it shall be.
    pub(crate) wanted: Dump,
    /// Topics with records under wrong ids.
    pub(crate) wrong: Wrong,
    /// Changes of the source that the registry refuses.
    pub(crate) undo: Vec<Undo>,
    /// Subjects that refuse a change.
    pub(crate) refused: Vec<Subject>,
}

/// Looks, and chooses the steps.
pub(crate) async fn plan(repair: &mut Repair) -> Result<&'static Table, RecoveryError> {
    let registry = Registry::of(&repair.pipeline.config.registry);
    let point = repair.point.as_ref().ok_or_else(|| {
        RecoveryError::impossible(
            "the schema playbook",
            "a recovery point that holds the registry as it should be",
            match repair.findings.is_empty() {
                true => "no recovery point".to_owned(),
                false => format!("none of this pipeline; {}", repair.findings.join("; ")),
            },
            "`backup create --only registry` makes one while the registry is sound",
        )
    })?;
    let saved = point.dump()?;
    let found = capture(&registry).await?;
    let Merged { wanted, kept, dropped } = merge(&saved, &found);
    let damage = differences(&wanted, &found);
    let wrong = match damage.is_empty() {
        true => Wrong::new(),
        false => repair.wrong_records(&wanted, &found).await?,
    };
    let blocked = blocked(repair.pipeline.all_sources());
    repair.findings.extend(differences(&saved, &found).iter().map(|d| format!("registry: {d}")));
    repair.findings.extend(kept.into_iter().chain(dropped).map(|k| format!("registry: {k}")));
    repair.findings.extend(described(&wrong));
    repair.findings.extend(blocked.iter().map(|s| {
        format!("connector {}: blocked by a refused change: {}", s.name, s.status.failure().unwrap_or_default())
    }));
    let mut schema = SchemaPlan { found, wanted, wrong, undo: Vec::new(), refused: Vec::new() };
    if !damage.is_empty() {
        if !repairable_in_place(&schema, &damage) {
            Control::of(&repair.pipeline.config, "registry")?;
            store::storage_of(&repair.pipeline.config)?;
            store::archive_of(&schema.wanted)?;
        }
        repair.schema.change(|plan| *plan = Some(schema))?;
        repair.choose_affected();
        repair.pipeline.refuse_shared()?;
        repair.pipeline.refuse_active()?;
        return Ok(&super::DAMAGE);
    }
    if blocked.is_empty() {
        repair.findings.push(
            "registry: equals the recovery point, with what was registered since; no connector is blocked".into(),
        );
        repair.schema.change(|plan| *plan = Some(schema))?;
        return Ok(&super::SOUND);
    }
    let names: BTreeSet<String> = blocked.iter().map(|s| s.name.clone()).collect();
    repair.pipeline.narrow(&names, false);
    schema.undo = undo::derive(repair, &schema.found).await?;
    schema.refused = undo::subjects(repair, &schema)?;
    repair.findings.extend(schema.undo.iter().map(|u| format!("table {}: {}; undone by: {}", u.table, u.what, u.sql)));
    repair.schema.change(|plan| *plan = Some(schema))?;
    match repair.request.on_conflict {
        OnConflict::Reject => {
            repair.pipeline.refuse_shared()?;
            repair.pipeline.refuse_active()?;
            Ok(&super::REJECT)
        }
        OnConflict::Accept => Ok(&super::ACCEPT),
    }
}

impl Repair {
    /// Records of this cluster's topics whose ids do not mean what they meant.
    pub(super) async fn wrong_records(&self, wanted: &Dump, found: &Dump) -> Result<Wrong, RecoveryError> {
        let topics: BTreeSet<String> = self.pipeline.all_sources().iter().flat_map(|s| s.topics.clone()).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        wrong_records(&self.pipeline.kafka, &topics, wanted, found).await
    }

    /// Narrows the repair to the connectors with wrong records: their position goes with their topics, so that all of a
    /// connector's topics are rebuilt. The others are only stopped meanwhile: tasks keep ids in memory.
    pub(crate) fn choose_affected(&mut self) {
        let Some(schema) = &*self.schema else { return };
        let concerned = |s: &&Source| s.topics.iter().any(|t| schema.wrong.contains_key(t));
        let names: BTreeSet<String> =
            self.pipeline.all_sources().iter().filter(concerned).map(|s| s.name.clone()).collect();
        self.pipeline.narrow(&names, true);
    }
}

/// Sources whose failure is a refused schema.
fn blocked(sources: &[Source]) -> Vec<&Source> {
    sources.iter().filter(|s| traces(s).any(is_refusal)).collect()
}

pub(super) fn traces(source: &Source) -> impl Iterator<Item = &str> {
    source.status.tasks.iter().filter(|t| t.state == "FAILED").filter_map(|t| t.trace.as_deref())
}

/// The converter passes on what the registry answered: Apicurio's own rule violation, or the status of Confluent's API.
fn is_refusal(trace: &str) -> bool {
    let trace = trace.to_lowercase();
    trace.contains("ruleviolation") || trace.contains("incompatible") || trace.contains("409")
}

/// Whether setting levels and registering missing subjects again can be enough; reading back decides.
pub(super) fn repairable_in_place(schema: &SchemaPlan, damage: &[Difference]) -> bool {
    let contiguous = |subject: &Subject| {
        let versions = schema.wanted.versions_of(subject);
        versions.iter().enumerate().all(|(i, v)| v.version.0 == i as u32 + 1)
    };
    damage.iter().all(|d| match d {
        Difference::LevelChanged { .. } | Difference::ModeChanged { .. } => true,
        Difference::BeyondMissing { entity } | Difference::BeyondChanged { entity } => entity.is_set_in_place(),
        Difference::SubjectMissing { subject } => contiguous(subject),
        Difference::VersionMissing { subject, .. } => {
            schema.found.versions_of(subject).is_empty() && contiguous(subject)
        }
        _ => false,
    })
}
