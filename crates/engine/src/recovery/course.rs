//! Which steps a recovery is made of, for those of them whose pre- and postconditions depend on others: what was never stopped need
//! not stand still, and what was not emptied is not empty.

use super::step::Step;

/// The names of the steps that are taken, decided where the procedure is composed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course(Vec<&'static str>);

impl Course {
    /// That of these steps.
    pub(super) fn of<C>(steps: &[Step<C>]) -> Course {
        Course(steps.iter().map(|step| step.info.id).collect())
    }

    fn contains(&self, step: &str) -> bool {
        self.0.contains(&step)
    }

    /// Whether a data folder is made and checked before anything stops.
    pub(super) fn prepares(&self) -> bool {
        self.contains("prepare")
    }

    /// Whether the connectors are at rest meanwhile.
    pub(super) fn stops_connectors(&self) -> bool {
        self.contains("stop-connectors")
    }

    /// Whether the old server is down before its WAL is read.
    pub(super) fn fences(&self) -> bool {
        self.contains("fence")
    }

    /// Whether the data topics begin empty.
    pub(super) fn empties_topics(&self) -> bool {
        self.contains("delete-topics")
    }

    /// Whether the connectors begin with a full snapshot, so that one can be waited for: without a stored offset, and in a mode that
    /// takes one.
    pub(super) fn takes_snapshots(&self) -> bool {
        self.contains("delete-offsets") && self.contains("force-snapshot")
    }

    /// Whether the connectors run in the end, as far as they were found running.
    pub(super) fn resumes(&self) -> bool {
        self.contains("resume")
    }
}
