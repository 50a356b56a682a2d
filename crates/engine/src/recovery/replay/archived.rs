//! The archived WAL that a replay reads.

use crate::{
    backup::{Point, wal::Archive},
    recovery::{Progress, RecoveryError, Watch, target::Aim},
};
use cdc_model::units::Lsn;
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile};

/// Compares archived segments that replay reads with their checksums, from one position to another or to the end of what is archived
/// now; the position up to which they were.
pub(crate) async fn check_archived(
    archive: &Archive,
    point: &Point,
    aim: &Aim,
    size: SegmentSize,
    (from, to): (Lsn, Option<Lsn>),
    watch: Watch,
) -> Result<Lsn, RecoveryError> {
    archive.drain()?;
    let history = aim.history.clone();
    let (stop, oldest) = (point.postgres()?.stop_lsn, point.postgres()?.timeline);
    let end = match to {
        Some(to) => to,
        None => {
            let last = archive.segments(aim.timeline)?.last().copied();
            let archived = last.and_then(|name| name.start(size)).map(|start| Lsn(start.0 + size.bytes()));
            // Of a timeline that has just begun nothing may be archived; what leads to it is.
            archived.unwrap_or(stop).max(history.begin())
        }
    };
    let end = end.max(stop);
    let archive = archive.clone();
    blocking(move || {
        // What is not archived is with the server or in the salvage folder.
        let segments = archive.required(&history, size, from, end)?.into_iter().filter_map(|(_, name)| name);
        // A replay asks for the histories from its own timeline to the target's, and for all later ones, to find a free number.
        let later = archive.history_files()?.into_keys().filter(|timeline| *timeline >= oldest);
        let files = later.map(WalFile::History).chain(segments.map(WalFile::Segment));
        let wanted = archive.find_all(files)?;
        let total = wanted.iter().map(|held| held.size).sum();
        let mut done = 0;
        for held in &wanted {
            held.check_stored()?;
            done += held.size;
            watch.tell(Progress::Bytes { what: "archived WAL".into(), done, total });
        }
        Ok(end)
    })
    .await
}

/// Archived segments that replay from a point on may ask for.
pub(crate) fn archived_since(
    archive: &Archive,
    point: &Point,
    size: SegmentSize,
) -> Result<Vec<SegmentName>, RecoveryError> {
    let first = size.segment_of(point.postgres()?.start_lsn);
    let mut names = Vec::new();
    for timeline in archive.timelines()? {
        let segments = archive.segments(timeline)?.into_iter();
        names.extend(segments.filter(|name| name.number(size).is_some_and(|n| n >= first)));
    }
    Ok(names)
}

/// Work on files, beside the threads that wait for answers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecoveryError> + Send + 'static,
) -> Result<T, RecoveryError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|e| RecoveryError::Program { program: "prepare".into(), detail: e.to_string() })?
}
