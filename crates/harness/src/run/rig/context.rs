//! What all drills of a run have in common.

use std::sync::Arc;

use camino::Utf8PathBuf;

use super::{Census, Servers};
use crate::stack::Backend;
use cdc_model::units::{DrillId, RunId};

/// What all drills of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The run.
    pub run: RunId,
    /// Where drills put their data.
    pub work: Utf8PathBuf,
    /// The run's report folder.
    pub report: Utf8PathBuf,
    /// Whether everything is kept, whatever the verdict.
    pub keep: bool,
    /// Where servers run.
    pub backend: Arc<dyn Backend>,
    /// The shared servers; none when isolated.
    pub servers: Option<Arc<Servers>>,
    /// Every stack there is, for measuring memory.
    pub census: Census,
}

impl Context {
    /// The file that a drill's chronicle is kept in.
    pub(crate) fn chronicle_of(&self, drill: &DrillId) -> Utf8PathBuf {
        self.report.join("drills").join(drill.as_str()).join("chronicle.json")
    }

    /// Where drills put their servers' logs.
    pub(crate) fn logs(&self) -> Utf8PathBuf {
        self.report.join("logs")
    }
}
