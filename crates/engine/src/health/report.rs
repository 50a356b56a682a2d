//! What `status` prints.

use serde::Serialize;

use super::{
    judge::{Judgement, Obstacle, Recoverable, judge},
    metrics::{Sample, samples},
    seen::{LastRto, Seen, Window},
};
use cdc_model::{event::ObjectiveReport, units::Exit};

/// How a pipeline stands.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Whether a recovery would bring it back now, as far as can be told without one.
    pub recoverable: Recoverable,
    /// What the command exits with.
    pub exit_code: u8,
    /// What it could go back to; null where that is nothing, or not known.
    pub window: Option<Window>,
    /// How long a recovery was last measured to take; null where none was.
    pub rto: Option<LastRto>,
    /// How much time of changes would be lost at most, were the source gone now; null where that is not known.
    pub rpo_seconds: Option<f64>,
    /// What was promised of the two, and kept or not.
    pub objectives: Vec<ObjectiveReport>,
    /// What stands in the way, the worst first.
    pub obstacles: Vec<Obstacle>,
    /// Everything that this was told by.
    pub seen: Seen,
    /// The same in numbers.
    pub metrics: Vec<Sample>,
}

impl Health {
    /// Judges what was seen.
    pub fn of(seen: Seen) -> Health {
        let Judgement { recoverable, exit, obstacles, rto, rpo_seconds, objectives } = judge(&seen);
        let window = seen.holdings.get().and_then(Option::as_ref).and_then(|holdings| holdings.window.clone());
        let metrics = samples(&seen, recoverable, &obstacles, rto.as_ref());
        Health { recoverable, exit_code: exit.code(), window, rto, rpo_seconds, objectives, obstacles, seen, metrics }
    }

    /// What the command exits with.
    pub fn exit(&self) -> Exit {
        Exit::from_code(self.exit_code).unwrap_or(Exit::Internal)
    }
}
