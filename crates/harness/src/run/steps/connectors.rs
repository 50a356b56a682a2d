//! Stopping, starting and restarting all connectors of a drill.

use crate::run::{
    RunError,
    rig::{Pipeline, settled},
};
use cdc_pipeline::client::limits;

/// Stops them.
pub(super) async fn stop(pipeline: &Pipeline) -> Result<String, RunError> {
    for name in pipeline.layout.connectors() {
        pipeline.connect().stopped(&name, limits::connectors::STOPPED).await?;
    }
    Ok("STOPPED, no tasks".to_owned())
}

/// Starts them, and waits until each streams or has failed.
pub(super) async fn start(pipeline: &Pipeline) -> Result<String, RunError> {
    for name in pipeline.layout.connectors() {
        pipeline.connect().resume(&name).await?;
    }
    settled(pipeline).await
}

/// Restarts them, and waits likewise.
pub(super) async fn restart(pipeline: &Pipeline) -> Result<String, RunError> {
    for name in pipeline.layout.connectors() {
        pipeline.connect().restart(&name).await?;
    }
    settled(pipeline).await
}
