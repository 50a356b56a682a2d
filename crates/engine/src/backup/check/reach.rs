//! What can be recovered by replay from a point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::Survey;
use crate::backup::{
    BackupError, PostgresFacts,
    wal::{Archive, Held},
};
use cdc_model::units::{Lsn, PointId, Timeline};
use cdc_postgres::wal::{SegmentName, TimelineHistory, WalFile};

/// A stretch that a recovery from a point can end in, along one timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The point.
    pub point: PointId,
    /// The timeline.
    pub timeline: Timeline,
    /// The earliest position: there the point is consistent.
    pub from: Lsn,
    /// The first position that cannot be reached: the end of what is archived, or a hole.
    pub to: Lsn,
    /// The first segment that is missing or damaged, where whole ones follow.
    pub hole: Option<String>,
}

/// What can be reached as far as the names of the archived files say: nothing is read but the histories of timelines.
pub(in crate::backup) fn reach_by_names(
    points: &[(PointId, &PostgresFacts)],
    archive: &Archive,
    files: &[Held],
) -> Result<Vec<Reach>, BackupError> {
    let survey = Survey::by_names(files)?;
    let mut found = Vec::new();
    for (point, pg) in points {
        found.extend(reach(point, pg, archive, &survey)?);
    }
    Ok(found)
}

/// From a point along each timeline that leads on from its own.
pub(super) fn reach(
    point: &PointId,
    pg: &PostgresFacts,
    archive: &Archive,
    survey: &Survey,
) -> Result<Vec<Reach>, BackupError> {
    let Some(size) = survey.size else { return Ok(Vec::new()) };
    let mut histories: BTreeMap<Timeline, TimelineHistory> = BTreeMap::new();
    for timeline in survey.timelines() {
        // Who has no identity knows no other histories than that of the first timeline.
        let readable = survey.intact.contains(&WalFile::History(timeline)) && archive.can_be_read()?;
        let whole = timeline == Timeline::FIRST || readable;
        if whole {
            histories.insert(timeline, archive.history(timeline)?);
        }
    }
    let mut found = Vec::new();
    for (timeline, history) in &histories {
        // One that left the point's timeline before the point does not lead on from it.
        if history.owner(pg.stop_lsn) != pg.timeline {
            continue;
        }
        let line = history.newest_first();
        let has = |number: u64| {
            let last = Lsn(size.start(number + 1).0 - 1);
            let oldest = history.owner(last);
            line.iter()
                .filter(|(t, begin)| *t >= oldest && size.segment_of(*begin) <= number)
                .any(|(t, _)| survey.intact.contains(&WalFile::Segment(SegmentName::new(*t, number, size))))
        };
        let mut number = size.segment_before(pg.stop_lsn);
        while has(number) {
            number += 1;
        }
        let later = survey.segments(*timeline).next_back().and_then(|name| name.number(size));
        let hole = later.is_some_and(|last| last > number);
        found.push(Reach {
            point: point.clone(),
            timeline: *timeline,
            from: pg.stop_lsn,
            to: size.start(number),
            hole: hole.then(|| SegmentName::new(history.owner(size.start(number)), number, size).to_string()),
        });
    }
    Ok(found)
}
