//! Everything of a drill that lives.

use super::{Pipeline, Writers};
use crate::{fault::FaultGuard, run::Emitter};
use cdc_model::units::{DrillId, RunId};

/// A drill's pipeline, its writers, the means of its faults, and where its events go.
pub(crate) struct Rig {
    /// The run: tokens begin with it.
    pub run: RunId,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What writes to it.
    pub writers: Writers,
    /// The faults whose means have to be undone, in the order in which they were injected.
    pub guards: Vec<FaultGuard>,
    /// Where events go.
    pub emit: Emitter,
}

impl Rig {
    /// Undoes the means of the faults, in reverse order, and stops the writers: on every way out. What fails in that is logged and
    /// changes no verdict.
    pub(crate) async fn heal(&mut self, drill: &DrillId) {
        while let Some(guard) = self.guards.pop() {
            if let Err(error) = guard.heal().await {
                tracing::warn!(%drill, %error, "healing a fault");
            }
        }
        if let Err(error) = self.writers.stop_hammer().await {
            tracing::warn!(%drill, %error, "stopping the writers");
        }
    }
}
