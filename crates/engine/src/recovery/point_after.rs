//! The recovery point that may follow a coordinated recovery: points that were there lead to the new timeline only through its history.

use serde::Serialize;

use crate::backup::{self, CreateOptions};
use cdc_model::{
    event::CheckReport,
    units::{PointId, Timeline},
};
use cdc_pipeline::config::{Config, PointAfter};

const CHECK: &str = "point-after";

/// The point that a recovery took when it had ended, or why it has none.
#[derive(Clone, Debug, Serialize)]
pub struct NewPoint {
    /// The point; null where none could be taken.
    pub point: Option<PointId>,
    /// Inconclusive where none could be taken: the recovery itself stands.
    #[serde(flatten)]
    pub check: CheckReport,
}

/// Takes a recovery point where `[recovery] point = "take"` and a server was restored, which is on this timeline now; nothing otherwise. The
/// recovery must have been concluded: no point is taken beside an unfinished one.
pub async fn point_after(config: &Config, timeline: Option<Timeline>) -> Option<NewPoint> {
    let timeline = timeline?;
    if config.recovery.point == PointAfter::Suggest {
        return None;
    }
    Some(match backup::create(config, &CreateOptions::default(), &|_| {}).await {
        Ok(created) => {
            let mut notes = vec![format!("recovery point {} of timeline {timeline} was taken", created.point())];
            notes.extend(created.notes.iter().cloned());
            NewPoint { point: Some(created.point().clone()), check: CheckReport::new(CHECK, 1, notes, Vec::new()) }
        }
        Err(error) => {
            let why =
                format!("no recovery point of timeline {timeline} could be taken, `backup create` takes one: {error}");
            NewPoint { point: None, check: CheckReport::inconclusive(CHECK, why) }
        }
    })
}
