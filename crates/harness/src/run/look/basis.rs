//! What the recovery point holds that a drill is judged by.

use crate::run::{
    RunError,
    chronicle::{Basis, Chronicle, Fact},
    rig::Pipeline,
};
use cdc_engine::backup::{PointSelector, Repository};
use cdc_verify::PointView;

/// Reads the recovery point that the drill is judged by, where it is one.
pub(crate) fn basis(pipeline: &Pipeline, chronicle: &Chronicle) -> Result<Option<Fact>, RunError> {
    let Some(Basis::Point(id)) = chronicle.basis() else { return Ok(None) };
    let repository = Repository::of(&pipeline.config.repository)?;
    let view = PointView::load(&repository.point(&PointSelector::Id(id.clone()))?)?;
    Ok(Some(Fact::PointRead { point: id.clone(), view }))
}
