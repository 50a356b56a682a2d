//! The files that a scenario names.

use camino::Utf8Path;

use super::problems::{Problems, Resolved};
use crate::scenario::plan::Fixture;

/// Finds a file that a scenario names; none where there is no such file.
pub type Fixtures<'a> = dyn Fn(&Utf8Path) -> Option<Fixture> + 'a;

/// The file that is named; `what` it is, for the message.
pub(super) fn resolve(
    what: &str,
    path: &Utf8Path,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<Fixture> {
    fixtures(path).ok_or_else(|| {
        problems.report(
            format!("{what} file `{path}` is nowhere"),
            "paths are looked up beside the scenario file, then from the folder that holds `fixtures/`, then among the built-in ones",
        )
    })
}
