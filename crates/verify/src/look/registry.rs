//! What the registry has.

use std::collections::BTreeSet;

use super::Systems;
use crate::{
    decode::settings::Converter,
    observation::{GroupVersion, Observation, RegistryView},
};
use cdc_engine::backup::{BackupError, parts::registry::capture_where};
use cdc_model::units::SchemaId;
use cdc_pipeline::client::registry::GroupArtifact;

/// Whether records depend on the registry: a connector writes Avro, or leaves it to its worker and has written ids.
pub(super) fn uses_registry(seen: &Observation) -> bool {
    let converters = || seen.connectors.iter().flat_map(|c| [c.settings.key, c.settings.value]);
    converters().any(Converter::is_avro) || (converters().any(|c| c == Converter::Worker) && seen.has_schema_ids())
}

/// The registry's subjects that begin with `prefix`, soft-deleted versions included; all when it is empty.
pub async fn registry(systems: &Systems, prefix: &str) -> Result<RegistryView, BackupError> {
    registry_behind(systems, prefix, &Observation::default()).await
}

/// The same, and the schemas of the registry's other groups that records were written with.
pub(super) async fn registry_behind(
    systems: &Systems,
    prefix: &str,
    seen: &Observation,
) -> Result<RegistryView, BackupError> {
    let dump = capture_where(&systems.registry, |subject| subject.as_str().starts_with(prefix)).await?;
    let mut view = RegistryView::from(&dump);
    let used = seen.topics.values().flat_map(|fold| &fold.partitions).flat_map(|p| p.ids.keys().map(|(_, id)| *id));
    let strange: BTreeSet<SchemaId> = used.filter(|id| view.text(*id).is_none()).collect();
    for id in strange {
        let Some(found) = systems.registry.in_another_group(id, &dump.id_kind).await? else { continue };
        let Some(schema) = systems.registry.schema(id).await? else { continue };
        let GroupArtifact { group, artifact, version } = found;
        view.elsewhere.insert(id, GroupVersion { group, artifact, version, schema });
    }
    Ok(view)
}
