//! What is wrong between registry, records and source, and which repair follows.

use std::collections::BTreeSet;

use super::{
    blocked::blocked,
    found::{SchemaPlan, Wrong},
    in_place::repairable_in_place,
    merge::{Merged, differences, merge},
    records::{described, wrong_records},
    steps, store, undo,
};
use crate::{
    backup::parts::registry::{Dump, capture},
    recovery::{
        RecoveryError,
        pipeline::Source,
        repair::{Repair, Table},
        server::Control,
    },
};
use cdc_model::vocabulary::OnConflict;
use cdc_pipeline::{client::registry::Registry, config::RegistryFlavour};

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
        if registry.flavour() == RegistryFlavour::Confluent {
            return Err(RecoveryError::impossible(
                "[registry] flavour",
                "a registry whose store can be filled anew",
                "one with Confluent's API alone",
                "`restore registry` brings back what it lost, where its ids are free",
            ));
        }
        if !repairable_in_place(&schema, &damage) {
            Control::of(&repair.pipeline.config, "registry")?;
            store::storage_of(&repair.pipeline.config)?;
            store::archive_of(&schema.wanted)?;
        }
        repair.schema.change(|plan| *plan = Some(schema))?;
        repair.choose_affected();
        repair.pipeline.refuse_shared()?;
        repair.pipeline.refuse_active()?;
        return Ok(&steps::DAMAGE);
    }
    if blocked.is_empty() {
        repair.findings.push(
            "registry: equals the recovery point, with what was registered since; no connector is blocked".into(),
        );
        repair.schema.change(|plan| *plan = Some(schema))?;
        return Ok(&steps::SOUND);
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
            Ok(&steps::REJECT)
        }
        OnConflict::Accept => Ok(&steps::ACCEPT),
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
