//! What a drill left, once the writers rest.

use std::collections::BTreeMap;

use super::probes::probes;
use crate::{
    run::{
        Known, RunError,
        chronicle::{Source, TOKEN_COLUMN},
        rig::{Pipeline, Rig, place, quieted},
    },
    scenario::GroupReset,
};
use cdc_model::units::TopicPartition;
use cdc_pipeline::client::{
    group::{Consumed, OffsetReset},
    limits,
};
use cdc_verify::{
    Observation,
    look::{self, LookOptions, Observer, Systems},
};

/// Marker, wait, everything once; then a canary and the registry's probes.
pub(crate) async fn observed(rig: &Rig, known: Known<'_>) -> Result<Observation, RunError> {
    let (pipeline, layout) = (&rig.pipeline, known.layout());
    let systems = &Systems::new(&pipeline.config)?;
    let options = LookOptions {
        connectors: layout.connectors(),
        at_rest: true,
        token_column: Some(TOKEN_COLUMN.to_owned()),
        groups: known.chronicle.groups().into_keys().map(str::to_owned).collect(),
        subject_prefix: layout.subject_prefix(),
    };
    let mut observer = Observer::new(systems, options).await?;
    let quiet = quieted(pipeline, &rig.run, systems, &observer.seen().connectors, "end").await?;
    observer.look().await?;
    let mut seen = Observation { quiet, ..observer.into_seen() };
    seen.consumed = consumed(known, systems, &seen).await?;
    // Where the marker did not arrive a canary will not either: waiting for it again would only cost time.
    let works = |source: &&Source| {
        let quiet = seen.quiet.iter().find(|q| q.table == source.markers);
        quiet.is_some_and(|q| q.reached.is_ok())
    };
    for source in layout.sources.iter().filter(works) {
        let view = seen.connectors.iter().find(|v| v.settings.name == source.name);
        let Some(settings) = view.map(|view| view.settings.clone()) else { continue };
        let canary = place(pipeline, &rig.run, source, systems, "canary").await?;
        let standstill = limits::connectors::CANARY_STALLED;
        seen.canaries.push(look::arrival(systems, &settings, &canary, standstill).await);
    }
    for topic in layout.schema_histories() {
        seen.histories.extend(pipeline.history(&topic).await?.map(|records| (topic.clone(), records)));
    }
    for (topic, _) in known.chronicle.held() {
        seen.held.insert(topic.to_owned(), look::held(systems, topic).await?);
    }
    seen.probes = probes(pipeline, known, &seen).await;
    seen.leftovers = leftovers(pipeline).await?;
    Ok(seen)
}

/// What a consumer of each group is given that is started now, with everything at rest.
async fn consumed(
    known: Known<'_>,
    systems: &Systems,
    seen: &Observation,
) -> Result<BTreeMap<String, BTreeMap<TopicPartition, Consumed>>, RunError> {
    let topics: Vec<String> = seen.specs.keys().cloned().collect();
    let mut consumed = BTreeMap::new();
    for (group, made) in known.chronicle.groups().into_iter().filter(|_| !topics.is_empty()) {
        let given = systems.kafka.consume_as(group, offset_reset(made.reset), &topics).await?;
        consumed.insert(group.to_owned(), given);
    }
    Ok(consumed)
}

/// The language's word in the client's.
fn offset_reset(reset: GroupReset) -> OffsetReset {
    match reset {
        GroupReset::Latest => OffsetReset::Latest,
        GroupReset::Earliest => OffsetReset::Earliest,
    }
}

/// What must not be there any more once the drill's recovery is over.
async fn leftovers(pipeline: &Pipeline) -> Result<Vec<String>, RunError> {
    let mut left = Vec::new();
    let db = pipeline.sql().await?;
    let setting = "select name || ' = ' || setting from pg_settings where name like 'recovery_target%' and setting <> '' \
                   and name not in ('recovery_target_action', 'recovery_target_inclusive', 'recovery_target_timeline')";
    for row in db.texts(setting).await? {
        left.extend(row.into_iter().flatten());
    }
    if db.text("show zero_damaged_pages").await?.as_deref() == Some("on") {
        left.push("zero_damaged_pages = on".into());
    }
    Ok(left)
}
