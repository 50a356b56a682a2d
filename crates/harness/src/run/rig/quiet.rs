//! Waiting until everything committed so far is in its topic.

use futures::future;

use super::Pipeline;
use crate::run::{RunError, chronicle::Source};
use cdc_model::units::RunId;
use cdc_pipeline::client::limits;
use cdc_verify::{
    look::{self, Marker, Systems},
    observation::{ConnectorView, Quiet},
};
use cdc_workload as workload;

/// Waits until everything committed so far is in its topic. An error says which marker did not arrive.
pub(crate) async fn quiesce(pipeline: &Pipeline, run: &RunId) -> Result<String, RunError> {
    let systems = Systems::new(&pipeline.config)?;
    let (views, _) = look::connectors(&systems, &pipeline.layout.connectors()).await?;
    let mut passed = Vec::new();
    for quiet in quieted(pipeline, run, &systems, &views, "quiesce").await? {
        match quiet.reached {
            Ok(()) => passed.push(quiet.lsn.to_string()),
            Err(interrupted) => return Err(RunError::NotQuiet { seen: interrupted.seen }),
        }
    }
    Ok(match passed.is_empty() {
        true => "no connector".into(),
        false => format!("marker read, stored offset past {}", passed.join(", ")),
    })
}

/// Places a marker for each connector and waits until each has delivered its own, and is past it: a connector tells by
/// nothing but its own tables how far it has come.
pub(crate) async fn quieted(
    pipeline: &Pipeline,
    run: &RunId,
    systems: &Systems,
    views: &[ConnectorView],
    note: &str,
) -> Result<Vec<Quiet>, RunError> {
    let mut markers = Vec::new();
    for source in &pipeline.layout.sources {
        let marker = place(pipeline, run, source, systems, note).await?;
        markers.extend(views.iter().find(|v| v.settings.name == source.name).map(|view| (view, marker)));
    }
    let waits =
        markers.iter().map(|(view, m)| look::quiesce(systems, &view.settings, m, limits::connectors::MARKER_STALLED));
    Ok(future::join_all(waits).await)
}

/// Commits a marker row for a connector; where things stood is noted first.
pub(crate) async fn place(
    pipeline: &Pipeline,
    run: &RunId,
    source: &Source,
    systems: &Systems,
    note: &str,
) -> Result<Marker, RunError> {
    let table = source.markers.clone();
    let topic = source.topic(&table);
    let token = format!("{run}-{}-{note}-{}", source.name, jiff::Timestamp::now().as_nanosecond());
    let marker = Marker::prepare(systems, table.clone(), topic, token.clone()).await?;
    workload::place_marker(&pipeline.sql().await?, &table, note, &token).await?;
    Ok(marker)
}
