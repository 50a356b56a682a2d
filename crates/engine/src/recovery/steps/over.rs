//! What the shared steps need of a playbook's state.

use crate::{
    backup::Point,
    recovery::{RecoveryError, pipeline::Pipeline, step::GoesOn},
};
use cdc_model::units::{Offset, TopicPartition};

/// A state with a pipeline around it.
pub trait OverPipeline: GoesOn + Send + Sync + 'static {
    /// The pipeline.
    fn pipeline(&self) -> &Pipeline;

    /// The recovery point, where there is one.
    fn point(&self) -> Option<&Point>;

    /// Writes down where the data topics ended when the connectors were resumed.
    fn keep_cut(&mut self, ends: Vec<(TopicPartition, Offset)>) -> Result<(), RecoveryError>;
}
